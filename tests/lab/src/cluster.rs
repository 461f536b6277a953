//! `cargo xtask cluster`: a real Kubernetes on this machine, until it is told to go.
//!
//! `up` starts a process that holds the cluster and stays; `down` ends that process,
//! and with it everything. What it is and where is in `target/cluster`.

mod conformance;
mod hold;
mod state;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weft_tests::cluster::{Binaries, KubeProxy, Kubectl, load_archive_into};
use weft_tests::{run, wait_until};
use xtask::options::{self, Cluster as Action, ClusterUp, KubeProxyMode};
use xtask::workspace::Workspace;

use crate::interrupt;
use state::{State, StateError};

/// How long starting one may take at most: its parts have deadlines of their own.
const UP_WITHIN: Duration = Duration::from_secs(900);
/// How long ending a cluster may take on a loaded machine.
const DOWN_WITHIN: Duration = Duration::from_secs(120);

/// Why a cluster could not be started, asked or ended. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// The Gateway API's tests said no.
    #[error("not conformant:\n{0}")]
    Conformance(String),
    /// The control needs a cluster without Weft.
    #[error("Weft is on this cluster: --without-mesh needs one that never had it")]
    HasMesh,
    /// A part of it can't be built or doesn't run.
    #[error("{0}")]
    Cluster(#[from] weft_tests::Error),
    /// A program from outside of the workspace is not to be had.
    #[error(transparent)]
    Provision(#[from] weft_provision::ProvisionError),
    /// What is known about it can't be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// `cargo xtask` does that by itself.
    #[error("run it by `cargo xtask cluster test`")]
    NotHere,
    /// There is one.
    #[error("a cluster is up: use its kubeconfig {0}, or end it with `cargo xtask cluster down`")]
    IsUp(String),
    /// There is none.
    #[error("no cluster is up: start one with `cargo xtask cluster up`")]
    IsDown,
    /// It ended before it was ready.
    #[error("the cluster did not start; its log {log} ends with:\n{end}")]
    Start {
        /// Path of the log.
        log: String,
        /// Its last lines.
        end: String,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// Does it.
///
/// # Errors
/// With what went wrong, and what to do about it.
pub(crate) fn run(workspace: &Workspace, action: &options::Cluster) -> Result<(), ClusterError> {
    match action {
        Action::Up(options) => up(workspace, options),
        Action::Down => down(workspace),
        Action::Status => status(workspace),
        Action::Load { archives } => load(workspace, archives),
        Action::Test(_) => Err(ClusterError::NotHere),
        Action::Conformance(options) => conformance::run(workspace, options),
        Action::Hold(options) => hold::run(workspace, options),
    }
}

fn up(workspace: &Workspace, options: &ClusterUp) -> Result<(), ClusterError> {
    if let Some(state) = State::read(workspace)? {
        return Err(ClusterError::IsUp(state.kubeconfig.display().to_string()));
    }
    let state = start(workspace, options)?;
    eprintln!(
        "kubectl: {}; end it with: cargo xtask cluster down",
        state.kubectl.display()
    );
    println!("{}", state.kubeconfig.display());
    Ok(())
}

/// Starts a cluster that runs until it is told to go.
fn start(workspace: &Workspace, options: &ClusterUp) -> Result<State, ClusterError> {
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

fn mode(mode: KubeProxyMode) -> KubeProxy {
    match mode {
        KubeProxyMode::Iptables => KubeProxy::Iptables,
        KubeProxyMode::Nftables => KubeProxy::Nftables,
    }
}

fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn down(workspace: &Workspace) -> Result<(), ClusterError> {
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

fn load(workspace: &Workspace, archives: &[PathBuf]) -> Result<(), ClusterError> {
    let state = State::read(workspace)?.ok_or(ClusterError::IsDown)?;
    let binaries = Binaries::ensure(workspace.root())?;
    for archive in archives {
        load_archive_into(&state.directory, &binaries, archive)?;
    }
    Ok(())
}

fn status(workspace: &Workspace) -> Result<(), ClusterError> {
    let state = State::read(workspace)?.ok_or(ClusterError::IsDown)?;
    println!(
        "up: {} nodes, kube-proxy with {}, held by process {}",
        state.nodes, state.kube_proxy, state.process
    );
    println!("kubeconfig: {}", state.kubeconfig.display());
    println!("files and logs: {}", state.directory.display());
    let kubectl = Kubectl::new(&state.kubectl, &state.kubeconfig);
    for what in ["nodes", "pods"] {
        let all = kubectl.run(&["get", what, "--all-namespaces", "-o=wide"])?;
        println!("\n{}", all.trim_end());
    }
    Ok(())
}
