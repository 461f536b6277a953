//! `cargo xtask bench`: builds what is measured; the lab measures it.

use weft_provision::packages::ensure_programs;
use weft_provision::prerequisites;
use xtask::options::{Bench, Benchmark};
use xtask::steps::Steps;
use xtask::workspace::Workspace;

use crate::build_ebpf;
use crate::error::CommandError;
use crate::lab::{COMPILING_EBPF, become_lab};

/// Programs that benchmarks use, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 5] = [
    ("wrk", "wrk"),
    ("iperf3", "iperf3"),
    ("nginx", "nginx-light"),
    ("h2load", "nghttp2-client"),
    ("python3", "python3-pip"),
];

/// Runs a benchmark.
///
/// # Errors
/// When something that it needs isn't there or can't be built, or it fails.
pub(crate) fn run(workspace: &Workspace, options: &Bench) -> Result<(), CommandError> {
    match options.name {
        Benchmark::L4 | Benchmark::Http => measure_data_path(workspace),
        Benchmark::ControlPlane => measure_control_plane(workspace, options, &[]),
        Benchmark::Webhook => measure_control_plane(workspace, options, &["--webhook"]),
    }
}

/// Runs where the control plane's own types are.
fn measure_control_plane(
    workspace: &Workspace,
    options: &Bench,
    what: &[&str],
) -> Result<(), CommandError> {
    let line = ["bench", "-p", "weft-control-plane", "--bench", "agents"];
    workspace.run_cargo(&line, |cargo| {
        cargo.arg("--").args(what);
        if options.json {
            cargo.arg("--json");
        }
    })?;
    Ok(())
}

fn measure_data_path(workspace: &Workspace) -> Result<(), CommandError> {
    // One is the lab's.
    let mut steps = Steps::new(4);
    steps.next("looking for what this needs");
    prerequisites::ensure().map_err(CommandError::Prerequisite)?;
    ensure_programs(&PROGRAMS)?;
    steps.next(COMPILING_EBPF);
    build_ebpf::run(&xtask::options::BuildEbpf::default())?;
    steps.next("compiling the programs, optimised (the first time takes ten minutes)");
    workspace.build_release()?;
    match become_lab(&workspace.release_programs(), &mut steps)? {}
}
