//! Errors of starting the agent.

use std::io;
use std::net::SocketAddr;

use weft_admin::log::LogError;
use weft_proxy::runtime::RuntimeError;

use crate::redirect::{CgroupError, RedirectError};

/// A reason that the agent can't run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// WEFT_LOG can't be followed.
    #[error("{0}")]
    Log(#[from] LogError),
    /// The operating system gives no threads.
    #[error("can't start threads: {0}")]
    Threads(io::Error),
    /// The proxy can't be put together.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The operating system tells no signals.
    #[error("can't catch signals: {0}")]
    Signals(io::Error),
    /// /proc doesn't tell the agent's own network namespace.
    #[error("can't read the agent's own network namespace: {0}")]
    OwnNamespace(io::Error),
    /// The kernel doesn't let the agent into the node's cgroup namespace.
    #[error(
        "can't enter the node's cgroup namespace ({0}); run as root, in a pod with CAP_SYS_ADMIN and CAP_SYS_PTRACE"
    )]
    Cgroup(CgroupError),
    /// The kernel programs can't be used.
    #[error("{0}")]
    Redirect(#[from] RedirectError),
    /// Another agent serves the node, with programs that the kernel takes.
    #[error(
        "another agent serves this node and goes on doing so, as this one can't take its place: {0}; \
         leave the other's version here, or change what is missing"
    )]
    Successor(RedirectError),
    /// An address of the admin endpoint is taken, or not this node's.
    #[error("can't listen on {address}: {error}; choose another with {option}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The option that gave it.
        option: &'static str,
        /// The kernel's reason.
        error: io::Error,
    },
}
