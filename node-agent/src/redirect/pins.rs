//! Pins: they keep maps and links alive while no agent runs, so that a dead agent
//! leaves its pods refused rather than open.
//!
//! ```text
//! <pin directory>/v1/maps/NAMESPACES ...            shared by successive agents
//! <pin directory>/v1/links-<process>-<random>/...   one folder for each agent
//! <pin directory>/draining-<process>                see `draining`
//! ```
//! The version is that of the maps' schema. The folder of a version is locked by the
//! agent that uses it.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, fstatfs};
use weft_ebpf_common::SCHEMA_VERSION;

use super::programs::namespace_of_lookup_pin;
use crate::draining;

/// The usual mount point of a BPF file system.
const USUAL_MOUNT: &str = "/sys/fs/bpf";

/// A reason that nothing can be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// The folder is on no BPF file system, and none can be mounted.
    #[error(
        "{path} is not on a BPF file system and none can be mounted at {at} ({error}): run `mount -t \
         bpf bpf {at}` first, or start the agent without --pin-directory; pods are then left alone \
         whenever no agent runs"
    )]
    Mount {
        /// The pin directory.
        path: PathBuf,
        /// The mount point that was tried.
        at: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
    /// A file or folder there.
    #[error("cannot {action} {path}: {error}")]
    File {
        /// The action that was tried.
        action: &'static str,
        /// Its path.
        path: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
    /// Two agents must not share one.
    #[error(
        "another agent uses the pin directory {0}: stop it first, or give each agent its own with \
         --pin-directory"
    )]
    InUse(PathBuf),
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PinsError {
    let path = path.to_owned();
    move |error| PinsError::File {
        action,
        path,
        error,
    }
}

/// A pinned object; unpinned when dropped, unless it is left.
#[derive(Debug)]
pub(super) struct Pin(Option<PathBuf>);

impl Pin {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(Some(path))
    }

    pub(super) fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if let Some(path) = self.0.take()
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::warn!(%error, path = %path.display(), "cannot unpin");
        }
    }
}

/// The pins of one running agent.
#[derive(Debug)]
pub(super) struct Pins {
    directory: PathBuf,
    version: PathBuf,
    links: PathBuf,
    /// Held until the agent ends or hands over.
    _lock: Flock<File>,
}

