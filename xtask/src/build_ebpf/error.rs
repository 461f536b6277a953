//! Why the kernel programs can't be built.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use super::versions::{self, TARGET};

/// Why the programs can't be built. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildEbpfError {
    /// No compiler, and none could be installed.
    #[error("{0}")]
    NoToolchain(Unusable),
    /// The compiler's LLVM has no linker.
    #[error(
        "rustc {rustc} uses LLVM {major}, which bpf-linker {} cannot link; use a compiler with LLVM \
         {} to {}",
        versions::LINKER, versions::LLVM_VERSIONS.start(), versions::LLVM_VERSIONS.end()
    )]
    Llvm {
        /// The compiler.
        rustc: PathBuf,
        /// Its LLVM.
        major: u32,
    },
    /// The compiler's LLVM isn't there as a shared library.
    #[error(
        "no shared LLVM {major} library (libLLVM.so.{major}.*) in {searched}: install libllvm{major}, \
         or put bpf-linker {} into PATH (https://github.com/aya-rs/bpf-linker)",
        versions::LINKER
    )]
    NoLlvmLibrary {
        /// The version sought.
        major: u32,
        /// Where.
        searched: String,
    },
    /// A command ended badly. Its own output came before.
    #[error("{what} failed: {status}")]
    Failed {
        /// What it was to do.
        what: &'static str,
        /// How it ended.
        status: ExitStatus,
    },
    /// A command can't be started.
    #[error("cannot run {program}: {error}")]
    Start {
        /// The program.
        program: String,
        /// What the system says.
        error: io::Error,
    },
    /// A file can't be read or written.
    #[error("cannot {action} {path}: {error}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildEbpfError {
    let path = path.to_owned();
    move |error| BuildEbpfError::File {
        action,
        path,
        error,
    }
}

/// No compiler here can build the programs: what was found, and what to do.
#[derive(Clone, Debug)]
pub(crate) struct Unusable {
    /// A rustup nightly that lacks the sources of `core`.
    pub(super) nightly: Option<String>,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "no Rust compiler on this machine can build for {TARGET}. Do one of these:"
        )?;
        let packages = versions::PACKAGES.join(" ");
        writeln!(
            f,
            "  on Debian 12 (bookworm), as root: apt-get update && apt-get install \
             --no-install-recommends {packages} (or run this command as root, which does it)"
        )?;
        match &self.nightly {
            Some(name) => write!(
                f,
                "  with rustup: rustup component add rust-src --toolchain {name}"
            ),
            None => write!(
                f,
                "  with rustup: rustup toolchain install nightly --profile minimal --component rust-src"
            ),
        }
    }
}
