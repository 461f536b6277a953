//! How full the tables in the kernel are.

/// Numbers of connections that the programs see being opened: close to zero, also on a busy node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordCounts {
    /// Captured connections whose end at the proxy doesn't exist yet.
    pub pending: usize,
    /// The proxy's connections to applications.
    pub own_connections: usize,
    /// Connections of the node's processes to captured pods; where unknown pods are refused, all that
    /// such processes have to others.
    pub node_connections: usize,
}

/// Sizes of the agent's tables in the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TableSizes {
    /// Namespaces that the programs know, the node's own among them.
    pub namespaces: usize,
    /// Ports left alone, of all pods.
    pub excluded_ports: usize,
    /// Address blocks left alone, of all pods.
    pub excluded_blocks: usize,
    /// Addresses of captured pods.
    pub pod_addresses: usize,
    /// Listeners that arriving connections are given to.
    pub listeners: usize,
    /// Ports that stay open to the node while no proxy runs, of all pods.
    pub node_ports: usize,
    /// Addresses at which applications listen, of all pods.
    pub listening: usize,
}
