//! `cargo xtask demo`: builds a mesh; the lab shows it.

use weft_provision::prerequisites;
use xtask::steps::Steps;
use xtask::workspace::Workspace;

use crate::build_ebpf;
use crate::error::CommandError;
use crate::lab::{COMPILING, COMPILING_EBPF, become_lab};

/// Shows it.
///
/// # Errors
/// When something that it needs isn't there or can't be built.
pub(crate) fn run(workspace: &Workspace) -> Result<(), CommandError> {
    // Two are the lab's.
    let mut steps = Steps::new(5);
    steps.next("looking for what this needs");
    prerequisites::ensure().map_err(CommandError::Prerequisite)?;
    steps.next(COMPILING_EBPF);
    build_ebpf::run(&xtask::options::BuildEbpf::default())?;
    steps.next(COMPILING);
    workspace.build_programs(&[], &[])?;
    match become_lab(&workspace.programs(), &mut steps)? {}
}
