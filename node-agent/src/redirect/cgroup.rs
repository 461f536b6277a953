//! The cgroup v2 hierarchy: the cgroup that the programs are attached to, and the one
//! that holds the pods.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

/// A reason that the cgroups can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// Neither mounted nor mountable.
    #[error(
        "no cgroup v2 hierarchy is mounted here and it cannot be mounted privately ({0}): mount it, \
         for example with `mount -t cgroup2 none /sys/fs/cgroup/unified`, or give --cgroup"
    )]
    NoHierarchy(io::Error),
    /// A path given can't be opened.
    #[error("cannot open cgroup {path}: {error}")]
    Open {
        /// As given.
        path: PathBuf,
        /// The kernel's reason.
        error: io::Error,
    },
    /// A path given is some other directory.
    #[error("{0} is not a directory of a cgroup v2 hierarchy")]
    NotACgroup(PathBuf),
    /// Reading from `/proc`.
    #[error("cannot read {path}: {error}")]
    Proc {
        /// The file.
        path: &'static str,
        /// The kernel's reason.
        error: io::Error,
    },
    /// Connections that the proxy accepts would not be seen.
    #[error(
        "this process is in cgroup {own}, which is not below {attached}: the kernel would not tell \
         the proxy where captured connections wanted to go; start it in that cgroup or below, or \
         give --cgroup a parent of both"
    )]
    NotBelow {
        /// The agent's cgroup, as `/proc/self/cgroup` names it.
        own: String,
        /// The cgroup that the programs are to be attached to.
        attached: PathBuf,
    },
}

/// A cgroup of the v2 hierarchy, open.
#[derive(Debug)]
pub(super) struct Cgroup {
    directory: OwnedFd,
    path: PathBuf,
    id: u64,
}

impl Cgroup {
    /// The id that the kernel's helpers give: on 64-bit machines the directory's inode.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    fn open(path: &Path) -> Result<Self, CgroupError> {
        let file = File::open(path).map_err(|error| CgroupError::Open {
            path: path.to_owned(),
            error,
        })?;
        Self::from_directory(file.into(), path)
    }

    fn below(root: &Self, relative: &Path) -> Result<Self, CgroupError> {
        let path = root.path.join(relative);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory =
            openat(root.directory.as_fd(), relative, flags, Mode::empty()).map_err(|error| {
                CgroupError::Open {
                    path: path.clone(),
                    error: error.into(),
                }
            })?;
        Self::from_directory(directory, &path)
    }

    fn from_directory(directory: OwnedFd, path: &Path) -> Result<Self, CgroupError> {
        let open = |error| CgroupError::Open {
            path: path.to_owned(),
            error,
        };
        let system = nix::sys::statfs::fstatfs(&directory).map_err(|error| open(error.into()))?;
        if system.filesystem_type() != nix::sys::statfs::CGROUP2_SUPER_MAGIC {
            return Err(CgroupError::NotACgroup(path.to_owned()));
        }
        let file = File::from(directory);
        let id = file.metadata().map_err(open)?.ino();
        Ok(Self {
            directory: file.into(),
            path: path.to_owned(),
            id,
        })
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// The cgroups that matter to the programs.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// The programs are attached to it.
    pub(super) attached: Cgroup,
    /// The processes of pods live below it.
    pub(super) pods: Option<Cgroup>,
}

impl Cgroups {
    /// Opens both, and checks that this process is below the first: the sockets that the
    /// proxy accepts belong to it.
    pub(super) fn find(attached: Option<&Path>, pods: Option<&Path>) -> Result<Self, CgroupError> {
        let root = hierarchy()?;
        let pods = match pods {
            Some(path) => Some(open_configured(&root, path)?),
            None => find_pods(&root),
        };
        match &pods {
            Some(pods) => {
                tracing::info!(cgroup = %pods.path.display(), "pods' processes are below this cgroup")
            }
            None => tracing::info!(
                "the cgroup v2 hierarchy has no cgroup of pods; /proc tells pods' processes from the node's"
            ),
        }
        let attached = match attached {
            Some(path) => open_configured(&root, path)?,
            None => open_configured(&root, Path::new("."))?,
        };
        check_own(&root, &attached)?;
        Ok(Self { attached, pods })
    }
}

