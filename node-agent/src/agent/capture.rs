//! What it takes to capture one pod: namespace, certificate, proxy, kernel; in this
//! order, and undone in the reverse one.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use weft_model::SpiffeId;
use weft_model::workload::{Workload, WorkloadUid};
use weft_node_agent::netns::{NamespaceIdentity, NetworkNamespace};
use weft_node_agent::pod_sockets::PodSockets;
use weft_node_agent::redirect::{
    CapturedPod, ListenerPair, PodCapture, PodListeners, Redirect, RedirectError,
};
use weft_proxy::PodProxy;
use weft_proxy::identity::IdentityInUse;
use weft_proxy::listen::Listener;
use weft_proxy::runtime::Runtime;

use super::namespaces::{Claim, NamespaceError, Namespaces, Place};
use super::table::PodTable;

/// How long a pod's first certificate may take before that counts as a failure.
const CERTIFICATE_PATIENCE: Duration = Duration::from_secs(5);

/// How long after its capture has ended a proxy still takes connections: those that
/// the kernel had steered to it but not finished setting up.
const ACCEPT_QUEUE: Duration = Duration::from_millis(200);

/// How long the connections of a pod may take to end whose namespace is gone: they
/// keep it, and its devices, alive.
const NAMESPACE_GONE: Duration = Duration::from_secs(1);

/// Why a pod isn't captured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error("can't read the addresses of the pod's network namespace: {0}")]
    Addresses(std::io::Error),
    #[error("the pod's network namespace has no address yet")]
    NoAddress,
    #[error("no certificate for {identity}: {reason}")]
    Certificate { identity: SpiffeId, reason: String },
    #[error("can't listen in the pod's network namespace: {0}")]
    Proxy(std::io::Error),
    #[error(transparent)]
    Redirect(#[from] RedirectError),
}

impl CaptureError {
    /// Nothing that anybody needs to hear of: it is over in a moment.
    pub(crate) fn is_momentary(&self) -> bool {
        matches!(self, Self::Namespace(NamespaceError::Ending))
    }
}

/// Everything that capturing pods takes, for the whole node.
#[derive(Debug)]
pub(crate) struct Capturer {
    pub(crate) redirect: Redirect,
    pub(crate) runtime: Runtime,
    pub(crate) namespaces: Arc<Namespaces>,
    pub(crate) table: PodTable,
    pub(crate) drain_deadline: Duration,
    /// What is attached outlives the agent.
    pub(crate) pinned: bool,
    /// How many proxies of released pods still wait for their connections to end.
    pub(crate) draining: watch::Sender<usize>,
    /// Told whenever a pod's task has ended.
    pub(crate) ended: Notify,
}

/// A captured pod. The order of the fields is the order in which they are dropped.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) workload: Arc<Workload>,
    kernel: CapturedPod,
    proxy: PodProxy,
    sockets: Arc<PodSockets>,
    /// Keeps the certificate alive.
    identity: Arc<IdentityInUse>,
    /// Keeps the namespace to this pod.
    claim: Claim,
}

impl Captured {
    pub(crate) fn namespace(&self) -> NamespaceIdentity {
        self.sockets.namespace().identity()
    }

    /// Applies another mode, other exclusions or addresses.
    ///
    /// # Errors
    /// When the kernel refuses; the pod then stays captured in its previous form.
    pub(crate) fn update(&mut self, workload: &Arc<Workload>) -> Result<(), CaptureError> {
        let workload = with_addresses(workload, self.sockets.namespace())?;
        self.kernel
            .update(&request(&workload, self.sockets.namespace(), &self.proxy))?;
        self.workload = workload;
        Ok(())
    }

    /// Lets the pod's own new connections go out directly.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn stop_outbound(&mut self) -> Result<(), CaptureError> {
        Ok(self.kernel.stop_outbound()?)
    }
}

impl Capturer {
    /// Starts to use an identity, so that its certificate is there when it is needed.
    pub(crate) fn use_identity(&self, identity: &SpiffeId) -> Arc<IdentityInUse> {
        Arc::new(self.runtime.certificates.use_identity(identity))
    }

