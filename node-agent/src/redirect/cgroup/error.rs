//! Errors of the cgroup v2 hierarchy.

use std::io;
use std::path::PathBuf;

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
