//! Nodes of the cluster.

use std::net::IpAddr;
use std::sync::Arc;

use crate::workload::Locality;

/// A node of the cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Name of the Node object.
    pub name: Arc<str>,
    /// Region and zone.
    pub locality: Locality,
    /// Canonical addresses.
    pub addresses: Vec<IpAddr>,
}