    /// Takes a pod in. Whatever fails, or when this is cancelled, nothing stays.
    ///
    /// # Errors
    /// When any part of it fails; the message says which and why.
    pub(crate) async fn capture(
        &self,
        workload: &Arc<Workload>,
        found: NamespaceIdentity,
        identity: Arc<IdentityInUse>,
    ) -> Result<Captured, CaptureError> {
        let place = Place::of(workload);
        let claim = self.namespaces.claim(&place, found, &workload.uid)?;
        let namespace = self.namespaces.open(&place, found)?;
        let workload = &with_addresses(workload, &namespace)?;
        self.await_certificate(workload, &identity).await?;
        let sockets = Arc::new(PodSockets::new(namespace, self.redirect.sockets()));
        let shared = Arc::clone(&sockets);
        let proxy = self.runtime.start_pod(Arc::clone(workload), shared);
        let proxy = proxy.map_err(CaptureError::Proxy)?;
        let kernel = self
            .redirect
            .capture(&request(workload, sockets.namespace(), &proxy))?;
        Ok(Captured {
            workload: Arc::clone(workload),
            kernel,
            proxy,
            sockets,
            identity,
            claim,
        })
    }

    async fn await_certificate(
        &self,
        workload: &Workload,
        identity: &IdentityInUse,
    ) -> Result<(), CaptureError> {
        match tokio::time::timeout(CERTIFICATE_PATIENCE, identity.certificate()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(CaptureError::Certificate {
                identity: workload.identity.clone(),
                reason: identity
                    .last_error()
                    .unwrap_or_else(|| "the control plane has not answered yet".to_owned()),
            }),
        }
    }

    /// Stops capturing a pod; its open connections may end in their own time.
    pub(crate) fn release(self: &Arc<Self>, pod: Captured) {
        self.end(pod, ACCEPT_QUEUE, |workload, kernel| {
            if let Err(error) = kernel.release() {
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

    /// Stops serving a pod whose connections the kernel goes on to hand to nobody,
    /// and thereby to refuse, until the next agent takes it over.
    pub(crate) fn leave_enforced(self: &Arc<Self>, pod: Captured) {
        self.end(pod, Duration::ZERO, |workload, kernel| {
            kernel.leave_enforced();
            tracing::info!(
                target: "agent",
                pod = %workload.name,
                namespace = workload.namespace(),
                "strict: left captured, to be refused until the next agent comes",
            );
        });
    }

    /// Undoes the kernel's part by `part`, and lets the proxy end.
    fn end(
        self: &Arc<Self>,
        pod: Captured,
        accept_for: Duration,
        part: impl FnOnce(&Workload, CapturedPod),
    ) {
        let Captured {
            workload,
            kernel,
            proxy,
            sockets,
            identity,
            claim,
        } = pod;
        part(&workload, kernel);
        let current = self.namespaces.find(&Place::of(&workload));
        let deadline = match current == Some(sockets.namespace().identity()) {
            true => self.drain_deadline,
            false => self.drain_deadline.min(NAMESPACE_GONE),
        };
        self.draining.send_modify(|count| *count += 1);
        let capturer = Arc::clone(self);
        tokio::spawn(async move {
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
            capturer.draining.send_modify(|count| *count -= 1);
        });
    }

    /// Tells the kernel that a pod of this node is to be left alone.
    ///
    /// # Errors
    /// When its namespace can't be opened or the kernel refuses.
    pub(crate) fn know_outside(
        &self,
        workload: &Workload,
        found: NamespaceIdentity,
    ) -> Result<NetworkNamespace, CaptureError> {
        let place = Place::of(workload);
        self.namespaces.check(&place, found, &workload.uid)?;
        let namespace = self.namespaces.open(&place, found)?;
        self.redirect.know_outside(&namespace)?;
        Ok(namespace)
    }

    /// Takes back [`Self::know_outside`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn forget_outside(&self, namespace: &NetworkNamespace) -> Result<(), CaptureError> {
        Ok(self.redirect.forget(namespace)?)
    }

    /// Forgets everything about a pod that is gone.
    pub(crate) fn forget_pod(&self, pod: &WorkloadUid) {
        self.runtime.captures.release(pod);
        self.table.remove(pod);
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

fn request<'a>(
    workload: &'a Workload,
    namespace: &'a NetworkNamespace,
    proxy: &'a PodProxy,
) -> PodCapture<'a> {
    let listeners = proxy.listeners();
    PodCapture {
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
