//! The pages of a sidecar, and where they are served.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use weft_admin::{Answer, ProcessMetrics};
use weft_model::workload::{Workload, WorkloadUid};
use weft_proxy::admin::{self, Endpoint, Limits, Pages};
use weft_proxy::node::Node;
use weft_proxy::runtime::Runtime;

use super::args::RunArguments;
use super::drain::{DrainState, Drains};
use super::error::RunError;

/// Where the pages are served.
pub(super) struct PageListeners {
    admin: TcpListener,
    monitoring: TcpListener,
    probes: TcpListener,
}

impl PageListeners {
    /// Opens them.
    ///
    /// # Errors
    /// When an address is taken.
    pub(super) async fn open(arguments: &RunArguments) -> Result<Self, RunError> {
        if !arguments.admin.ip().is_loopback() {
            tracing::warn!(address = %arguments.admin, "the admin endpoint is open to the network, without authentication");
        }
        Ok(Self {
            admin: listen(arguments.admin, "--admin").await?,
            monitoring: listen(arguments.monitoring, "--monitoring").await?,
            probes: listen(arguments.probes, "--probes").await?,
        })
    }

    /// Probes are answered by this thread, so that one that is stuck fails them; everything
    /// else by another.
    ///
    /// # Errors
    /// When there is no thread.
    pub(super) fn serve(
        self,
        runtime: &Runtime,
        pod: &WorkloadUid,
        drains: &Arc<Drains>,
    ) -> io::Result<()> {
        let probes = Pages::new(Arc::clone(&runtime.readiness));
        tokio::spawn(admin::serve(Endpoint::new(
            self.probes,
            probes,
            Limits::PROBES,
        )));
        let metrics = runtime.node.telemetry.metrics();
        metrics.register(|registry| registry.register_collector(Box::new(ProcessMetrics)));
        let (monitoring, all) = (runtime.monitoring_pages(), all(runtime, pod, drains));
        admin::serve_apart(vec![
            Endpoint::new(self.admin, all, Limits::OPERATOR),
            Endpoint::new(self.monitoring, monitoring, Limits::MONITORING),
        ])
    }
}

async fn listen(address: SocketAddr, option: &'static str) -> Result<TcpListener, RunError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| RunError::Listen {
        address,
        option,
        error,
    })
}

fn all(runtime: &Runtime, pod: &WorkloadUid, drains: &Arc<Drains>) -> Pages {
    let (node, pod, discovery) = (Arc::clone(&runtime.node), pod.clone(), runtime.discovery());
    let certificates = Arc::clone(&runtime.certificates);
    let config = move || {
        let discovery = discovery.borrow();
        let expiries = certificates.expiries().into_iter();
        let certificates = expiries.map(|(identity, expiry)| {
            json!({ "identity": identity.to_string(), "not_after": expiry.map(unix_seconds) })
        });
        json!({
            "pod": describe(&node, &pod),
            "control_plane": {
                "connected": discovery.connected,
                "synchronized": discovery.synchronized,
                "last_response": discovery.last_response.map(unix_seconds),
                "last_error": discovery.last_error,
                "rejected": discovery.rejected,
            },
            "certificates": certificates.collect::<Vec<_>>(),
        })
    };
    let (to_drain, to_quit) = (Arc::clone(drains), Arc::clone(drains));
    runtime
        .admin_pages(config)
        .with_action("/drain", move || {
            to_drain.want(DrainState::Draining);
            state(&to_drain)
        })
        .with_action("/quit", move || {
            to_quit.want(DrainState::Quitting);
            state(&to_quit)
        })
}

fn state(drains: &Drains) -> Answer {
    json_of(drains.state().name())
}

fn json_of(state: &str) -> Answer {
    Answer::json(&json!({ "state": state }))
}

fn describe(node: &Node, pod: &WorkloadUid) -> Value {
    let mesh = node.store.snapshot();
    let known = mesh.workload(pod).map(|workload| known(workload));
    json!({ "uid": pod.as_str(), "node": node.name, "known": known })
}

fn known(workload: &Workload) -> Value {
    json!({
        "name": workload.name,
        "namespace": workload.namespace(),
        "identity": workload.identity.to_string(),
        "addresses": workload.addresses,
        "enrolled": workload.enrolment.is_enrolled(),
        "mtls_mode": workload.mtls_mode.to_string(),
        "port_modes": workload.port_modes.to_string(),
        "node_access": workload.node_access.to_string(),
    })
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
