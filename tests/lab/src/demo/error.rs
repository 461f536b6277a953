//! Why there is no demo.

use std::io;

/// Why there is no demo. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// The mesh doesn't run.
    #[error("{0}")]
    Mesh(#[from] weft_tests::Error),
    /// The operating system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Not every call was as it should be.
    #[error("{0} of the calls above are not as they should be")]
    Unexpected(usize),
}
