//! Wires everything together and runs it until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use weft_node_agent::redirect::{Redirect, RedirectError, RedirectOptions, UnknownPods};
use weft_proxy::admin::{self, Admin};
use weft_proxy::config::captures::CaptureReports;
use weft_proxy::config::control_plane::{ControlPlane, ControlPlaneError, ControlPlaneOptions};
use weft_proxy::config::remote::{self, DiscoveryOptions, DiscoveryStatus};
use weft_proxy::identity::{CertificateManager, CertificateStore};
use weft_proxy::metrics::Metrics;
use weft_proxy::store::Store;
use weft_proxy::workers::Workers;
use weft_proxy::{Settings, Shared};

use crate::agent::capture::Capturer;
use crate::agent::namespaces::Namespaces;
use crate::agent::table::PodTable;
use crate::agent::{Agent, Readiness};
use crate::args::{RunArguments, UnknownPodsArgument};
use crate::metrics::AgentMetrics;
use crate::signals;

/// Why the agent can't run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("can't start threads: {0}")]
    Threads(io::Error),
    #[error("can't catch signals: {0}")]
    Signals(io::Error),
    #[error("can't read the agent's own network namespace: {0}")]
    OwnNamespace(io::Error),
    #[error("{0}")]
    Redirect(#[from] RedirectError),
    #[error("{0}")]
    ControlPlane(#[from] ControlPlaneError),
    #[error("can't serve the admin endpoint on {address}: {error}; choose another with --admin")]
    Admin {
        address: SocketAddr,
        error: io::Error,
    },
}

/// Runs the agent on this thread, which also carries all control traffic;
/// connections have workers of their own.
///
/// # Errors
/// When something that it can't do without fails at start.
pub(crate) fn run(arguments: RunArguments) -> Result<(), RunError> {
    let control = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Threads)?;
    control.block_on(serve(arguments))
}

async fn serve(arguments: RunArguments) -> Result<(), RunError> {
    let stop = signals::stop().map_err(RunError::Signals)?;
    let pinned = arguments.pin_directory.is_some();
    let redirect = load(&arguments)?;
    let control_plane = ControlPlane::new(ControlPlaneOptions {
        address: arguments.control_plane.clone(),
        server_name: arguments.control_plane_name.clone(),
        root_certificates: arguments.root_certificates.clone(),
        token_file: arguments.token_file.clone(),
    })?;
    let (store, certificates) = (Arc::new(Store::new()), Arc::<CertificateStore>::default());
    let metrics = Arc::new(Metrics::new());
    let manager = CertificateManager::new(
        control_plane.clone(),
        Arc::clone(&certificates),
        tokio::runtime::Handle::current(),
    );
    let shared = Arc::new(Shared::new(
        &arguments.node,
        Arc::clone(&store),
        certificates,
        Arc::clone(&metrics),
        Settings::default(),
    ));
    let capturer = Arc::new(Capturer {
        redirect,
        shared,
        workers: Workers::start(worker_count(&arguments)).map_err(RunError::Threads)?,
        certificates: manager,
        namespaces: Namespaces::watch().map_err(RunError::OwnNamespace)?,
        reports: CaptureReports::default(),
        table: PodTable::default(),
        drain_deadline: arguments.drain_deadline,
        pinned,
        draining: watch::Sender::new(0),
        ended: Notify::new(),
    });
    let (status, discovery) = watch::channel(DiscoveryStatus::default());
    metrics.register(|registry| {
        registry.register_collector(Box::new(AgentMetrics {
            capturer: Arc::clone(&capturer),
            discovery: discovery.clone(),
        }));
    });
    let readiness = Readiness::default();
    let admin = serve_admin(arguments.admin, &capturer, &readiness, &discovery).await?;
    let options = DiscoveryOptions {
        node: arguments.node.as_str().into(),
        control_plane,
        store,
        captures: capturer.reports.clone(),
    };
    let following = tokio::spawn(remote::run(options, status));
    Agent::new(capturer, discovery, readiness).run(stop).await;
    // Until here, so that peers heard that the pods are released.
    following.abort();
    admin.abort();
    Ok(())
}