/// Names that kubelet gives the cgroup of all pods, with either of its cgroup drivers.
const PODS: [&str; 2] = ["kubepods", "kubepods.slice"];
/// Levels below the root that are looked at: a kubelet with a cgroup root of its own nests it.
const PODS_DEPTH: usize = 3;

/// The cgroup of all pods. None where kubelet uses the first version of cgroups, or
/// there is no kubelet.
fn find_pods(root: &Cgroup) -> Option<Cgroup> {
    let mut level = vec![PathBuf::new()];
    for _ in 0..PODS_DEPTH {
        let mut next = Vec::new();
        for parent in level {
            let Ok(directory) = Cgroup::below(root, &Path::new(".").join(&parent)) else {
                continue;
            };
            // By descriptor: the hierarchy may be mounted nowhere.
            let path = format!("/proc/self/fd/{}", directory.directory.as_raw_fd());
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                let name = entry.file_name();
                let path = parent.join(&name);
                // With systemd a nested one is called `kubelet-kubepods.slice`.
                let is_pods = name
                    .to_str()
                    .is_some_and(|name| PODS.contains(&name) || name.ends_with("-kubepods.slice"));
                if is_pods {
                    return Cgroup::below(root, &path).ok();
                }
                next.push(path);
            }
        }
        level = next;
    }
    None
}

/// A path given by an operator: absolute as it is, relative from the hierarchy's root.
fn open_configured(root: &Cgroup, path: &Path) -> Result<Cgroup, CgroupError> {
    match path.is_absolute() {
        true => Cgroup::open(path),
        false => Cgroup::below(root, path),
    }
}

/// Inode of the cgroup namespace that the machine started with: `PROC_CGROUP_INIT_INO`
/// of the kernel's `proc_ns.h`.
const FIRST_CGROUP_NAMESPACE: u64 = 0xEFFF_FFFB;

/// Enters the node's own cgroup namespace. A container may have one of its own, to
/// which a part of the hierarchy looks like the whole: programs would be attached where
/// they see nobody but the agent itself. Changes nothing on the node, nor where the
/// first process isn't the node's.
///
/// To be called before any other thread is started.
///
/// # Errors
/// When `/proc` doesn't tell, or the kernel refuses.
pub fn enter_node_cgroup_namespace() -> Result<(), CgroupError> {
    let path = "/proc/1/ns/cgroup";
    let failed = |error| CgroupError::Proc { path, error };
    let own = fs::metadata("/proc/self/ns/cgroup").map_err(failed)?;
    if own.ino() == FIRST_CGROUP_NAMESPACE {
        return Ok(());
    }
    let node = File::open(path).map_err(failed)?;
    if node.metadata().map_err(failed)?.ino() == own.ino() {
        return Ok(());
    }
    nix::sched::setns(&node, nix::sched::CloneFlags::CLONE_NEWCGROUP)
        .map_err(|error| failed(error.into()))
}

/// The root of the v2 hierarchy: where it is mounted, else a mount of our own that
/// nobody else sees and that ends with this process. `ip netns exec` hides the mount,
/// and a container may not have it.
fn hierarchy() -> Result<Cgroup, CgroupError> {
    let path = "/proc/self/mountinfo";
    let mounts = fs::read_to_string(path).map_err(|error| CgroupError::Proc { path, error })?;
    if let Some(mount) = whole_hierarchy(&mounts)
        && let Ok(root) = Cgroup::open(&mount)
    {
        return Ok(root);
    }
    let directory = detached_mount().map_err(CgroupError::NoHierarchy)?;
    Cgroup::from_directory(directory, Path::new("cgroup2:"))
}

/// The mount point of the whole hierarchy, by the text of `/proc/self/mountinfo`
/// (proc_pid_mountinfo(5)): a mount of a part of it doesn't hold every pod.
fn whole_hierarchy(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let is_cgroup2 = system.split(' ').next() == Some("cgroup2");
        (is_cgroup2 && root == "/").then(|| PathBuf::from(unescape(point)))
    })
}

