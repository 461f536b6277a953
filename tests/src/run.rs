//! Names that say who made a thing, and the collection of what dead runs left.
//!
//! Everything that outlives a process by itself (named namespaces, cgroups, pinned eBPF
//! objects, directories) carries a [`RunId`] in its name. A run whose process is gone
//! can therefore be cleaned up by whoever comes next.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::wait::{WaitPidFlag, waitpid};
use weft_provision::cgroup2;

use crate::cgroup::Cgroup;
use crate::cluster::hierarchies;
use crate::error::{Error, Result};
use crate::netns;

/// What every name begins with.
const PREFIX: &str = "weft-";
/// Where eBPF objects are pinned (bpffs).
const BPFFS: &str = "/sys/fs/bpf";

/// Names one mesh under test: the creating process, exact by its start time, and a
/// number within that process.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RunId {
    process: u32,
    /// In clock ticks since boot; tells a process from a later one with its number.
    started: u64,
    number: u32,
}

impl RunId {
    /// A new one of this process.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let process = std::process::id();
        let started = start_time(process)
            .ok_or_else(|| Error::Missing("/proc/self/stat can't be read".to_owned()))?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            process,
            started,
            number,
        })
    }

    /// A name that belongs to this run, for a namespace, a cgroup or a file.
    pub fn name(&self, what: &str) -> String {
        if what.is_empty() {
            return self.to_string();
        }
        format!("{self}-{what}")
    }

    /// The bpffs directory for what one agent pins.
    pub fn pin_directory(&self, node: &str) -> PathBuf {
        Path::new(BPFFS).join(self.name(node))
    }

    /// The run that a name belongs to; `None` when it isn't one of ours.
    fn of_name(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.splitn(4, '-');
        let process = parts.next()?.parse().ok()?;
        let started = u64::from_str_radix(parts.next()?, 16).ok()?;
        let number = parts.next()?.parse().ok()?;
        Some(Self {
            process,
            started,
            number,
        })
    }

    fn is_alive(&self) -> bool {
        start_time(self.process) == Some(self.started)
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{PREFIX}{}-{:x}-{}",
            self.process, self.started, self.number
        )
    }
}

/// Removes what runs left whose process is gone. Says what it removed.
pub fn collect_leftovers() -> Vec<String> {
    remove_where(|run| !run.is_alive())
}

/// Removes everything that this process made: for an exit that unwinds nothing, such
/// as the one on a signal.
pub fn remove_own() -> Vec<String> {
    let process = std::process::id();
    let removed = remove_where(|run| run.process == process);
    // Children that nobody is going to wait for any more.
    while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|child| child.pid().is_some()) {}
    removed
}

fn remove_where(doomed: impl Fn(&RunId) -> bool) -> Vec<String> {
    let doomed = |name: &str| RunId::of_name(name).is_some_and(|run| doomed(&run));
    let mut removed = Vec::new();
    // Cgroups first: with them go the processes that hold everything else.
    if let Ok(root) = cgroup2::root() {
        for path in entries(&root, &doomed) {
            drop(Cgroup::adopt(path.clone()));
            removed.push(path.display().to_string());
        }
    }
    for path in hierarchies::find(&doomed) {
        hierarchies::remove(&path);
        removed.push(path.display().to_string());
    }
    for path in entries(Path::new(netns::DIRECTORY), &doomed) {
        netns::delete(&path);
        removed.push(path.display().to_string());
    }
    for directory in [Path::new(BPFFS), &std::env::temp_dir()] {
        for path in entries(directory, &doomed) {
            // Whatever can't be removed is met again by the next run.
            let _ = fs::remove_dir_all(&path);
            removed.push(path.display().to_string());
        }
    }
    removed
}

fn entries(directory: &Path, wanted: &impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(wanted))
        .map(|entry| entry.path())
        .collect()
}

/// When a process started, in clock ticks since boot; `None` when it is gone, even if
/// nobody has reaped it. Fields 3 and 22 of proc_pid_stat(5).
pub fn start_time(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    fields.next().filter(|state| *state != "Z")?;
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_back_to_its_run() {
        let run = RunId::new().unwrap();
        assert_eq!(RunId::of_name(&run.name("node-1")), Some(run.clone()));
        assert_eq!(RunId::of_name(&run.name("")), Some(run.clone()));
        assert!(run.is_alive());
        assert_eq!(RunId::of_name("weft"), None);
        assert_eq!(RunId::of_name("weft-client"), None);
        assert_ne!(RunId::new().unwrap(), run);
    }

    #[test]
    fn a_run_whose_process_number_was_given_away_again_is_dead() {
        let mut run = RunId::new().unwrap();
        run.started += 1;
        assert!(!run.is_alive());
    }
}
