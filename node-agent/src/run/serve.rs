//! Wires everything together and runs it until it is told to stop.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use weft_proxy::admin;
use weft_proxy::control_plane::ControlPlaneOptions;
use weft_proxy::runtime::{Runtime, RuntimeError, RuntimeOptions};
use weft_proxy::{HeadLimits, Settings};

use super::args::RunArguments;
use super::error::RunError;
use super::{programs, signals};
use crate::admin::AdminPages;
use crate::namespaces::PodNamespaces;
use crate::pods::{NodeContext, PodController, PodSettings, PodStatuses};

/// Takes the pods of the node into the mesh until a signal says to stop.
pub(super) async fn serve(arguments: RunArguments) -> Result<(), RunError> {
    let mut stop = signals::stop().map_err(RunError::Signals)?;
    let redirect = tokio::select! {
        redirect = programs::load_when_free(&arguments) => redirect?,
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
    let node = Arc::new(NodeContext {
        runtime: runtime(&arguments)?,
        redirect: Arc::new(redirect),
        namespaces: PodNamespaces::watch().map_err(RunError::OwnNamespace)?,
        statuses: PodStatuses::default(),
        drains: TaskTracker::new(),
        settings: PodSettings {
            drain_deadline: arguments.drain_deadline,
            is_pinned: arguments.pin_directory.is_some(),
        },
    });
    let controller = PodController::new(Arc::clone(&node));
    let pages = AdminPages::new(&node);
    tokio::spawn(admin::serve(admin, pages.all));
    if let Some(listener) = monitoring {
        tokio::spawn(admin::serve(listener, pages.monitoring));
    }
    node.runtime.follow_control_plane();
    controller.run(stop).await;
    if arguments.pin_directory.is_some() {
        node.redirect.leave_enforced();
    }
    tracing::info!("stopped");
    Ok(())
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
fn runtime(arguments: &RunArguments) -> Result<Runtime, RuntimeError> {
    let runtime = Runtime::new(RuntimeOptions {
        node: arguments.node.clone(),
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
            },
            ..Settings::default()
        },
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
