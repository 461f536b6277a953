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
mod statistics;

use weft_tests::packages::ensure_programs;

use bed::MODES;
use error::BenchError;
use report::Samples;

use crate::workspace::Workspace;
use crate::{build_ebpf, prerequisites};

/// Programs that benchmarks use, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 5] = [
    ("wrk", "wrk"),
    ("iperf3", "iperf3"),
    ("nginx", "nginx-light"),
    ("h2load", "nghttp2-client"),
    ("python3", "python3-pip"),
];

/// What `bench` can be told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Which benchmark.
    #[arg(value_enum, default_value = "l4")]
    name: Name,
    /// One JSON array of rows `measure`, `mode`, `median`, `spread`, `unit` on standard
    /// output instead of the table.
    #[arg(long)]
    json: bool,
    /// Samples of each measure and mode.
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// Seconds that one sample takes.
    #[arg(long, default_value_t = 2)]
    seconds: u32,
}

/// The benchmarks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Name {
    /// TCP across nodes: direct, through a pair of Envoys with mutual TLS, through Weft.
    L4,
    /// HTTP across nodes by a route that splits requests 80/20: direct (no split), through
    /// Envoys with mutual TLS, through Weft.
    Http,
    /// The control plane under simulated agents: how long a change takes to reach the
    /// last of a thousand, and how that grows with the mesh.
    ControlPlane,
}

/// Runs a benchmark and prints what it measured.
///
/// # Errors
/// In words, when something that it needs isn't there or fails.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<(), String> {
    match options.name {
        Name::L4 => run_data_path(workspace, options, l4::run),
        Name::Http => run_data_path(workspace, options, http::run),
        Name::ControlPlane => run_control_plane(workspace, options),
    }
}

/// Runs where the control plane's own types are.
fn run_control_plane(workspace: &Workspace, options: &Options) -> Result<(), String> {
    let mut command = workspace.cargo(&["bench", "-p", "weft-control-plane", "--bench", "agents"]);
    if options.json {
        command.args(["--", "--json"]);
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the benchmark failed: {status}")),
        Err(error) => Err(format!("can't run cargo: {error}")),
    }
}

fn run_data_path(
    workspace: &Workspace,
    options: &Options,
    run: fn(&Workspace, usize, u32) -> Result<Samples, BenchError>,
) -> Result<(), String> {
    prerequisites::ensure()?;
    ensure_programs(&PROGRAMS).map_err(|error| error.to_string())?;
    build_ebpf::run(&build_ebpf::Options::default()).map_err(|error| error.to_string())?;
    workspace
        .build_release()
        .map_err(|error| error.to_string())?;
    let samples =
        run(workspace, options.repetitions, options.seconds).map_err(|error| error.to_string())?;
    if options.json {
        let rows = serde_json::to_string_pretty(&samples.rows(&MODES));
        println!("{}", rows.map_err(|error| error.to_string())?);
    } else {
        println!("{}", samples.table(&MODES));
    }
    Ok(())
}
