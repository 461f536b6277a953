//! How one half of a relay breaks.

use std::io;
use std::time::Duration;

/// How long the reset of a connection waits for what was sent before it.
pub(super) const BREAK_OFF_WITHIN: Duration = Duration::from_secs(1);

/// Why one half of a relay broke.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    /// Its source could not be read.
    #[error("reading: {0}")]
    Read(#[source] io::Error),
    /// Its sink could not be written to.
    #[error("writing: {0}")]
    Write(#[source] io::Error),
}
