//! The test bed: nodes and pods as network namespaces, a mesh that runs on them, and
//! what proves how it behaves.
//!
//! * [`run`]: names that say whose they are, and the collection of what dead runs left
//! * [`netns`], [`cgroup`], [`process`]: the kernel's parts, each removed when dropped
//! * [`topology`]: nodes joined by a bridge, pods behind them
//! * [`manifest`]: the Kubernetes documents that a mesh runs from
//! * [`mesh`]: control plane, agents and applications on a topology
//! * [`access_log`], [`packets`]: evidence
//!
//! Everything needs root; without it [`missing_prerequisites`] says so.

pub mod access_log;
pub mod cgroup;
pub mod error;
pub mod http;
pub mod manifest;
pub mod mesh;
pub mod netns;
pub mod packets;
pub mod process;
pub mod run;
pub mod topology;
mod wait;

pub use error::{Error, Result};
pub use wait::{wait_for, wait_until};

/// Programs that the test bed calls, with the Debian package of each.
pub const PROGRAMS: [(&str, &str); 3] =
    [("ip", "iproute2"), ("curl", "curl"), ("tcpdump", "tcpdump")];

/// Whether a program of this name is in PATH or where system programs are.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .any(|directory| directory.join(name).is_file())
}

/// What this machine lacks to run a mesh under test, in one line; `None` when nothing.
pub fn missing_prerequisites() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some(
            "root is missing: eBPF and network namespaces need it; run the same command with sudo"
                .to_owned(),
        );
    }
    let missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| !has_program(program))
        .map(|(_, package)| *package)
        .collect();
    if !missing.is_empty() {
        let packages = missing.join(" ");
        return Some(format!(
            "programs are missing: apt-get install {packages} (or your distribution's packages of these names)"
        ));
    }
    match cgroup::root() {
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    }
}
