//! Why a command doesn't get to its work.

use std::process::ExitStatus;

use xtask::workspace::BuildError;

use crate::build_ebpf::BuildEbpfError;
use crate::images::ImagesError;
use crate::lab::LabError;

/// Why a command doesn't get to its work. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The machine lacks something.
    #[error("{0}")]
    Prerequisite(String),
    /// Something from outside of the workspace is not to be had.
    #[error(transparent)]
    Provision(#[from] weft_provision::ProvisionError),
    /// The kernel programs can't be built.
    #[error("the eBPF programs can't be built: {0}")]
    Ebpf(#[from] BuildEbpfError),
    /// The programs can't be built, or a command of Cargo's failed.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The images can't be made.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// A test said no.
    #[error("the tests failed ({0}); see above")]
    Tests(ExitStatus),
    /// The lab can't be started.
    #[error(transparent)]
    Lab(#[from] LabError),
}
