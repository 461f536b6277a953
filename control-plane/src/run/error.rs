//! Reasons not to run, for whoever starts the process.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::ca::AuthorityError;
use crate::captures::CaptureFileError;
use crate::inject::{FileError, KnownSidecarsError};
use crate::rate_limit;
use crate::serve::ServerCertificateError;

/// A reason for the control plane not to run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The captured pods.
    #[error(transparent)]
    Captures(#[from] CaptureFileError),
    /// The control plane's own certificate.
    #[error(transparent)]
    Certificate(#[from] ServerCertificateError),
    /// The manifests.
    #[error("--config-directory {path}: {source}")]
    Manifests {
        /// The directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The state directory.
    #[error("--state-directory {path}: {source}")]
    State {
        /// The directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The API server.
    #[error(
        "the API server can't be reached: {0}; run in a pod with a ServiceAccount, or give --kubeconfig"
    )]
    Cluster(String),
    /// The sidecars that the mesh has injected.
    #[error(transparent)]
    Sidecars(#[from] KnownSidecarsError),
    /// An option that the source needs.
    #[error("{0} is needed with --source directory")]
    Missing(&'static str),
    /// A listener.
    #[error("listening on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// The limits of the rate limit service.
    #[error(transparent)]
    RateLimits(#[from] rate_limit::FileError),
    /// The place where it counts.
    #[error("--redis (or WEFT_REDIS): {0}")]
    Redis(#[from] rate_limit::InvalidRedis),
    /// A lifetime that no certificate can have.
    #[error("--leaf-lifetime is too long")]
    LeafLifetime,
    /// The operating system gives no threads.
    #[error("can't start threads: {0}")]
    Threads(std::io::Error),
    /// Signals.
    #[error("signals: {0}")]
    Signals(io::Error),
    /// The gRPC server.
    #[error("serving agents: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// A reason that manifests can't be injected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InjectError {
    /// They can't be read.
    #[error("can't read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Something is wrong with one of them.
    #[error("{path}: {source}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it is.
        source: FileError,
    },
}
