//! Wires everything together and runs it until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use weft_admin::signals;
use weft_proxy::admin::{self, Endpoint, Limits};
use weft_proxy::control_plane::ControlPlaneOptions;
use weft_proxy::runtime::{Runtime, RuntimeError, RuntimeOptions};
use weft_proxy::{HeadLimits, Settings};

use super::args::{EarlierConnectionsArgument, RunArguments, UnknownPodsArgument};
use super::error::RunError;
use super::incapable::{IncapableNode, is_of_node, node_trial};
use super::programs;
use crate::admin::AdminPages;
use crate::blocking::BlockingWork;
use crate::namespaces::PodNamespaces;
use crate::pods::{
    NodeContext, PodController, PodSettings, PodStatuses, answer_attempts, refuse_unknown_pods,
};
use crate::redirect::Redirect;

/// Takes the pods of the node into the mesh until a signal says to stop. Of a node that can't
/// capture, it says so.
pub(super) async fn serve(
    arguments: RunArguments,
    default_buffer_bytes: usize,
) -> Result<(), RunError> {
    let mut stop = signals::stop().map_err(RunError::Signals)?;
    let redirect = tokio::select! {
        redirect = programs::load_when_free(&arguments) => redirect?,
        _ = stop.wait_for(|stop| *stop) => return Ok(()),
    };
    let listeners = PageListeners::open(&arguments).await?;
    let runtime = runtime(&arguments, default_buffer_bytes)?;
    match redirect {
        Ok(redirect) => capture(&arguments, listeners, runtime, redirect, stop).await?,
        Err(error) if is_of_node(&error) => {
            let pins = arguments.pin_directory.as_deref();
            let has_captured = pins.is_some_and(Redirect::has_captured);
            let node = IncapableNode::new(runtime, &error, has_captured);
            listeners.serve(node.pages()).map_err(RunError::Threads)?;
            node.report(stop).await;
        }
        Err(error) => return Err(error.into()),
    }
    tracing::info!("stopped");
    Ok(())
}

/// Takes the pods of the node into the mesh.
async fn capture(
    arguments: &RunArguments,
    listeners: PageListeners,
    runtime: Runtime,
    redirect: Redirect,
    stop: watch::Receiver<bool>,
) -> Result<(), RunError> {
    let trial = node_trial(redirect.capabilities(), None);
    let node = Arc::new(NodeContext {
        runtime: runtime.with_node_capture(&trial),
        redirect: Arc::new(redirect),
        namespaces: PodNamespaces::watch().map_err(RunError::OwnNamespace)?,
        holding: Arc::default(),
        statuses: PodStatuses::default(),
        blocking: BlockingWork::default(),
        drains: TaskTracker::new(),
        settings: PodSettings {
            drain_deadline: arguments.drain_deadline,
            is_pinned: arguments.pin_directory.is_some(),
            ends_earlier_connections: arguments.earlier_connections
                == EarlierConnectionsArgument::End,
        },
    });
    tokio::spawn(programs::follow_kubelet(Arc::clone(&node.redirect)));
    let held = node.redirect.held();
    let attempts = node.redirect.held_attempts()?;
    tokio::spawn(answer_attempts(attempts, held, Arc::clone(&node.holding)));
    tokio::spawn(programs::follow_listening(
        node.redirect.follow_listening()?,
    ));
    let controller = PodController::new(Arc::clone(&node));
    listeners
        .serve(AdminPages::new(&node))
        .map_err(RunError::Threads)?;
    if arguments.unknown_pods == UnknownPodsArgument::Refuse {
        tokio::spawn(refuse_unknown_pods(Arc::clone(&node)));
    }
    node.runtime.follow_control_plane();
    controller.run(stop).await;
    if arguments.pin_directory.is_some() {
        node.redirect.leave_enforced();
    }
    Ok(())
}

/// Where the agent's pages are served.
struct PageListeners {
    admin: TcpListener,
    monitoring: Option<TcpListener>,
    probes: Option<TcpListener>,
}

impl PageListeners {
    async fn open(arguments: &RunArguments) -> Result<Self, RunError> {
        let admin = listen(arguments.admin, "--admin").await?;
        if !arguments.admin.ip().is_loopback() {
            tracing::warn!(address = %arguments.admin, "the admin endpoint is open to the network, without authentication");
        }
        Ok(Self {
            admin,
            monitoring: listen_where_set(arguments.monitoring, "--monitoring").await?,
            probes: listen_where_set(arguments.probes, "--probes").await?,
        })
    }

    /// Probes are answered by this thread, so that one that is stuck fails them; everything
    /// else by another, so that nobody who asks keeps this one from its work.
    fn serve(self, pages: AdminPages) -> io::Result<()> {
        let AdminPages {
            probes,
            monitoring,
            all,
        } = pages;
        if let Some(listener) = self.probes {
            tokio::spawn(admin::serve(Endpoint::new(
                listener,
                probes,
                Limits::PROBES,
            )));
        }
        let mut apart = vec![Endpoint::new(self.admin, all, Limits::OPERATOR)];
        if let Some(listener) = self.monitoring {
            apart.push(Endpoint::new(listener, monitoring, Limits::MONITORING));
        }
        admin::serve_apart(apart)
    }
}

async fn listen_where_set(
    address: Option<SocketAddr>,
    option: &'static str,
) -> Result<Option<TcpListener>, RunError> {
    match address {
        Some(address) => listen(address, option).await.map(Some),
        None => Ok(None),
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

/// The proxy, with no pod yet.
fn runtime(arguments: &RunArguments, default_buffer_bytes: usize) -> Result<Runtime, RuntimeError> {
    let open_files = weft_admin::raise_open_files();
    if let Err(error) = &open_files {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let buffer_bytes = arguments.buffer_bytes.unwrap_or(default_buffer_bytes);
    let runtime = Runtime::new(RuntimeOptions {
        node: arguments.node.clone(),
        pod: None,
        control_plane: ControlPlaneOptions {
            address: arguments.control_plane.clone(),
            server_name: arguments.control_plane_name.clone(),
            root_certificates: arguments.root_certificates.clone(),
            token_file: arguments.token_file.clone(),
        },
        workers: arguments.workers.map(NonZeroUsize::get),
        settings: Settings {
            heads: HeadLimits {
                bytes: arguments.http_head_bytes as usize,
                fields: arguments.http_head_fields.into(),
                time: arguments.http_head_time.0,
            },
            series_per_pod: arguments.metrics_series_per_pod as usize,
            series_per_node: arguments.metrics_series_per_node as usize,
            connections_per_pod: arguments.connections_per_pod,
            handshakes_per_pod: arguments.handshakes_per_pod,
            open_files: open_files.ok(),
            buffer_bytes,
            ..Settings::default()
        },
    })?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = arguments.node,
        control_plane = arguments.control_plane,
        workers = runtime.workers(),
        buffer_bytes,
        admin = %arguments.admin,
        "starting",
    );
    Ok(runtime)
}
