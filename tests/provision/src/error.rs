//! Why something is not to be had.

use std::io;

/// Why something is not to be had. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// Something has to be installed, mounted or set by hand.
    #[error("{0}")]
    Missing(String),
    /// A program ended badly. Its own output came before.
    #[error("`{command}` failed ({status}); {hint}")]
    Program {
        /// The program with its arguments.
        command: String,
        /// Its exit status.
        status: String,
        /// Where to look, what to try.
        hint: String,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl ProvisionError {
    /// Says what was tried when the system refused it.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}
