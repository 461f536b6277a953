//! Wires everything together and runs it until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use weft_node_agent::redirect::{
    CgroupError, PinsError, Redirect, RedirectError, RedirectOptions, UnknownPods,
    enter_node_namespace,
};
use weft_proxy::admin::{self, Pages, Readiness};
use weft_proxy::config::captures::CaptureReports;
use weft_proxy::config::control_plane::{ControlPlane, ControlPlaneError, ControlPlaneOptions};
use weft_proxy::config::remote::{self, DiscoveryOptions, DiscoveryStatus};
use weft_proxy::identity::{CertificateManager, CertificateStore};
use weft_proxy::shared::{Settings, Shared};
use weft_proxy::store::Store;
use weft_proxy::telemetry::Metrics;
use weft_proxy::workers::Workers;

use crate::agent::Agent;
use crate::agent::capture::Capturer;
use crate::agent::namespaces::Namespaces;
use crate::agent::table::PodTable;
use crate::args::{RunArguments, UnknownPodsArgument};
use crate::metrics::AgentMetrics;
use crate::{config, signals};

/// How often a successor looks whether its predecessor has ended.
const STAND_BY: Duration = Duration::from_millis(50);

/// Why the agent can't run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("can't start threads: {0}")]
    Threads(io::Error),
    #[error("can't catch signals: {0}")]
    Signals(io::Error),
    #[error("can't read the agent's own network namespace: {0}")]
    OwnNamespace(io::Error),
    #[error(
        "can't enter the node's cgroup namespace ({0}); run as root, in a pod with CAP_SYS_ADMIN and CAP_SYS_PTRACE"
    )]
    Cgroup(CgroupError),
    #[error("{0}")]
    Redirect(#[from] RedirectError),
    #[error("{0}")]
    ControlPlane(#[from] ControlPlaneError),
    #[error("can't listen on {address}: {error}; choose another with {option}")]
    Listen {
        address: SocketAddr,
        option: &'static str,
        error: io::Error,
    },
}

/// Runs the agent on this thread, which also carries all control traffic;
/// connections have workers of their own.
///
/// # Errors
/// When something that it can't do without fails at start.
pub(crate) fn run(arguments: RunArguments) -> Result<(), RunError> {
    // Before there are other threads, which would stay where they are.
    enter_node_namespace().map_err(RunError::Cgroup)?;
    let control = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Threads)?;
    control.block_on(serve(arguments))
}

async fn serve(arguments: RunArguments) -> Result<(), RunError> {
    let mut stop = signals::stop().map_err(RunError::Signals)?;
    let redirect = tokio::select! {
        redirect = load_when_free(&arguments) => redirect?,
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    let control_plane = ControlPlane::new(ControlPlaneOptions {
        address: arguments.control_plane.clone(),
        server_name: arguments.control_plane_name.clone(),
        root_certificates: arguments.root_certificates.clone(),
        token_file: arguments.token_file.clone(),
    })?;
    let admin = listen(arguments.admin, "--admin").await?;
    if !arguments.admin.ip().is_loopback() {
        tracing::warn!(address = %arguments.admin, "the admin endpoint is open to the network, without authentication");
    }
    let monitoring = match arguments.monitoring {
        Some(address) => Some(listen(address, "--monitoring").await?),
        None => None,
    };
    let (store, reports) = (Arc::new(Store::new()), CaptureReports::default());
    let capturer = capturer(&arguments, redirect, &control_plane, &store, &reports)?;
    let (status, discovery) = watch::channel(DiscoveryStatus::default());
    let readiness = Arc::new(Readiness::default());
    let agent = Agent::new(
        Arc::clone(&capturer),
        discovery.clone(),
        Arc::clone(&readiness),
    );
    let (pages, all) = pages(&capturer, discovery, readiness);
    tokio::spawn(admin::serve(admin, all));
    if let Some(listener) = monitoring {
        tokio::spawn(admin::serve(listener, pages));
    }
    let node = Arc::clone(&capturer.shared.node);
    let options = DiscoveryOptions {
        node,
        control_plane,
        store,
        captures: reports,
    };
    tokio::spawn(remote::run(options, status));
    agent.run(stop).await;
    if arguments.pin_directory.is_some() {
        // What is dropped is detached; what is pinned shall stay.
        std::mem::forget(capturer);
    }
    tracing::info!("stopped");
    Ok(())
}

/// Loads the programs as soon as no other agent serves this node: a successor waits for
/// its predecessor's end, and then takes over within moments.
async fn load_when_free(arguments: &RunArguments) -> Result<Redirect, RunError> {
    let mut told = false;
    loop {
        match load(arguments) {
            Err(RunError::Redirect(RedirectError::Pins(PinsError::InUse(directory)))) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(directory = %directory.display(), "another agent serves this node; standing by until it ends");
                }
                tokio::time::sleep(STAND_BY).await;
            }
            loaded => return loaded,
        }
    }
}

