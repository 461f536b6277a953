//! Wires everything together and runs it until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{Notify, watch};
use weft_node_agent::redirect::{Redirect, RedirectError, RedirectOptions, UnknownPods};
use weft_proxy::config::captures::CaptureReports;
use weft_proxy::config::control_plane::{ControlPlane, ControlPlaneError, ControlPlaneOptions};
use weft_proxy::config::remote::{self, DiscoveryOptions, DiscoveryStatus};
use weft_proxy::identity::{CertificateManager, CertificateStore};
use weft_proxy::shared::Shared;
use weft_proxy::store::Store;
use weft_proxy::workers::Workers;

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
