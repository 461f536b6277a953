//! Running commands.

use std::path::Path;
use std::process::Command;

use super::error::BuildEbpfError;

/// Runs a command to its end; its output goes where ours goes.
pub(super) fn execute(command: &mut Command, what: &'static str) -> Result<(), BuildEbpfError> {
    let status = command.status().map_err(|error| BuildEbpfError::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        error,
    })?;
    match status.success() {
        true => Ok(()),
        false => Err(BuildEbpfError::Failed { what, status }),
    }
}

/// The text that a command prints, when it succeeds.
pub(super) fn output(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A line for whoever waits.
#[allow(clippy::print_stderr)]
pub(super) fn say(line: &str) {
    eprintln!("{line}");
}
