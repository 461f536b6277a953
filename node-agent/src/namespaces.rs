//! The network namespaces of this node's pods.
//!
//! * [`NetworkNamespace`]: an open one; working inside it
//! * `PodNamespaces`: the one that a pod has now, and notice when that changes; found by
//!   its name or by the pod's processes (`NamespaceLocation`, `processes`)
//! * `NamespaceClaim`: keeps a namespace to one pod
//! * `Diag` lists and ends the TCP sockets of a namespace (sock_diag(7))
//! * `pod_of_cgroups`: the pod that a process belongs to

mod cgroup_path;
mod changes;
mod claims;
mod diag;
mod error;
mod location;
mod network_namespace;
mod pod_namespaces;
mod processes;

pub(crate) use self::cgroup_path::pod_of_cgroups;
pub(crate) use self::claims::NamespaceClaim;
pub(crate) use self::diag::{Diag, TcpSocket, TcpState};
pub(crate) use self::error::PodNamespaceError;
pub(crate) use self::location::NamespaceLocation;
pub use self::network_namespace::{NamespaceError, NamespaceIdentity, NetworkNamespace};
pub(crate) use self::pod_namespaces::PodNamespaces;
