//! Wires everything together and runs it until it is told to stop.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weft_admin::signals;
use weft_proxy::control_plane::ControlPlaneOptions;
use weft_proxy::runtime::{Runtime, RuntimeError, RuntimeOptions};
use weft_proxy::{HeadLimits, Settings};

use super::args::{EarlierConnectionsArgument, RunArguments, UnknownPodsArgument};
use super::error::RunError;
use super::incapable::{IncapableNode, is_of_node, node_trial};
use super::pages::{PageListeners, ServedPages};
use super::programs;
use crate::admin::AdminPages;
use crate::blocking::BlockingWork;
use crate::draining::{DrainingAgents, DrainingMark};
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
            let _pages = listeners.serve(node.pages()).map_err(RunError::Threads)?;
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
        draining: DrainingAgents::new(arguments.pin_directory.as_deref()),
        accepting: TaskTracker::new(),
        drains: TaskTracker::new(),
        settings: PodSettings {
            drain_deadline: arguments.drain_deadline,
            is_pinned: arguments.pin_directory.is_some(),
            ends_earlier_connections: arguments.earlier_connections
                == EarlierConnectionsArgument::End,
        },
    });
    let writers = KernelWriters::default();
    let (redirect, end) = (Arc::clone(&node.redirect), writers.end.clone());
    writers.tasks.spawn(programs::follow_kubelet(redirect, end));
    let held = node.redirect.held();
    let attempts = node.redirect.held_attempts()?;
    tokio::spawn(answer_attempts(attempts, held, Arc::clone(&node.holding)));
    writers.spawn(programs::follow_listening(
        node.redirect.follow_listening()?,
    ));
    let controller = PodController::new(Arc::clone(&node));
    let mut pages = listeners
        .serve(AdminPages::new(&node))
        .map_err(RunError::Threads)?;
    if arguments.unknown_pods == UnknownPodsArgument::Refuse {
        writers.spawn(refuse_unknown_pods(Arc::clone(&node)));
    }
    node.runtime.follow_control_plane();
    let pins = arguments.pin_directory.as_deref();
    let hand_over = async || match pins {
        Some(pins) => hand_over(pins, &node, &writers, &mut pages).await,
        // Nobody waits for it.
        None => None,
    };
    controller.run(stop, hand_over).await;
    if pins.is_some() {
        node.redirect.leave_enforced();
    }
    Ok(())
}

/// Tasks that write into the kernel for all pods together.
#[derive(Default)]
struct KernelWriters {
    end: CancellationToken,
    tasks: TaskTracker,
}

impl KernelWriters {
    /// Runs one that may be stopped wherever it waits.
    fn spawn(&self, writer: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        self.tasks.spawn(async move {
            end.run_until_cancelled(writer).await;
        });
    }

    /// Stops them. None writes any more then.
    async fn end(&self) {
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Frees the node for a successor, while the connections that are open here go on without the
/// kernel. To be called once no pod is captured any more.
async fn hand_over(
    pin_directory: &Path,
    node: &NodeContext,
    writers: &KernelWriters,
    pages: &mut ServedPages,
) -> Option<DrainingMark> {
    let mark = match DrainingMark::set(pin_directory) {
        Ok(mark) => mark,
        Err(error) => {
            tracing::error!(%error, directory = %pin_directory.display(), "can't write into the pin directory; a successor takes over once all connections have ended");
            return None;
        }
    };
    writers.end().await;
    pages.end().await;
    node.runtime.captures.hand_over();
    // From here on a successor is at work.
    node.redirect.hand_over();
    tracing::info!("the node is free for a successor; connections that are open end here");
    Some(mark)
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
