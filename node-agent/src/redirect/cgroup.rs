//! The cgroup v2 hierarchy: the cgroup that the programs are attached to, and the one
//! that holds the pods.

mod directory;
mod error;
mod find;
mod hierarchy;
mod namespace;
mod scratch;

pub(super) use self::directory::Cgroup;
pub use self::error::CgroupError;
pub(super) use self::find::{Cgroups, open_configured};
pub use self::namespace::enter_node_cgroup_namespace;
pub(super) use self::scratch::ScratchCgroup;
