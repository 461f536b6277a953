//! The program: its command line, its log, and what it starts in which order.
//!
//! * `args`: the command line
//! * `programs` loads the kernel's part, when no other agent serves the node
//! * `serve` wires everything together, and hands the node over; `incapable` where the kernel doesn't
//!   let it capture
//! * `pages`: where its pages are served, and until when

mod args;
mod error;
mod incapable;
mod pages;
mod programs;
mod serve;

use weft_admin::{log, memory};

pub use self::args::Arguments;
pub use self::error::RunError;

use self::args::{Command, LogFormat, RunArguments, UninstallArguments};
use crate::redirect::{Redirect, enter_node_cgroup_namespace};

/// Does what the command line asks for.
///
/// # Errors
/// When something that it can't do without fails.
pub fn run(arguments: Arguments) -> Result<(), RunError> {
    let format = match &arguments.command {
        Command::Run(run) => run.log_format,
        Command::Uninstall(_) => LogFormat::Text,
    };
    let _log = log::start(format.into(), log::DEFAULT_FILTER)?;
    match arguments.command {
        Command::Run(arguments) => run_agent(*arguments),
        Command::Uninstall(arguments) => uninstall(&arguments),
    }
}

/// Runs the agent on this thread, which also carries all control traffic;
/// connections have workers of their own.
fn run_agent(arguments: RunArguments) -> Result<(), RunError> {
    // Its own cgroup is looked at before the node's are.
    let default_buffer_bytes = memory::default_buffer_bytes();
    // Before there are other threads, which would stay where they are.
    enter_node_cgroup_namespace().map_err(RunError::Cgroup)?;
    let control = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::Threads)?;
    control.block_on(serve::serve(arguments, default_buffer_bytes))
}

fn uninstall(arguments: &UninstallArguments) -> Result<(), RunError> {
    let removed = Redirect::uninstall(&arguments.pin_directory)?;
    tracing::info!(removed, directory = %arguments.pin_directory.display(), "uninstalled");
    Ok(())
}
