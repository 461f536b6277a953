//! The network namespace, the user and the capabilities of this process.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_keepcaps;
use nix::unistd::{Gid, Uid, getgroups, setgid, setgroups, setuid};

use super::error::RunError;
use crate::redirect::Capture;

/// Enters a network namespace, where one is given, with the calling thread and those that it
/// starts.
///
/// # Errors
/// When there is no such file, or the kernel refuses.
pub(super) fn enter(netns: Option<&Path>) -> Result<(), RunError> {
    let Some(path) = netns else {
        return Ok(());
    };
    let failed = |error| RunError::Namespace {
        path: path.to_owned(),
        error,
    };
    let namespace = File::open(path).map_err(failed)?;
    setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|error| failed(error.into()))
}

/// Becomes the proxy's user, without the capabilities that root has but the one that TPROXY needs,
/// and without its groups but the one that may read the token. Whoever is that one already stays it,
/// with what it has.
///
/// # Errors
/// When it is somebody else, who can't become another.
pub(super) fn become_user(
    proxy_uid: u32,
    capture: Capture,
    token_file: &Path,
) -> Result<(), RunError> {
    let user = Uid::effective();
    if user.as_raw() == proxy_uid {
        return Ok(());
    }
    if !user.is_root() {
        let user = user.as_raw();
        return Err(RunError::User { user, proxy_uid });
    }
    let failed = |error: io::Error| RunError::BecomeUser { proxy_uid, error };
    let keeps_one = capture == Capture::Tproxy;
    let groups = group_of(token_file);
    set_keepcaps(keeps_one)
        .and_then(|()| setgroups(&groups))
        .and_then(|()| setgid(Gid::from_raw(proxy_uid)))
        .and_then(|()| setuid(Uid::from_raw(proxy_uid)))
        .map_err(|error| failed(error.into()))?;
    match keeps_one {
        true => keep_net_raw().map_err(failed),
        false => Ok(()),
    }
}

/// The group of a file, where this process is in it and it isn't root's. In a pod with an `fsGroup`
/// kubelet gives tokens to that group alone, whatever mode their volume asks for.
fn group_of(file: &Path) -> Vec<Gid> {
    let group = fs::metadata(file).map(|file| Gid::from_raw(file.gid()));
    let own = getgroups().unwrap_or_default();
    let is_kept = |group: &Gid| group.as_raw() != 0 && own.contains(group);
    group.ok().into_iter().filter(is_kept).collect()
}

/// Leaves this thread, and those that it starts, NET_RAW alone (capset(2)).
///
/// # Errors
/// When it has never had it.
fn keep_net_raw() -> io::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3`, `CAP_NET_RAW` (`linux/capability.h`).
    const VERSION: u32 = 0x2008_0522;
    const NET_RAW: u32 = 13;
    let header: [u32; 2] = [VERSION, 0];
    // Effective, permitted and inheritable ones, below 32 and above.
    let sets: [u32; 6] = [1 << NET_RAW, 1 << NET_RAW, 0, 0, 0, 0];
    // SAFETY: the kernel reads a header of eight bytes and, of this version, two sets of twelve;
    // both are as long and live until it returns.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    Errno::result(result)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_is_kept_but_that_of_the_token() {
        assert!(group_of(Path::new("/no/such/token")).is_empty());
        // Root's.
        assert!(group_of(Path::new("/proc/version")).is_empty());
        for group in getgroups()
            .unwrap()
            .into_iter()
            .filter(|group| group.as_raw() != 0)
        {
            let file = tempfile::NamedTempFile::new().unwrap();
            // Of a group that its user namespace doesn't know nobody can give a file to.
            if std::os::unix::fs::chown(file.path(), None, Some(group.as_raw())).is_ok() {
                assert_eq!(group_of(file.path()), [group]);
            }
        }
    }
}
