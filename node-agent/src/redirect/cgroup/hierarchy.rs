//! The root of the cgroup v2 hierarchy, mounted or not.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::directory::Cgroup;
use super::error::CgroupError;

/// The root of the v2 hierarchy: where it is mounted, else a mount of our own that
/// nobody else sees and that ends with this process. `ip netns exec` hides the mount,
/// and a container may not have it.
pub(super) fn open_hierarchy() -> Result<Cgroup, CgroupError> {
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
}
