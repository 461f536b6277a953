//! `weft-sidecar`: the proxy of one pod, in that pod.

use std::process::ExitCode;

use clap::Parser;
use weft_sidecar::run::{Arguments, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The one place that writes to standard error directly: the log may not run yet.
#[allow(clippy::print_stderr)]
fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-sidecar: {error}");
            ExitCode::FAILURE
        }
    }
}
