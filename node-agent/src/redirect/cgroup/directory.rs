//! One cgroup.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::error::CgroupError;

/// A cgroup of the v2 hierarchy, open.
#[derive(Debug)]
pub(crate) struct Cgroup {
    directory: OwnedFd,
    path: PathBuf,
    id: u64,
}

impl Cgroup {
    /// The id that the kernel's helpers give: on 64-bit machines the directory's inode.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The path, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a cgroup by its path in a mounted hierarchy.
    pub(super) fn open(path: &Path) -> Result<Self, CgroupError> {
        let file = File::open(path).map_err(|error| CgroupError::Open {
            path: path.to_owned(),
            error,
        })?;
        Self::from_directory(file.into(), path)
    }

    /// Opens a cgroup below another, whether the hierarchy is mounted or not.
    pub(crate) fn open_below(root: &Self, relative: &Path) -> Result<Self, CgroupError> {
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

    /// The cgroup of an open directory; the path is for messages only.
    pub(super) fn from_directory(directory: OwnedFd, path: &Path) -> Result<Self, CgroupError> {
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
