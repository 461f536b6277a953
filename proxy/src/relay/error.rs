//! How one half of a relay breaks.

use std::io;

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
