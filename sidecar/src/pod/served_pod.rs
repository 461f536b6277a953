//! The pod, served: known to be in the mesh, certified, its proxy listening.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use weft_model::workload::{Workload, WorkloadUid};
use weft_proxy::PodProxy;
use weft_proxy::discovery::PodCaptureState;
use weft_proxy::identity::IdentityInUse;
use weft_proxy::runtime::Runtime;

use super::node::gateways;
use super::sockets::PodSockets;
use crate::redirect::Capture;

/// The condition of the sidecar's readiness that the pod is served.
pub(crate) const POD: &str = "pod";
/// Time between two attempts to listen.
const RETRY: Duration = Duration::from_secs(1);
/// Time after which it is said why there is no certificate yet.
const PATIENCE: Duration = Duration::from_secs(5);

/// Addresses that were known from the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownAddresses {
    /// Of the pod.
    pub(crate) pod: Vec<IpAddr>,
    /// Of its node.
    pub(crate) node: Vec<IpAddr>,
}

/// The pod, served.
#[derive(Debug)]
pub(crate) struct ServedPod {
    proxy: PodProxy,
    /// Keeps the certificate alive.
    identity: IdentityInUse,
}

impl ServedPod {
    /// Serves the pod as soon as the control plane knows it to be in the mesh. Until then its
    /// readiness says what is missing.
    pub(crate) async fn start(
        runtime: &Runtime,
        uid: &WorkloadUid,
        known: &KnownAddresses,
        capture: Capture,
    ) -> Self {
        let workload = enrolled(runtime, uid).await;
        let workload = with_addresses(workload, &known.pod);
        let identity = runtime.certificates.use_identity(&workload.identity);
        await_certificate(runtime, &workload, &identity).await;
        let of_node = known.node.iter().copied().chain(gateways()).collect();
        let sockets = PodSockets::new(Arc::clone(&runtime.node), uid.clone(), of_node, capture);
        let sockets = Arc::new(sockets);
        let proxy = loop {
            let sockets = Arc::<PodSockets>::clone(&sockets);
            match runtime.start_pod(Arc::clone(&workload), sockets) {
                Ok(proxy) => break proxy,
                Err(error) => report_failure(runtime, uid, &error.to_string()),
            }
            tokio::time::sleep(RETRY).await;
        };
        runtime.captures.set(uid, PodCaptureState::Captured);
        runtime.captures.complete();
        runtime.readiness.met(POD);
        tracing::info!(pod = %workload.name, identity = %workload.identity, "ready");
        Self { proxy, identity }
    }

    /// Its proxy, and what keeps its certificate alive.
    pub(crate) fn into_parts(self) -> (PodProxy, IdentityInUse) {
        (self.proxy, self.identity)
    }
}

/// The pod, once it is in the mesh.
async fn enrolled(runtime: &Runtime, uid: &WorkloadUid) -> Arc<Workload> {
    let mut changes = runtime.node.store.subscribe();
    let mut discovery = runtime.discovery();
    loop {
        changes.mark_unchanged();
        discovery.mark_unchanged();
        let mesh = runtime.node.store.snapshot();
        let why = match mesh.workload(uid) {
            Some(workload) if workload.enrolment.is_enrolled() => return Arc::clone(workload),
            Some(_) => "the pod is not in the mesh: label its namespace `weft.dev/mesh: enabled`, \
                        or annotate the pod"
                .to_owned(),
            None => missing(&discovery.borrow(), uid),
        };
        runtime.readiness.unmet(POD, why);
        // Both senders outlive this.
        tokio::select! {
            _ = changes.changed() => {}
            _ = discovery.changed() => {}
        }
    }
}

fn missing(discovery: &weft_proxy::discovery::DiscoveryStatus, uid: &WorkloadUid) -> String {
    match (&discovery.last_error, discovery.synchronized) {
        (Some(error), false) => error.clone(),
        (None, false) => "the control plane has not sent everything yet".to_owned(),
        (_, true) => format!("the control plane knows no pod with the UID {uid}"),
    }
}

/// Waits until there is a certificate, however long; says why there is none.
async fn await_certificate(runtime: &Runtime, workload: &Workload, identity: &IdentityInUse) {
    runtime
        .readiness
        .unmet(POD, "its certificate has not come yet");
    while tokio::time::timeout(PATIENCE, identity.certificate())
        .await
        .is_err()
    {
        let reason = identity.last_error();
        let reason = reason.unwrap_or_else(|| "the control plane has not answered yet".to_owned());
        let why = format!("no certificate for {}: {reason}", workload.identity);
        report_failure(runtime, &workload.uid, &why);
    }
}

fn report_failure(runtime: &Runtime, uid: &WorkloadUid, why: &str) {
    tracing::warn!(reason = why, "the pod is not served yet");
    runtime.readiness.unmet(POD, why);
    runtime
        .captures
        .set(uid, PodCaptureState::Failed(why.into()));
}

/// A workload with the addresses that its pod has, where the control plane knows none yet:
/// kubelet tells only after the pod's first container was started.
fn with_addresses(workload: Arc<Workload>, addresses: &[IpAddr]) -> Arc<Workload> {
    match workload.addresses.is_empty() {
        false => workload,
        true => Arc::new(Workload {
            addresses: addresses.to_vec(),
            ..Workload::clone(&workload)
        }),
    }
}
