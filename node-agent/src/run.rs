//! Wires everything together and runs it until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use weft_node_agent::redirect::{
    CgroupError, PinsError, Redirect, RedirectError, RedirectOptions, UnknownPods,
    enter_node_namespace,
};
use weft_proxy::Settings;
use weft_proxy::admin::{self, Pages};
use weft_proxy::control_plane::ControlPlaneOptions;
use weft_proxy::runtime::{Runtime, RuntimeError, RuntimeOptions};

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
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
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
    let admin = listen(arguments.admin, "--admin").await?;
    if !arguments.admin.ip().is_loopback() {
        tracing::warn!(address = %arguments.admin, "the admin endpoint is open to the network, without authentication");
    }
    let monitoring = match arguments.monitoring {
        Some(address) => Some(listen(address, "--monitoring").await?),
        None => None,
    };
    let capturer = Arc::new(Capturer {
        runtime: runtime(&arguments)?,
        redirect,
        namespaces: Namespaces::watch().map_err(RunError::OwnNamespace)?,
        table: PodTable::default(),
        drain_deadline: arguments.drain_deadline,
        pinned: arguments.pin_directory.is_some(),
        draining: watch::Sender::new(0),
        ended: Notify::new(),
    });
    let agent = Agent::new(Arc::clone(&capturer));
    let (pages, all) = pages(&capturer);
    tokio::spawn(admin::serve(admin, all));
    if let Some(listener) = monitoring {
        tokio::spawn(admin::serve(listener, pages));
    }
    capturer.runtime.follow_control_plane();
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

/// The proxy, with no pod yet.
fn runtime(arguments: &RunArguments) -> Result<Runtime, RunError> {
    let runtime = Runtime::new(RuntimeOptions {
        node: arguments.node.clone(),
        control_plane: ControlPlaneOptions {
            address: arguments.control_plane.clone(),
            server_name: arguments.control_plane_name.clone(),
            root_certificates: arguments.root_certificates.clone(),
            token_file: arguments.token_file.clone(),
        },
        workers: arguments.workers.map(NonZeroUsize::get),
        settings: Settings::default(),
    })?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = arguments.node,
        control_plane = arguments.control_plane,
        workers = runtime.workers(),
        admin = %arguments.admin,
        "starting",
    );
    Ok(runtime)
}

/// The pages for monitoring, and all of them.
fn pages(capturer: &Arc<Capturer>) -> (Pages, Pages) {
    let runtime = &capturer.runtime;
    let own = AgentMetrics::new(Arc::clone(capturer));
    runtime
        .node
        .telemetry
        .metrics()
        .register(|registry| registry.register_collector(Box::new(own)));
    let (described, discovery) = (Arc::clone(capturer), runtime.discovery());
    let config = move || config::describe(&described, &discovery.borrow());
    (runtime.monitoring_pages(), runtime.admin_pages(config))
}
