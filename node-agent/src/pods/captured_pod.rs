//! A captured pod: claimed namespace, certificate, proxy, kernel; taken in in this order, and
//! let go in the reverse one.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use weft_model::workload::{RefusedConnections, Workload};
use weft_proxy::PodProxy;
use weft_proxy::identity::IdentityInUse;
use weft_proxy::listen::Listener;

use super::addressed_workload::{AddressedWorkload, has_kernel_sockets};
use super::claimed_pod::ClaimedPod;
use super::context::NodeContext;
use super::error::CaptureError;
use super::held::HoldingGuard;
use super::state::{EnrolledAs, InNamespace};
use crate::namespaces::{NamespaceClaim, NamespaceIdentity, NamespaceLocation, NetworkNamespace};
use crate::pod_sockets::PodSockets;
use crate::redirect::{
    ListenerPair, PodAddresses, PodListeners, PodRedirect, PodRedirectConfig, RedirectError,
};

/// The time that a pod's first certificate may take before that counts as a failure.
const CERTIFICATE_TIMEOUT: Duration = Duration::from_secs(5);

/// The time that a connection may take from the pod to its proxy, by which its capture is tried
/// out: it takes less than a millisecond unless the machine is overloaded.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The time for which a proxy still takes connections after its capture has ended: those
/// that the kernel had steered to it but not finished setting up.
const ACCEPT_GRACE: Duration = Duration::from_millis(200);

/// The time that the connections of a pod may take to end whose namespace is gone: they
/// keep it, and its devices, alive.
const GONE_NAMESPACE_DRAIN: Duration = Duration::from_secs(1);

/// A captured pod. The order of the fields is the order in which they are dropped.
#[derive(Debug)]
pub(crate) struct CapturedPod {
    /// The pod in the form in which it is captured.
    workload: Arc<Workload>,
    redirect: PodRedirect,
    /// Its applications are answered.
    holding: HoldingGuard,
    proxy: PodProxy,
    sockets: Arc<PodSockets>,
    /// Keeps the certificate alive.
    identity: Arc<IdentityInUse>,
    /// Keeps the namespace to this pod.
    claim: NamespaceClaim,
}

impl CapturedPod {
    /// Takes a pod in whose certificate is there. When anything fails the pod is given back,
    /// with whatever was refused before.
    ///
    /// # Errors
    /// When any part of it fails; the message says which and why.
    pub(crate) fn capture(
        node: &NodeContext,
        mut pod: Box<ClaimedPod>,
        workload: &Arc<Workload>,
        identity: Arc<IdentityInUse>,
    ) -> Result<Self, (Box<ClaimedPod>, CaptureError)> {
        let served = match serve(node, &mut pod, workload) {
            Ok(served) => served,
            Err(error) => return Err((pod, error)),
        };
        let ClaimedPod {
            redirect,
            sockets,
            claim,
            ..
        } = *pod;
        let (workload, proxy, holding) = served;
        Ok(Self {
            workload,
            redirect,
            holding,
            proxy,
            sockets,
            identity,
            claim,
        })
    }

    /// Tries the capture out: a connection out of the pod and one into it, of each family, have to
    /// come to the proxy.
    ///
    /// # Errors
    /// When one doesn't; its direction says which.
    pub(crate) async fn verify(&self, node: &NodeContext) -> Result<(), CaptureError> {
        let namespace = self.sockets.namespace();
        let mut attempts = node.holding.hear_of_probes(namespace.cookie());
        // Nothing is claimed by it.
        let addresses = PodAddresses::Found(&self.workload.addresses);
        let config = redirect_config(&self.workload, addresses, namespace, &self.proxy);
        let mut probes = self.redirect.probe(&config).map_err(|(direction, error)| {
            CaptureError::Unverified {
                direction,
                family: "of either family",
                reason: error.to_string(),
            }
        })?;
        let deadline = tokio::time::Instant::now() + PROBE_TIMEOUT;
        while let Some(probe) = probes.first() {
            let Ok(Some(attempt)) = tokio::time::timeout_at(deadline, attempts.recv()).await else {
                return Err(CaptureError::Unverified {
                    direction: probe.direction,
                    family: if probe.is_ipv4() { "IPv4" } else { "IPv6" },
                    reason: format!("nothing has arrived within {PROBE_TIMEOUT:?}"),
                });
            };
            probes.retain(|probe| !probe.is_shown_by(&attempt));
        }
        Ok(())
    }