fn load(arguments: &RunArguments) -> Result<Redirect, RunError> {
    // One line for each connection, when WEFT_LOG asks for it.
    let log = tracing::enabled!(target: "weft_ebpf", tracing::Level::DEBUG);
    let redirect = Redirect::load(&RedirectOptions {
        cgroup: arguments.cgroup.clone(),
        pods_cgroup: arguments.pods_cgroup.clone(),
        unknown_pods: match arguments.unknown_pods {
            UnknownPodsArgument::Allow => UnknownPods::Allow,
            UnknownPodsArgument::Refuse => UnknownPods::Refuse,
        },
        pin_directory: arguments.pin_directory.clone(),
        log,
    })?;
    if log {
        tokio::spawn(redirect.read_log()?);
    }
    tracing::info!(capabilities = %redirect.capabilities(), "eBPF programs loaded and attached");
    Ok(redirect)
}

async fn listen(address: SocketAddr, option: &'static str) -> Result<TcpListener, RunError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| RunError::Listen {
        address,
        option,
        error,
    })
}

fn capturer(
    arguments: &RunArguments,
    redirect: Redirect,
    control_plane: &ControlPlane,
    store: &Arc<Store>,
    reports: &CaptureReports,
) -> Result<Arc<Capturer>, RunError> {
    let workers = match arguments.workers {
        Some(count) => count.get(),
        None => std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
    };
    let workers = Workers::start(workers).map_err(RunError::Threads)?;
    let certificates = Arc::new(CertificateStore::default());
    let shared = Shared::new(
        &arguments.node,
        Arc::clone(store),
        Arc::clone(&certificates),
        Arc::new(Metrics::new()),
        Settings::default(),
    )
    .with_control_plane(control_plane.clone());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = arguments.node,
        control_plane = arguments.control_plane,
        workers = workers.count(),
        admin = %arguments.admin,
        "starting",
    );
    let runtime = tokio::runtime::Handle::current();
    Ok(Arc::new(Capturer {
        redirect,
        shared: Arc::new(shared),
        workers,
        certificates: CertificateManager::new(control_plane.clone(), certificates, runtime),
        namespaces: Namespaces::watch().map_err(RunError::OwnNamespace)?,
        reports: reports.clone(),
        table: PodTable::default(),
        drain_deadline: arguments.drain_deadline,
        pinned: arguments.pin_directory.is_some(),
        draining: watch::Sender::new(0),
        ended: Notify::new(),
    }))
}

/// The pages for monitoring, and all of them.
fn pages(
    capturer: &Arc<Capturer>,
    discovery: watch::Receiver<DiscoveryStatus>,
    readiness: Arc<Readiness>,
) -> (Pages, Pages) {
    let (metrics, connections) = (
        Arc::clone(&capturer.shared.metrics),
        Arc::clone(&capturer.shared.connections),
    );
    let own = AgentMetrics {
        capturer: Arc::clone(capturer),
        discovery: discovery.clone(),
    };
    metrics.register(|registry| registry.register_collector(Box::new(own)));
    let monitoring = admin::monitoring(readiness, metrics);
    let capturer = Arc::clone(capturer);
    let config = move || config::describe(&capturer, &discovery.borrow());
    let all = admin::all(monitoring.clone(), connections, config);
    (monitoring, all)
}
