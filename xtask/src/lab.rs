//! `weft-lab`, the program that has the test bed.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use xtask::steps::Steps;
use xtask::workspace::BuildError;

use crate::build_ebpf::BuildEbpfError;
use crate::images::ImagesError;

/// Its name, and that of its target.
pub(crate) const NAME: &str = "weft-lab";
/// What runs in the pods of the test bed, and as nodes of a cluster.
pub(crate) const APP: &str = "weft-test-app";

/// What a person is told about the step that takes longest.
pub(crate) const COMPILING: &str = "compiling the programs (the first time takes minutes)";
/// The same of the kernel programs.
pub(crate) const COMPILING_EBPF: &str =
    "building the eBPF programs (the first time builds their linker, too)";

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
    #[error("can't run {path}: {source}")]
    Lab {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Becomes the lab, which does what this program was told to. Comes back with an error
/// only.
pub(crate) fn become_lab(programs: &Path, steps: &mut Steps) -> Result<Infallible, CommandError> {
    // Told as this program was: it has the same commands.
    become_lab_with(programs, steps, env::args_os().skip(1).collect())
}

/// The same with a command that only the lab has.
pub(crate) fn become_lab_with(
    programs: &Path,
    steps: &mut Steps,
    arguments: Vec<OsString>,
) -> Result<Infallible, CommandError> {
    let path = programs.join(NAME);
    let mut command = Command::new(&path);
    command.args(arguments);
    steps.hand_over(&mut command);
    let source = command.exec();
    Err(CommandError::Lab { path, source })
}
