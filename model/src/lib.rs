//! The domain of the mesh: what runs where, who may talk to whom, and where a
//! connection goes.
//!
//! Everything here is pure: no I/O, no clock, no randomness, no shared state, no async
//! runtime. Whoever needs a choice passes the time and the random numbers in. The data plane
//! asks this crate what to do with a connection and then does it; the control plane fills it
//! from Kubernetes objects; both are tested without either.
//!
//! What there is:
//! * [`name`], [`address`], [`host`], [`identity`]: names, original destinations and address
//!   blocks, host patterns, SPIFFE IDs
//! * [`workload`], [`service`], [`external`]: pods, Services and their endpoints, services
//!   outside the cluster
//! * [`memberships`]: workloads' parts in policies, shared
//! * [`node`]: the cluster's nodes
//! * [`mtls`], [`egress`], [`ports`]: the modes of a workload, and the mesh's own ports
//! * [`access_log`]: lines of the access log, and filters of them
//! * [`idle`]: how long connections may be silent
//! * [`node_access`]: the probes of a pod, and what else its own node may send to it
//!
//! What is decided:
//! * [`mesh`]: the immutable snapshot that ties resources together: where a connection goes
//! * [`authorization`]: whether a connection may reach a workload
//! * [`authorization_policy`]: whether AuthorizationPolicies admit it, and its requests
//! * [`network_policy`]: whether NetworkPolicies admit it
//! * [`detect`]: which protocol and which host the first bytes of a connection show
//! * [`route`]: what routes of the Gateway API mean for a request
//! * [`traffic`]: what a TrafficPolicy means for it: breakers, budgets, limits, faults
//! * [`balance`]: which endpoint it goes to
//! * [`hash`]: the hash that all proxies share

pub mod access_log;
pub mod address;
pub mod authorization;
pub mod authorization_policy;
pub mod balance;
pub mod detect;
pub mod egress;
pub mod external;
#[cfg(test)]
mod fixtures;
pub mod hash;
pub mod host;
pub mod identity;
pub mod idle;
pub mod memberships;
pub mod mesh;
pub mod mtls;
pub mod name;
pub mod network_policy;
pub mod node;
pub mod node_access;
pub mod ports;
pub mod request_authentication;
pub mod revocation;
pub mod route;
pub mod service;
pub mod traffic;
pub mod workload;

pub use address::{AddressBlock, OriginalDestination};
pub use identity::{SpiffeId, TrustDomain};
pub use mesh::{Change, Mesh};
pub use name::NamespacedName;
