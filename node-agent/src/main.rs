//! `weft-node-agent`: takes the opted-in pods of one node into the mesh.
//!
//! It follows the control plane ([`weft_proxy::discovery`]), and for each pod of its
//! node that opted in it obtains a certificate, starts a proxy on sockets inside the
//! pod's network namespace, and has the kernel hand it the pod's connections
//! ([`agent`], [`weft_node_agent::redirect`]).

mod agent;
mod args;
mod config;
mod log;
mod metrics;
mod run;
mod signals;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command, LogFormat, UninstallArguments};
use weft_node_agent::redirect::Redirect;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let format = match &arguments.command {
        Command::Run(run) => run.log_format,
        Command::Uninstall(_) => LogFormat::Text,
    };
    if let Err(error) = log::start(format) {
        return fail(&error);
    }
    let result = match arguments.command {
        Command::Run(arguments) => run::run(*arguments).map_err(|error| error.to_string()),
        Command::Uninstall(arguments) => uninstall(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn uninstall(arguments: &UninstallArguments) -> Result<(), String> {
    let removed =
        Redirect::uninstall(&arguments.pin_directory).map_err(|error| error.to_string())?;
    tracing::info!(removed, directory = %arguments.pin_directory.display(), "uninstalled");
    Ok(())
}

/// The one place that writes to standard error directly: the log may not run yet.
#[allow(clippy::print_stderr)]
fn fail(error: &str) -> ExitCode {
    eprintln!("weft-node-agent: {error}");
    ExitCode::FAILURE
}
