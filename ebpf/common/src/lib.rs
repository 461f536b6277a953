//! What the kernel programs and the node agent agree on: the keys and values of
//! the maps, and what the programs decide.
//!
//! Every field is bytes, so that a type looks the same to both compilers and to a
//! map dump. Addresses are sixteen bytes, IPv4 as `::ffff:a.b.c.d` (RFC 4291
//! section 2.5.5.2), ports two bytes in network order, counters and cookies in
//! the machine's own order.

#![no_std]

mod connection;
pub mod finding;
mod namespace;

pub use connection::{
    Connection, Direction, NamespacedConnection, OwnSocket, Purpose, SocketAddress,
    StoredDestination,
};
pub use finding::{Finding, Policy, Program, Verdict, decide};
pub use namespace::{
    ExcludedBlock, ExcludedPort, Listener, ListenerKey, NamespaceCookie, NamespaceEntry,
    NamespaceRole,
};

/// Raised whenever a type of this crate or the meaning of a map changes. Pinned
/// maps and links of another version are never reused.
pub const SCHEMA_VERSION: u32 = 3;

/// Where the proxy takes outbound connections, on the loopback addresses of a
/// captured pod's namespace.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where peers reach the proxy with HBONE.
pub const HBONE_PORT: u16 = 15008;

/// Names of the maps, as user space finds them in the object.
pub mod map {
    /// Hash: [`NamespaceCookie`](crate::NamespaceCookie) to
    /// [`NamespaceEntry`](crate::NamespaceEntry).
    pub const NAMESPACES: &str = "NAMESPACES";
    /// Hash: [`ExcludedPort`](crate::ExcludedPort) to nothing of interest.
    pub const EXCLUDED_PORTS: &str = "EXCLUDED_PORTS";
    /// Longest-prefix trie: [`ExcludedBlock`](crate::ExcludedBlock) to 1 (left
    /// alone) or 0 (captured after all).
    pub const EXCLUDED_BLOCKS: &str = "EXCLUDED_BLOCKS";
    /// Hash: sixteen address bytes of captured pods to the
    /// [`NamespaceCookie`](crate::NamespaceCookie) of their pod.
    pub const POD_ADDRESSES: &str = "POD_ADDRESSES";
    /// Socket hash: [`ListenerKey`](crate::ListenerKey) to the proxy's listener.
    pub const LISTENERS: &str = "LISTENERS";
    /// Socket storage: the proxy's own sockets, [`OwnSocket`](crate::OwnSocket).
    pub const OWN_SOCKETS: &str = "OWN_SOCKETS";
    /// Socket storage: [`StoredDestination`](crate::StoredDestination).
    pub const DESTINATIONS: &str = "DESTINATIONS";
    /// Socket storage of an application's accepted socket: its client's
    /// [`SocketAddress`](crate::SocketAddress).
    pub const CLIENTS: &str = "CLIENTS";
    /// Socket storage: a number on both ends of a connection to a captured pod by one of
    /// the node's own processes.
    pub const NODE_SOCKETS: &str = "NODE_SOCKETS";
    /// Hash: [`NamespacedConnection`](crate::NamespacedConnection) to the original
    /// destination, between the client's connect and the proxy's accept.
    pub const PENDING: &str = "PENDING";
    /// Hash: [`Connection`](crate::Connection) of the proxy to an application, to
    /// the client's [`SocketAddress`](crate::SocketAddress).
    pub const OWN_CONNECTIONS: &str = "OWN_CONNECTIONS";
    /// Hash: [`Connection`](crate::Connection) of a process of the node to a
    /// captured pod.
    pub const NODE_CONNECTIONS: &str = "NODE_CONNECTIONS";
    /// Per-CPU array: how often each finding led to each verdict.
    pub const COUNTERS: &str = "COUNTERS";
}

/// Names of the constants that user space sets before it loads the programs.
pub mod constant {
    /// [`Policy::unknown_pods_refused`](crate::Policy): one byte, 0 or 1.
    pub const REFUSE_UNKNOWN_PODS: &str = "REFUSE_UNKNOWN_PODS";
    /// Eight bytes: cgroup id below which the processes of pods live; 0 for none.
    pub const PODS_CGROUP: &str = "PODS_CGROUP";
    /// One byte, 0 or 1: whether the kernel has `bpf_set_retval` (5.18).
    pub const HAS_SET_RETVAL: &str = "HAS_SET_RETVAL";
    /// One byte, 0 or 1: whether `SK_LOOKUP` sees the ingress interface (5.17).
    pub const HAS_INGRESS_INTERFACE: &str = "HAS_INGRESS_INTERFACE";
}
