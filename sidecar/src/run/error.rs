//! Errors of the program.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use weft_admin::log::LogError;
use weft_proxy::runtime::RuntimeError;

use crate::ask::AskError;
use crate::redirect::RedirectError;

/// A reason that the sidecar can't do what it was told.
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
    /// The network namespace can't be entered.
    #[error("can't enter the network namespace {}: {error}; run it as root", path.display())]
    Namespace {
        /// Its file.
        path: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
    /// Its connections would be redirected to itself.
    #[error(
        "runs as user {user}, but the pod's connections are redirected but for those of user \
         {proxy_uid}; run it as that one (securityContext.runAsUser), or give init and run the \
         same --proxy-uid"
    )]
    User {
        /// Its user.
        user: u32,
        /// The one that it has to be.
        proxy_uid: u32,
    },
    /// Root can't become the proxy's user.
    #[error(
        "can't become user {proxy_uid}: {error}; give root the capabilities SETUID and SETGID, and \
         NET_RAW for TPROXY"
    )]
    BecomeUser {
        /// The user.
        proxy_uid: u32,
        /// The kernel's reason.
        error: io::Error,
    },
    /// It may not have sockets at others' addresses, or can't.
    #[error("can't show the application its clients' addresses: {0}")]
    Tproxy(io::Error),
    /// The kernel doesn't tell the pod's addresses.
    #[error("can't read the pod's addresses: {0}; give them with --pod-ips")]
    Addresses(io::Error),
    /// Connections can't be redirected.
    #[error("{0}")]
    Redirect(#[from] RedirectError),
    /// The running sidecar doesn't answer as it should.
    #[error("{0}")]
    Ask(#[from] AskError),
    /// An address of its pages is taken, or not this pod's.
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
