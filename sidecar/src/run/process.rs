//! The network namespace, the user and the capabilities of this process.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_keepcaps;
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

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

/// Becomes the proxy's user, without the capabilities that root has but the one that TPROXY needs.
/// Whoever is that one already stays it, with what it has.
///
/// # Errors
/// When it is somebody else, who can't become another.
pub(super) fn become_user(proxy_uid: u32, capture: Capture) -> Result<(), RunError> {
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
    set_keepcaps(keeps_one)
        .and_then(|()| setgroups(&[]))
        .and_then(|()| setgid(Gid::from_raw(proxy_uid)))
        .and_then(|()| setuid(Uid::from_raw(proxy_uid)))
        .map_err(|error| failed(error.into()))?;
    match keeps_one {
        true => keep_net_raw().map_err(failed),
        false => Ok(()),
    }
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
