//! `weft-node-agent`: takes the opted-in pods of one node into the mesh.

use std::process::ExitCode;

use clap::Parser;
use weft_node_agent::run::{Arguments, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The one place that writes to standard error directly: the log may not run yet.
#[allow(clippy::print_stderr)]
fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-node-agent: {error}");
            ExitCode::FAILURE
        }
    }
}