fn load(arguments: &RunArguments) -> Result<Redirect, RedirectError> {
    let redirect = Redirect::load(&RedirectOptions {
        cgroup: arguments.cgroup.clone(),
        pods_cgroup: arguments.pods_cgroup.clone(),
        unknown_pods: match arguments.unknown_pods {
            UnknownPodsArgument::Allow => UnknownPods::Allow,
            UnknownPodsArgument::Refuse => UnknownPods::Refuse,
        },
        pin_directory: arguments.pin_directory.clone(),
        log: false,
    })?;
    tracing::info!(
        target: "agent",
        capabilities = %redirect.capabilities(),
        pinned = arguments.pin_directory.is_some(),
        "kernel programs attached",
    );
    Ok(redirect)
}

/// One per core unless told otherwise.
fn worker_count(arguments: &RunArguments) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    arguments.workers.map_or_else(cores, NonZeroUsize::get)
}

async fn serve_admin(
    address: SocketAddr,
    capturer: &Arc<Capturer>,
    ready: &Readiness,
    discovery: &watch::Receiver<DiscoveryStatus>,
) -> Result<JoinHandle<()>, RunError> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| RunError::Admin { address, error })?;
    let conditions = Arc::new(admin::Readiness::default());
    conditions.unmet(
        "pods",
        "waiting for the configuration, or for pods to be captured",
    );
    tokio::spawn(mirror(ready.clone(), Arc::clone(&conditions)));
    let (known, status) = (Arc::clone(capturer), discovery.clone());
    let describe = move || describe(&known, &status.borrow());
    let served = Admin {
        readiness: conditions,
        metrics: Arc::clone(&capturer.shared.metrics),
        connections: Arc::clone(&capturer.shared.connections),
        config: Box::new(describe),
    };
    Ok(tokio::spawn(admin::serve(listener, Arc::new(served))))
}

/// Tells the admin endpoint once the agent is ready.
async fn mirror(ready: Readiness, conditions: Arc<admin::Readiness>) {
    ready.wait().await;
    conditions.met("pods");
}

/// What `/config` shows: this node's pods, and what is known of the mesh.
fn describe(capturer: &Capturer, status: &DiscoveryStatus) -> serde_json::Value {
    let mesh = capturer.shared.store.snapshot();
    let pods = capturer.table.snapshot();
    let pods: serde_json::Map<_, _> = pods
        .iter()
        .map(|(uid, state)| (uid.to_string(), json!(state)))
        .collect();
    let mut workloads: Vec<_> = mesh
        .workloads()
        .map(|workload| {
            json!({
                "uid": workload.uid.as_str(),
                "name": &*workload.name,
                "namespace": workload.namespace(),
                "identity": workload.identity.to_string(),
                "addresses": workload.addresses,
                "node": &*workload.node,
                "enrolment": format!("{:?}", workload.enrolment).to_lowercase(),
                "mtls_mode": workload.mtls_mode.to_string(),
            })
        })
        .collect();
    workloads.sort_by_key(|workload| workload["uid"].as_str().map(str::to_owned));
    let mut services: Vec<_> = mesh
        .services()
        .map(|service| {
            let endpoints = mesh.endpoints(&service.key).iter().map(|endpoint| {
                json!({ "address": endpoint.key.address, "ready": endpoint.ready, "ports": endpoint.ports })
            });
            json!({
                "name": service.key.to_string(),
                "addresses": service.addresses(),
                "endpoints": endpoints.collect::<Vec<_>>(),
            })
        })
        .collect();
    services.sort_by_key(|service| service["name"].as_str().map(str::to_owned));
    json!({
        "node": &*capturer.shared.node,
        "control_plane": {
            "connected": status.connected,
            "synchronized": status.synchronized,
            "last_error": status.last_error,
            "rejected": status.rejected,
        },
        "pods": pods,
        "workloads": workloads,
        "services": services,
    })
}
