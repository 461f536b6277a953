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
mod held;
mod listening;
mod namespace;
mod node;
mod opening;
mod outbound;

pub use connection::{
    Connection, Direction, NamespacedConnection, OwnSocket, PendingConnection, PendingSlot,
    Purpose, SocketAddress, StoredDestination,
};
pub use finding::{Finding, Policy, Program, Verdict, decide};
pub use held::{Attempt, HeldConnection, HeldKey, HoldRate, ReachedKey};
pub use listening::{ListeningKey, ListeningPod, ListeningSocket};
pub use namespace::{
    ExcludedBlock, ExcludedPort, Listener, ListenerKey, NamespaceCookie, NamespaceEntry,
    NamespaceRole,
};
pub use node::{ANY_CGROUP, ANY_PROCESS, KubeletCgroup, NodePort, NodeProcess};
pub use opening::{OpeningNode, OpeningOwn, OpeningSlot};
pub use outbound::{
    OUTBOUND_PORT, address_for_client, is_for_client, is_proxy_address, proxy_address,
};

/// Raised whenever a type of this crate or the meaning of a map changes. Pinned
/// maps and links of another version are never reused.
pub const SCHEMA_VERSION: u32 = 8;

/// Where peers reach the proxy with HBONE.
pub const HBONE_PORT: u16 = 15008;

/// The most entries that the agent writes for one pod, and with them the sizes of its tables:
/// no pod, whatever it asks for, takes the room of another.
pub mod capacity {
    /// Captured pods for which each table has room for all that they may have. Kubernetes
    /// recommends 110 pods a node.
    pub const PODS: u32 = 1024;
    /// Namespaces, those of pods outside of the mesh among them.
    pub const NAMESPACES: u32 = 4 * PODS;
    /// Ports left alone, of one pod.
    pub const EXCLUDED_PORTS: u32 = 64;
    /// Address blocks left alone, of one pod.
    pub const EXCLUDED_BLOCKS: u32 = 64;
    /// Addresses of one pod.
    pub const ADDRESSES: u32 = 8;
    /// Ports of one pod that stay open to its node while no proxy runs.
    pub const NODE_PORTS: u32 = 64;
    /// Addresses at which applications of one pod listen.
    pub const LISTENING: u32 = 64;
    pub use crate::connection::PENDING_SLOTS;
    pub use crate::opening::OPENING_SLOTS;
}

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
    /// Socket storage: a [`NodeProcess`](crate::NodeProcess) on both ends of a connection to a
    /// captured pod by one of the node's own processes.
    pub const NODE_SOCKETS: &str = "NODE_SOCKETS";
    /// Socket storage of a listener: the [`NamespaceCookie`](crate::NamespaceCookie) of its
    /// namespace, where connections to unknown pods are refused.
    pub const LISTENER_NAMESPACES: &str = "LISTENER_NAMESPACES";
    /// Hash: [`PendingSlot`](crate::PendingSlot) to the
    /// [`PendingConnection`](crate::PendingConnection) that has it, between the client's connect
    /// and the proxy's accept.
    pub const PENDING_SLOTS: &str = "PENDING_SLOTS";
    /// Hash: [`NamespacedConnection`](crate::NamespacedConnection) to the original
    /// destination, where its slot belongs to another connection of the pod.
    pub const PENDING: &str = "PENDING";
    /// Hash: [`OpeningSlot`](crate::OpeningSlot) to the [`OpeningOwn`](crate::OpeningOwn) that has
    /// it, between the proxy's connect and the application's end.
    pub const OWN_SLOTS: &str = "OWN_SLOTS";
    /// Hash: [`OpeningSlot`](crate::OpeningSlot) to the [`OpeningNode`](crate::OpeningNode) that
    /// has it.
    pub const NODE_SLOTS: &str = "NODE_SLOTS";
    /// Hash, of those whose slot belongs to another one:
    /// [`Connection`](crate::Connection) of the proxy to an application, to the client's [`SocketAddress`](crate::SocketAddress).
    pub const OWN_CONNECTIONS: &str = "OWN_CONNECTIONS";
    /// Hash, of those whose slot belongs to another one, and of those to addresses of no pod that
    /// is known, where such are refused:
    /// [`Connection`](crate::Connection) of a process of the node, to the [`NodeProcess`](crate::NodeProcess).
    pub const NODE_CONNECTIONS: &str = "NODE_CONNECTIONS";
    /// Hash: [`KubeletCgroup`](crate::KubeletCgroup) to the process in it that is kubelet.
    pub const KUBELETS: &str = "KUBELETS";
    /// Hash: [`NodePort`](crate::NodePort) to nothing of interest.
    pub const NODE_PORTS: &str = "NODE_PORTS";
    /// Hash: [`HeldKey`](crate::HeldKey) to the [`HeldConnection`](crate::HeldConnection)
    /// whose application waits in `connect()`.
    pub const HELD: &str = "HELD";
    /// Hash: cookie of a pod's outbound listener to its [`HoldRate`](crate::HoldRate).
    pub const HOLD_RATES: &str = "HOLD_RATES";
    /// Hash: [`ReachedKey`](crate::ReachedKey) of a destination that has answered lately, to
    /// the time until which its connections aren't held, in nanoseconds of
    /// `CLOCK_MONOTONIC`.
    pub const REACHED: &str = "REACHED";
    /// Ring buffer: an [`Attempt`](crate::Attempt) for each connection that is held.
    pub const ATTEMPTS: &str = "ATTEMPTS";
    /// Hash: [`ListeningKey`](crate::ListeningKey) of an address at which an application listens,
    /// to its [`ListeningSocket`](crate::ListeningSocket).
    pub const LISTENING: &str = "LISTENING";
    /// Hash: [`NamespaceCookie`](crate::NamespaceCookie) of a captured pod to its
    /// [`ListeningPod`](crate::ListeningPod).
    pub const LISTENING_PODS: &str = "LISTENING_PODS";
    /// Ring buffer: a [`ListeningKey`](crate::ListeningKey) where a socket has begun or ended to
    /// listen, or the proxy has found nobody.
    pub const LISTENING_EVENTS: &str = "LISTENING_EVENTS";
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
    /// One byte, 0 or 1: whether the kernel has `bpf_skc_to_mptcp_sock` (5.19).
    pub const HAS_MPTCP: &str = "HAS_MPTCP";
    /// One byte, 0 or 1: whether `SK_LOOKUP` sees the ingress interface (5.17).
    pub const HAS_INGRESS_INTERFACE: &str = "HAS_INGRESS_INTERFACE";
}
