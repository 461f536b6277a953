//! A cgroup to try programs in.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sys::stat::Mode;

use super::directory::Cgroup;
use super::error::CgroupError;

/// A new, empty cgroup to try programs in; removed when dropped.
#[derive(Debug)]
pub(crate) struct ScratchCgroup {
    parent: OwnedFd,
    name: String,
    pub(crate) cgroup: Cgroup,
}

impl ScratchCgroup {
    pub(crate) fn create(parent: &Cgroup) -> Result<Self, CgroupError> {
        let name = format!(
            "weft-probe-{}-{:08x}",
            std::process::id(),
            fastrand::u32(..)
        );
        let open = |error: io::Error| CgroupError::Open {
            path: parent.path().join(&name),
            error,
        };
        let handle = parent.as_fd().try_clone_to_owned().map_err(open)?;
        nix::sys::stat::mkdirat(&handle, name.as_str(), Mode::S_IRWXU)
            .map_err(|error| open(error.into()))?;
        let cgroup = Cgroup::open_below(parent, Path::new(&name));
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
