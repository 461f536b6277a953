//! `cargo xtask bench`: Weft against a direct connection and the peers of the field,
//! interleaved in one run, as ratios. Absolute values belong to the machine that they
//! were measured on; only ratios of one run mean something.

mod bed;
mod envoy;
mod error;
mod http;
mod l4;
mod load;
mod peer;
mod processes;
mod report;
mod requests;
mod servers;
mod split;
mod statistics;

use xtask::options::{self, Benchmark};
use xtask::steps::Steps;
use xtask::workspace::Workspace;

use error::BenchError;
use report::Samples;

/// Runs a benchmark and prints what it measured.
///
/// # Errors
/// In words, when something that it needs isn't there or fails.
pub(crate) fn run(workspace: &Workspace, options: &options::Bench) -> Result<(), String> {
    match options.name {
        Benchmark::L4 => run_data_path(workspace, options, l4::run),
        Benchmark::Http => run_data_path(workspace, options, http::run),
        Benchmark::ControlPlane | Benchmark::Webhook => {
            Err("that benchmark is `cargo xtask bench`'s own".to_owned())
        }
    }
}

fn run_data_path(
    workspace: &Workspace,
    options: &options::Bench,
    run: fn(&Workspace, &options::Bench) -> Result<Samples, BenchError>,
) -> Result<(), String> {
    let mut steps = Steps::go_on(1);
    steps.next("measuring");
    let samples = run(workspace, options).map_err(|error| error.to_string())?;
    steps.end();
    if options.json {
        let rows = serde_json::to_string_pretty(&samples.rows());
        println!("{}", rows.map_err(|error| error.to_string())?);
    } else {
        println!("{}", samples.table());
    }
    Ok(())
}
