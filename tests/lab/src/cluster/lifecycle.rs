//! Starting and ending the process that holds a cluster.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weft_tests::{run, wait_until};
use xtask::options::ClusterUp;
use xtask::workspace::Workspace;

use super::error::ClusterError;
use super::mode::mode;
use super::state::State;
use crate::interrupt;

/// How long starting one may take at most: its parts have deadlines of their own.
const UP_WITHIN: Duration = Duration::from_secs(900);
/// How long ending a cluster may take on a loaded machine.
const DOWN_WITHIN: Duration = Duration::from_secs(120);

/// Starts a cluster that runs until it is told to go.
pub(super) fn start(workspace: &Workspace, options: &ClusterUp) -> Result<State, ClusterError> {
    run::collect_leftovers();
    let begin = Instant::now();
    eprintln!("starting a cluster of {} nodes", options.nodes);
    let state = start_holder(workspace, options)?;
    eprintln!("up after {:.1} s", begin.elapsed().as_secs_f32());
    Ok(state)
}

/// Starts the process that holds the cluster and waits until that says it is up.
fn start_holder(workspace: &Workspace, options: &ClusterUp) -> Result<State, ClusterError> {
    let system = |what| move |source| ClusterError::System { what, source };
    let directory = State::directory(workspace);
    fs::create_dir_all(&directory).map_err(system("create target/cluster"))?;
    let log_path = directory.join("log");
    let log = File::create(&log_path).map_err(system("create target/cluster/log"))?;
    let program = std::env::current_exe().map_err(system("find this program"))?;
    let mode = mode(options.kube_proxy).name();
    let mut holder = Command::new(program)
        .args(["cluster", "hold"])
        .arg(format!("--nodes={}", options.nodes))
        .arg(format!("--kube-proxy={mode}"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(system("open the log again"))?)
        .stderr(log)
        .spawn()
        .map_err(system("start the process that holds the cluster"))?;
    let mut ended = false;
    let mut up = None;
    let pid = Pid::from_raw(holder.id().cast_signed());
    let stop = move || {
        // It removes what it has made so far.
        let _ = kill(pid, Signal::SIGTERM);
        std::process::exit(interrupt::EXIT_CODE);
    };
    interrupt::on_interrupt(stop).map_err(system("listen for Ctrl-C"))?;
    wait_until("the cluster to be up", UP_WITHIN, || {
        ended = !matches!(holder.try_wait(), Ok(None));
        up = State::read(workspace).ok().flatten();
        ended || up.is_some()
    })?;
    up.filter(|_| !ended).ok_or_else(|| ClusterError::Start {
        log: log_path.display().to_string(),
        end: end_of(&log_path),
    })
}

fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Ends it, and waits until it is gone.
pub(super) fn down(workspace: &Workspace) -> Result<(), ClusterError> {
    let Some(state) = State::read(workspace)? else {
        // One whose holder was killed leaves things behind.
        let removed = run::collect_leftovers();
        for path in &removed {
            eprintln!("removed {path}");
        }
        return match removed.as_slice() {
            [] => Err(ClusterError::IsDown),
            _ => Ok(()),
        };
    };
    let begin = Instant::now();
    // Fails only when it is gone already.
    let _ = kill(Pid::from_raw(state.process.cast_signed()), Signal::SIGTERM);
    wait_until("the cluster to be gone", DOWN_WITHIN, || !state.is_alive())?;
    run::collect_leftovers();
    eprintln!("down after {:.1} s", begin.elapsed().as_secs_f32());
    Ok(())
}
