//! `weft-lab`, the program that has the test bed.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::steps::Steps;

/// Its name, and that of its target.
pub(crate) const NAME: &str = "weft-lab";
/// What runs in the pods of the test bed, and as nodes of a cluster.
pub(crate) const APP: &str = "weft-test-app";

/// What a person is told about the step that takes longest.
pub(crate) const COMPILING: &str = "compiling the programs (the first time takes minutes)";
/// The same of the kernel programs.
pub(crate) const COMPILING_EBPF: &str =
    "building the eBPF programs (the first time builds their linker, too)";

/// The lab can't be started.
#[derive(Debug, thiserror::Error)]
#[error("can't run {path}: {source}")]
pub(crate) struct LabError {
    /// Where it should be.
    path: PathBuf,
    /// Why not.
    source: io::Error,
}

/// Becomes the lab, which does what this program was told to. Comes back with an error
/// only.
pub(crate) fn become_lab(programs: &Path, steps: &mut Steps) -> Result<Infallible, LabError> {
    // Told as this program was: it has the same commands.
    become_lab_with(programs, steps, env::args_os().skip(1).collect())
}

/// The same with a command that only the lab has.
pub(crate) fn become_lab_with(
    programs: &Path,
    steps: &mut Steps,
    arguments: Vec<OsString>,
) -> Result<Infallible, LabError> {
    let path = programs.join(NAME);
    let mut command = Command::new(&path);
    command.args(arguments);
    steps.hand_over(&mut command);
    let source = command.exec();
    Err(LabError { path, source })
}
