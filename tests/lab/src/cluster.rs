//! `cargo xtask cluster`: a real Kubernetes on this machine, until it is told to go.
//!
//! `up` starts a process that holds the cluster and stays; `down` ends that process,
//! and with it everything. What it is and where is in `target/cluster`.

mod conformance;
mod error;
mod hold;
mod lifecycle;
mod mode;
mod state;

use std::path::PathBuf;

use weft_tests::cluster::{Binaries, Kubectl, load_archive_into};
use xtask::options::{self, Cluster as Action, ClusterUp};
use xtask::workspace::Workspace;

pub(crate) use error::ClusterError;
use lifecycle::{down, start};
use state::State;

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