    /// The pod in the form in which it is captured.
    pub(crate) fn workload(&self) -> &Arc<Workload> {
        &self.workload
    }

    /// Its sockets, in its namespace.
    pub(crate) fn sockets(&self) -> &Arc<PodSockets> {
        &self.sockets
    }

    /// Applies another mode, other exclusions or addresses.
    ///
    /// # Errors
    /// When the kernel refuses; the pod then stays captured in its previous form.
    pub(crate) fn update(&mut self, workload: &Arc<Workload>) -> Result<(), CaptureError> {
        let namespace = self.sockets.namespace();
        let addressed = AddressedWorkload::new(workload, namespace, &self.redirect)?;
        let config = redirect_config(
            &addressed.workload,
            addressed.addresses(),
            namespace,
            &self.proxy,
        );
        self.redirect.update(&config)?;
        self.workload = addressed.workload;
        Ok(())
    }

    /// Lets the pod's own new connections go out directly.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn stop_outbound(&mut self) -> Result<(), CaptureError> {
        Ok(self.redirect.stop_outbound()?)
    }

    /// Stops capturing the pod; its open connections may end in their own time.
    pub(crate) fn release(self, node: &NodeContext) {
        self.end(node, ACCEPT_GRACE, |workload, redirect| {
            if let Err(error) = redirect.release() {
                tracing::error!(
                    target: "agent",
                    pod = %workload.name,
                    namespace = workload.namespace(),
                    %error,
                    "could not take back everything in the kernel",
                );
            }
        });
    }

    /// Stops serving the pod, whose connections the kernel goes on to refuse until the next
    /// agent takes it over.
    pub(crate) fn leave_enforced(self, node: &NodeContext) {
        self.end(node, Duration::ZERO, |workload, redirect| {
            redirect.leave_enforced();
            tracing::info!(
                target: "agent",
                pod = %workload.name,
                namespace = workload.namespace(),
                "left refused until the next agent comes",
            );
        });
    }

    /// Stops serving the pod and refuses its connections until it is captured again: no moment
    /// between is open.
    ///
    /// # Errors
    /// When a part of the refusal can't be done.
    pub(crate) fn fall_back(
        self: Box<Self>,
        node: &NodeContext,
        workload: &Arc<Workload>,
        refused: RefusedConnections,
    ) -> (Box<ClaimedPod>, Result<(), RedirectError>) {
        let Self {
            workload: _,
            redirect,
            holding,
            proxy,
            sockets,
            identity,
            claim,
        } = *self;
        let mut pod = Box::new(ClaimedPod {
            workload: Arc::clone(workload),
            redirect,
            sockets,
            claim,
        });
        let result = pod.enforce(workload, refused);
        drop(holding);
        proxy.stop_accepting();
        let limit = node.settings.drain_deadline;
        let sockets = Arc::clone(&pod.sockets);
        node.drains.spawn(async move {
            proxy.drain(limit).await;
            drop((sockets, identity));
        });
        (pod, result)
    }

    /// Undoes the kernel's part by `undo`, and lets the proxy drain.
    fn end(
        self,
        node: &NodeContext,
        accept_for: Duration,
        undo: impl FnOnce(&Workload, PodRedirect),
    ) {
        let Self {
            workload,
            redirect,
            holding,
            proxy,
            sockets,
            identity,
            claim,
        } = self;
        undo(&workload, redirect);
        drop(holding);
        let location = NamespaceLocation::for_workload(&workload);
        let limit = node.settings.drain_deadline;
        let deadline = match node.namespaces.find(&location) {
            Some(current) if current == sockets.namespace().identity() => limit,
            _ => limit.min(GONE_NAMESPACE_DRAIN),
        };
        let accepting = node.accepting.token();
        node.drains.spawn(async move {
            tokio::time::sleep(accept_for).await;
            proxy.stop_accepting();
            // The ports are free for a successor.
            drop((claim, accepting));
            proxy.drain(deadline).await;
            drop((sockets, identity));
            tracing::info!(
                target: "agent",
                pod = %workload.name,
                namespace = workload.namespace(),
                "its connections have ended",
            );
        });
    }
}

