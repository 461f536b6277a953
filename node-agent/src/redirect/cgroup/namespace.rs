//! The node's own cgroup namespace.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use super::error::CgroupError;

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
