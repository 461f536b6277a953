//! The network namespace and the user of this process.

use std::fs::File;
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use super::error::RunError;

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

/// Becomes the proxy's user, without the capabilities that root has. Whoever is that one already
/// stays it.
///
/// # Errors
/// When it is somebody else, who can't become another.
pub(super) fn become_user(proxy_uid: u32) -> Result<(), RunError> {
    let user = Uid::effective();
    if user.as_raw() == proxy_uid {
        return Ok(());
    }
    if !user.is_root() {
        let user = user.as_raw();
        return Err(RunError::User { user, proxy_uid });
    }
    setgroups(&[])
        .and_then(|()| setgid(Gid::from_raw(proxy_uid)))
        .and_then(|()| setuid(Uid::from_raw(proxy_uid)))
        .map_err(|error| RunError::BecomeUser {
            proxy_uid,
            error: error.into(),
        })
}