impl InNamespace for Box<CapturedPod> {
    fn namespace(&self) -> NamespaceIdentity {
        self.sockets.namespace().identity()
    }
}

impl EnrolledAs for Box<CapturedPod> {
    fn workload(&self) -> &Workload {
        &self.workload
    }
}

/// Starts the pod's proxy, and has the kernel hand it the pod's connections.
fn serve(
    node: &NodeContext,
    pod: &mut ClaimedPod,
    workload: &Arc<Workload>,
) -> Result<(Arc<Workload>, PodProxy, HoldingGuard), CaptureError> {
    let namespace = pod.sockets.namespace();
    let addressed = AddressedWorkload::new(workload, namespace, &pod.redirect)?;
    let workload = Arc::clone(&addressed.workload);
    let own = namespace.addresses().map_err(CaptureError::Addresses)?;
    if !has_kernel_sockets(&workload.addresses, &own) {
        return Err(CaptureError::Sandboxed);
    }
    let shared = Arc::clone(&pod.sockets);
    let proxy = node.runtime.start_pod(Arc::clone(&workload), shared);
    let proxy = proxy.map_err(CaptureError::Proxy)?;
    let holding = node.holding.insert(proxy.connector(), &pod.sockets);
    let config = redirect_config(
        &addressed.workload,
        addressed.addresses(),
        namespace,
        &proxy,
    );
    pod.redirect.update(&config)?;
    Ok((workload, proxy, holding))
}

/// Waits until the identity has a certificate.
///
/// # Errors
/// When it takes too long; the message says why.
pub(super) async fn await_certificate(
    workload: &Workload,
    identity: &IdentityInUse,
) -> Result<(), CaptureError> {
    match tokio::time::timeout(CERTIFICATE_TIMEOUT, identity.certificate()).await {
        Ok(_) => Ok(()),
        Err(_) => Err(CaptureError::Certificate {
            identity: workload.identity.clone(),
            reason: identity
                .last_error()
                .unwrap_or_else(|| "the control plane has not answered yet".to_owned()),
        }),
    }
}

fn redirect_config<'a>(
    workload: &'a Workload,
    addresses: PodAddresses<'a>,
    namespace: &'a NetworkNamespace,
    proxy: &'a PodProxy,
) -> PodRedirectConfig<'a> {
    let listeners = proxy.listeners();
    PodRedirectConfig {
        namespace,
        addresses,
        exclusions: &workload.exclusions,
        listeners: PodListeners {
            plaintext: pair(&listeners.plaintext),
            hbone: pair(&listeners.hbone),
            outbound: pair(&listeners.outbound),
            holds_outbound: true,
            refuses_closed_ports: true,
        },
        mtls_mode: workload.mtls_mode,
        node_access: &workload.node_access,
        refused_uncaptured: workload.refused_uncaptured(),
    }
}

fn pair(listener: &Listener) -> ListenerPair<'_> {
    ListenerPair {
        v4: listener.v4.as_fd(),
        v6: listener.v6.as_ref().map(AsFd::as_fd),
    }
}
