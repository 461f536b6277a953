//! How one direction of a relay breaks, and what that says of the whole.

use std::io;

use super::End as CloseReason;

/// Why a direction of a relay broke.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    /// Its source could not be read.
    #[error("reading: {0}")]
    Read(#[source] io::Error),
    /// Its sink could not be written to.
    #[error("writing: {0}")]
    Write(#[source] io::Error),
}

impl RelayError {
    /// The end that broke, where the direction leads upstream.
    pub(super) fn close_reason_when_sending(&self) -> CloseReason {
        match self {
            Self::Read(_) => CloseReason::DownstreamReset,
            Self::Write(_) => CloseReason::UpstreamReset,
        }
    }

    /// The end that broke, where the direction leads downstream.
    pub(super) fn close_reason_when_receiving(&self) -> CloseReason {
        match self {
            Self::Read(_) => CloseReason::UpstreamReset,
            Self::Write(_) => CloseReason::DownstreamReset,
        }
    }
}
