//! What can go wrong with the test bed itself.

use std::io;

/// Short for a result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why the test bed could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A program failed.
    #[error("`{command}` failed ({status}): {output}")]
    Program {
        /// The program with its arguments.
        command: String,
        /// Its exit status, or what happened instead.
        status: String,
        /// What it wrote.
        output: String,
    },
    /// Something didn't happen in time.
    #[error("waited {seconds} s for {what}; last seen: {last}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// The last state that was seen.
        last: String,
    },
    /// A program that was built or an object of the mesh that isn't there.
    #[error("{0}")]
    Missing(String),
    /// Something from outside of the workspace is not to be had.
    #[error(transparent)]
    Provision(#[from] weft_provision::ProvisionError),
    /// Something answered in a way that can't be read.
    #[error("{0}")]
    Unreadable(String),
}

impl Error {
    /// Says what was tried when the system refused it.
    pub fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    /// The same for errors of `nix`.
    pub fn errno(what: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> Self {
        let what = what.into();
        move |errno| Self::System {
            what,
            source: errno.into(),
        }
    }
}