/// mountinfo writes blanks as `\040` and the like.
fn unescape(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = (*first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(octal_byte);
        match octal {
            Some(byte) => {
                plain.push(byte);
                rest = &tail[3..];
            }
            None => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn octal_byte(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

/// fsopen(2), fsconfig(2), fsmount(2): a mount that is attached nowhere.
fn detached_mount() -> io::Result<OwnedFd> {
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    const CLOEXEC: libc::c_uint = 1;
    let context = descriptor(
        // SAFETY: the name is a C string that outlives the call.
        unsafe { libc::syscall(libc::SYS_fsopen, c"cgroup2".as_ptr(), CLOEXEC) },
    )?;
    // SAFETY: the descriptor is open; this command takes no key, value or extra number.
    let created = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            std::ptr::null::<libc::c_char>(),
            std::ptr::null::<libc::c_void>(),
            0,
        )
    };
    if created < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open and its file system created.
    descriptor(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOEXEC, 0) })
}

fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    match libc::c_int::try_from(result) {
        // SAFETY: the system call has just opened it, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Checks that this process is in the cgroup that is attached to, or below it.
fn check_own(root: &Cgroup, attached: &Cgroup) -> Result<(), CgroupError> {
    let path = "/proc/self/cgroup";
    let text = fs::read_to_string(path).map_err(|error| CgroupError::Proc { path, error })?;
    let own = own_cgroup(&text).unwrap_or("/");
    let is_below = || -> Result<bool, CgroupError> {
        if root.id == attached.id {
            return Ok(true);
        }
        let mut relative = PathBuf::new();
        for component in Path::new(own).components() {
            match component {
                Component::Normal(name) => relative.push(name),
                // Outside of this process's cgroup namespace.
                Component::ParentDir => return Ok(false),
                _ => continue,
            }
            if Cgroup::below(root, &relative)?.id == attached.id {
                return Ok(true);
            }
        }
        Ok(false)
    };
    if is_below()? {
        return Ok(());
    }
    Err(CgroupError::NotBelow {
        own: own.to_owned(),
        attached: attached.path.clone(),
    })
}

/// The v2 line of `/proc/self/cgroup` (cgroups(7)).
fn own_cgroup(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// A new, empty cgroup to try programs in; removed when dropped.
#[derive(Debug)]
pub(super) struct ScratchCgroup {
    parent: OwnedFd,
    name: String,
    pub(super) cgroup: Cgroup,
}

impl ScratchCgroup {
    pub(super) fn create(parent: &Cgroup) -> Result<Self, CgroupError> {
        let name = format!(
            "weft-probe-{}-{:08x}",
            std::process::id(),
            fastrand::u32(..)
        );
        let open = |error: io::Error| CgroupError::Open {
            path: parent.path.join(&name),
            error,
        };
        let handle = parent.directory.try_clone().map_err(open)?;
        nix::sys::stat::mkdirat(&handle, name.as_str(), Mode::S_IRWXU)
            .map_err(|error| open(error.into()))?;
        let cgroup = Cgroup::below(parent, Path::new(&name));
        let cgroup = match cgroup {
            Ok(cgroup) => cgroup,
            Err(error) => {
                remove(&handle, &name);
                return Err(error);
            }
        };
        Ok(Self {
            parent: handle,
            name,
            cgroup,
        })
    }
}

impl Drop for ScratchCgroup {
    fn drop(&mut self) {
        remove(&self.parent, &self.name);
    }
}

fn remove(parent: &OwnedFd, name: &str) {
    let flags = nix::unistd::UnlinkatFlags::RemoveDir;
    if let Err(error) = nix::unistd::unlinkat(parent, name, flags) {
        tracing::warn!(%error, cgroup = name, "cannot remove a scratch cgroup");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_hierarchy_is_found_in_hybrid_and_unified_layouts() {
        let hybrid = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(
            whole_hierarchy(hybrid),
            Some("/sys/fs/cgroup/unified".into())
        );
        let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(whole_hierarchy(unified), Some("/sys/fs/cgroup".into()));
    }

    #[test]
    fn a_mount_of_a_part_of_the_hierarchy_is_not_taken_for_it() {
        let part = "30 23 0:26 /../.. /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(whole_hierarchy(part), None);
    }

    #[test]
    fn blanks_in_mount_points_are_read() {
        let mounts = "30 23 0:26 / /mnt/a\\040b rw - cgroup2 cgroup2 rw\n";
        assert_eq!(whole_hierarchy(mounts), Some("/mnt/a b".into()));
    }

    #[test]
    fn the_own_cgroup_is_the_v2_one() {
        assert_eq!(own_cgroup("9:memory:/a\n0::/b/c\n"), Some("/b/c"));
    }
}