impl Pins {
    /// Makes the folders, on a BPF file system, and locks them.
    pub(super) fn create(directory: &Path) -> Result<Self, PinsError> {
        ensure_mounted(directory)?;
        let version = directory.join(version_name(SCHEMA_VERSION));
        let maps = version.join("maps");
        fs::create_dir_all(&maps).map_err(file("make the folder", &maps))?;
        let lock = lock(&version)?.ok_or_else(|| PinsError::InUse(directory.to_owned()))?;
        let unique = format!("links-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let links = version.join(unique);
        fs::create_dir(&links).map_err(file("make the folder", &links))?;
        Ok(Self {
            directory: directory.to_owned(),
            version,
            links,
            _lock: lock,
        })
    }

    pub(super) fn maps(&self) -> PathBuf {
        self.version.join("maps")
    }

    pub(super) fn link_path(&self, name: &str) -> PathBuf {
        self.links.join(name)
    }

    /// Takes off what earlier agents of this version attached to the cgroup. What they
    /// attached to pods stays until the pod is captured again or known to be outside.
    pub(super) fn remove_older_cgroup_links(&self) -> Result<(), PinsError> {
        self.remove_older(|name| namespace_of_lookup_pin(name).is_none())
    }

    /// Takes off what earlier agents of this version attached to a namespace.
    pub(super) fn remove_older_lookups(&self, cookie: u64) -> Result<(), PinsError> {
        self.remove_older(|name| namespace_of_lookup_pin(name) == Some(cookie))
    }

    /// Takes off everything that earlier agents of this version left.
    pub(super) fn remove_leftovers(&self) -> Result<(), PinsError> {
        self.remove_older(|_| true)
    }

    /// Takes off everything that agents of other versions left.
    pub(super) fn remove_other_versions(&self) -> Result<(), PinsError> {
        for version in versions(&self.directory)? {
            if version != self.version {
                remove_version(&version, &self.directory)?;
            }
        }
        Ok(())
    }

    fn remove_older(&self, wanted: impl Fn(&str) -> bool) -> Result<(), PinsError> {
        for folder in entries(&self.version)? {
            if folder == self.links || !name(&folder).starts_with("links-") {
                continue;
            }
            for pin in entries(&folder)? {
                if wanted(&name(&pin)) {
                    fs::remove_file(&pin).map_err(file("unpin", &pin))?;
                }
            }
            if entries(&folder)?.is_empty() {
                fs::remove_dir(&folder).map_err(file("remove the folder", &folder))?;
            }
        }
        Ok(())
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // Links that were left keep it.
        if entries(&self.links).is_ok_and(|left| left.is_empty()) {
            let _ = fs::remove_dir(&self.links);
        }
    }
}

/// An agent has attached its programs, and nobody has taken them off. They don't outlive a start of
/// the node.
pub(super) fn has_links(directory: &Path) -> bool {
    let versions = versions(directory).unwrap_or_default();
    let folders = versions.iter().filter_map(|version| entries(version).ok());
    let mut links = folders
        .flatten()
        .filter(|path| name(path).starts_with("links-"));
    links.any(|folder| entries(&folder).is_ok_and(|pins| !pins.is_empty()))
}

/// Removes every pin of every agent that used the directory; returns how many.
pub(super) fn uninstall(directory: &Path) -> Result<usize, PinsError> {
    if !is_bpffs(directory).unwrap_or(false) {
        return Ok(0);
    }
    let mut removed = 0;
    for version in versions(directory)? {
        removed += remove_version(&version, directory)?;
    }
    draining::remove_marks(directory);
    unmount_own(directory);
    Ok(removed)
}

fn remove_version(version: &Path, directory: &Path) -> Result<usize, PinsError> {
    let _lock = lock(version)?.ok_or_else(|| PinsError::InUse(directory.to_owned()))?;
    let mut removed = 0;
    for folder in entries(version)? {
        for pin in entries(&folder)? {
            fs::remove_file(&pin).map_err(file("unpin", &pin))?;
            removed += 1;
        }
        fs::remove_dir(&folder).map_err(file("remove the folder", &folder))?;
    }
    fs::remove_dir(version).map_err(file("remove the folder", version))?;
    Ok(removed)
}

fn version_name(version: u32) -> String {
    format!("v{version}")
}

/// The folders of all versions.
fn versions(directory: &Path) -> Result<Vec<PathBuf>, PinsError> {
    let is_version = |path: &PathBuf| {
        let name = name(path);
        name.strip_prefix('v')
            .is_some_and(|number| number.parse::<u32>().is_ok())
    };
    Ok(entries(directory)?.into_iter().filter(is_version).collect())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, PinsError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    };
    list().map_err(file("list", folder))
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Locks a folder; nothing when another process has it locked.
fn lock(folder: &Path) -> Result<Option<Flock<File>>, PinsError> {
    let open = File::open(folder).map_err(file("open", folder))?;
    match Flock::lock(open, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(file("lock", folder)(error.into())),
    }
}

/// Makes the directory, after mounting a BPF file system where there is none: at the
/// usual place when the directory is below it, else at the directory itself.
fn ensure_mounted(directory: &Path) -> Result<(), PinsError> {
    let existing = directory.ancestors().find(|path| path.exists());
    if existing.is_some_and(|path| is_bpffs(path).unwrap_or(false)) {
        return fs::create_dir_all(directory).map_err(file("make the folder", directory));
    }
    let at = match directory.starts_with(USUAL_MOUNT) {
        true => Path::new(USUAL_MOUNT),
        false => directory,
    };
    let try_mount = || -> io::Result<()> {
        if at == directory {
            fs::create_dir_all(at)?;
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("bpf"), at, Some("bpf"), flags, Some("mode=0700"))?;
        Ok(())
    };
    try_mount().map_err(|error| PinsError::Mount {
        path: directory.to_owned(),
        at: at.to_owned(),
        error,
    })?;
    tracing::info!(at = %at.display(), "mounted a BPF file system to pin to");
    fs::create_dir_all(directory).map_err(file("make the folder", directory))
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    Ok(fstatfs(file.as_fd())?.filesystem_type() == BPF_FS_MAGIC)
}

/// Takes away a mount that `ensure_mounted` made at the directory itself.
fn unmount_own(directory: &Path) {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    let is_mount = directory
        .parent()
        .is_some_and(|parent| device(parent) != device(directory));
    if is_mount
        && directory != Path::new(USUAL_MOUNT)
        && let Err(error) = umount2(directory, MntFlags::empty())
    {
        tracing::warn!(%error, path = %directory.display(), "cannot unmount");
    }
}
