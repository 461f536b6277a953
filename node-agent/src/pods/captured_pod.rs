//! A captured pod: namespace, certificate, proxy, kernel; taken in in this order, and let go
//! in the reverse one.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use weft_model::workload::Workload;
use weft_proxy::PodProxy;
use weft_proxy::identity::IdentityInUse;
use weft_proxy::listen::Listener;

use super::context::NodeContext;
use super::error::CaptureError;
use super::state::{CapturedAs, InNamespace};
use crate::namespaces::{NamespaceClaim, NamespaceIdentity, NamespaceLocation, NetworkNamespace};
use crate::pod_sockets::PodSockets;
use crate::redirect::{ListenerPair, PodListeners, PodRedirect, PodRedirectConfig};

/// The time that a pod's first certificate may take before that counts as a failure.
const CERTIFICATE_TIMEOUT: Duration = Duration::from_secs(5);

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
    proxy: PodProxy,
    sockets: Arc<PodSockets>,
    /// Keeps the certificate alive.
    identity: Arc<IdentityInUse>,
    /// Keeps the namespace to this pod.
    claim: NamespaceClaim,
}

impl CapturedPod {
    /// Takes a pod in. When anything fails, or this is cancelled, nothing stays.
    ///
    /// # Errors
    /// When any part of it fails; the message says which and why.
    pub(crate) async fn capture(
        node: &NodeContext,
        workload: &Arc<Workload>,
        found: NamespaceIdentity,
        identity: Arc<IdentityInUse>,
    ) -> Result<Self, CaptureError> {
        let location = NamespaceLocation::for_workload(workload);
        let claim = node.namespaces.claim(&location, found, &workload.uid)?;
        let namespace = node.namespaces.open(&location, found)?;
        let workload = with_addresses(workload, &namespace)?;
        await_certificate(&workload, &identity).await?;
        let sockets = Arc::new(PodSockets::new(namespace, node.redirect.sockets()));
        let shared = Arc::clone(&sockets);
        let proxy = node.runtime.start_pod(Arc::clone(&workload), shared);
        let proxy = proxy.map_err(CaptureError::Proxy)?;
        let config = redirect_config(&workload, sockets.namespace(), &proxy);
        let redirect = node.redirect.capture(&config)?;
        Ok(Self {
            workload,
            redirect,
            proxy,
            sockets,
            identity,
            claim,
        })
    }

    /// The pod in the form in which it is captured.
    pub(crate) fn workload(&self) -> &Arc<Workload> {
        &self.workload
    }

    /// Applies another mode, other exclusions or addresses.
    ///
    /// # Errors
    /// When the kernel refuses; the pod then stays captured in its previous form.
    pub(crate) fn update(&mut self, workload: &Arc<Workload>) -> Result<(), CaptureError> {
        let workload = with_addresses(workload, self.sockets.namespace())?;
        let config = redirect_config(&workload, self.sockets.namespace(), &self.proxy);
        self.redirect.update(&config)?;
        self.workload = workload;
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

    /// Stops serving the pod, whose connections the kernel goes on to hand to nobody,
    /// and thereby to refuse, until the next agent takes it over.
    pub(crate) fn leave_enforced(self, node: &NodeContext) {
        self.end(node, Duration::ZERO, |workload, redirect| {
            redirect.leave_enforced();
            tracing::info!(
                target: "agent",
                pod = %workload.name,
                namespace = workload.namespace(),
                "strict: left captured, to be refused until the next agent comes",
            );
        });
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
            proxy,
            sockets,
            identity,
            claim,
        } = self;
        undo(&workload, redirect);
        let location = NamespaceLocation::for_workload(&workload);
        let limit = node.settings.drain_deadline;
        let deadline = match node.namespaces.find(&location) {
            Some(current) if current == sockets.namespace().identity() => limit,
            _ => limit.min(GONE_NAMESPACE_DRAIN),
        };
        node.drains.spawn(async move {
            tokio::time::sleep(accept_for).await;
            proxy.stop_accepting();
            // The ports are free for a successor.
            drop(claim);
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

impl CapturedAs for Box<CapturedPod> {
    fn workload(&self) -> &Workload {
        &self.workload
    }
}

/// Waits until the identity has a certificate.
async fn await_certificate(
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

/// A workload with the addresses that its pod has, where the control plane knows none
/// yet: kubelet tells only after the pod's first container was started.
fn with_addresses(
    workload: &Arc<Workload>,
    namespace: &NetworkNamespace,
) -> Result<Arc<Workload>, CaptureError> {
    if !workload.addresses.is_empty() {
        return Ok(Arc::clone(workload));
    }
    let addresses = namespace.addresses().map_err(CaptureError::Addresses)?;
    if addresses.is_empty() {
        return Err(CaptureError::NoAddress);
    }
    let workload = Workload::clone(workload);
    Ok(Arc::new(Workload {
        addresses,
        ..workload
    }))
}

fn redirect_config<'a>(
    workload: &'a Workload,
    namespace: &'a NetworkNamespace,
    proxy: &'a PodProxy,
) -> PodRedirectConfig<'a> {
    let listeners = proxy.listeners();
    PodRedirectConfig {
        namespace,
        addresses: &workload.addresses,
        exclusions: &workload.exclusions,
        listeners: PodListeners {
            plaintext: pair(&listeners.plaintext),
            hbone: pair(&listeners.hbone),
        },
        mtls_mode: workload.mtls_mode,
    }
}

fn pair(listener: &Listener) -> ListenerPair<'_> {
    ListenerPair {
        v4: listener.v4.as_fd(),
        v6: listener.v6.as_ref().map(AsFd::as_fd),
    }
}
