//! A cgroup2 tree of one's own: what an agent attaches to, and what knows every
//! process of a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weft_provision::cgroup2;

use crate::error::{Error, Result};
use crate::wait::wait_until;

/// How long killed processes may take to be gone.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);

/// A cgroup with all below it; dropping kills its processes and removes it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes one below the root.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create(name: &str) -> Result<Self> {
        let path = cgroup2::root()?.join(name);
        make(&path)?;
        Ok(Self { path })
    }

    /// Takes over one that exists.
    pub(crate) fn adopt(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes one below this one, such as `node-1/kubepods/web`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn child(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        make(&path)?;
        Ok(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Nothing here is worth an error: what is left is collected by the next run.
        let _ = empty(&self.path);
        remove(&self.path);
    }
}

fn make(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::system(format!("create {}", path.display())))
}

/// Kills every process below a cgroup and waits until they are gone.
///
/// # Errors
/// When one survives.
pub(crate) fn empty(path: &Path) -> Result<()> {
    // Kernels before 5.14 have no cgroup.kill.
    let killed = fs::write(path.join("cgroup.kill"), "1").is_ok();
    wait_until(
        &format!("{} to be empty", path.display()),
        EMPTY_WITHIN,
        || {
            let left = processes(path);
            if !killed {
                left.iter().for_each(|pid| {
                    let _ = kill(*pid, Signal::SIGKILL);
                });
            }
            left.is_empty()
        },
    )
}

fn processes(path: &Path) -> Vec<Pid> {
    let own = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let own = own
        .lines()
        .filter_map(|line| line.parse().ok())
        .map(Pid::from_raw);
    let below = children(path)
        .into_iter()
        .flat_map(|child| processes(&child));
    own.chain(below).collect()
}

fn remove(path: &Path) {
    children(path).iter().for_each(|child| remove(child));
    let _ = fs::remove_dir(path);
}

fn children(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}
