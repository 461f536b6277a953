//! What is known about a network namespace.

const _: () = assert!(size_of::<NamespaceCookie>() == 8);
const _: () = assert!(size_of::<NamespaceEntry>() == 56);
const _: () = assert!(size_of::<ExcludedPort>() == 12);
const _: () = assert!(size_of::<ExcludedBlock>() == 24);
const _: () = assert!(size_of::<ListenerKey>() == 20);

/// Names a network namespace for as long as the machine runs (`SO_NETNS_COOKIE`,
/// `bpf_get_netns_cookie`). Never reused, unlike a namespace's inode.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct NamespaceCookie {
    /// In the machine's own byte order.
    pub bytes: [u8; 8],
}

impl NamespaceCookie {
    /// From the number that the kernel gives.
    #[inline(always)]
    pub const fn new(cookie: u64) -> Self {
        Self {
            bytes: cookie.to_ne_bytes(),
        }
    }

    /// The number that the kernel gives.
    #[inline(always)]
    pub const fn get(self) -> u64 {
        u64::from_ne_bytes(self.bytes)
    }
}

/// Whose a network namespace is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NamespaceRole {
    /// The node's own.
    Host = 1,
    /// A pod that is not in the mesh: left alone.
    Outside = 2,
    /// A pod whose outbound connections go to the proxy.
    Captured = 3,
    /// A pod that is to be captured and isn't: its outbound connections are refused.
    Enforced = 4,
}

/// What is known about a network namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NamespaceEntry {
    /// A [`NamespaceRole`].
    pub role: u8,
    /// 1 when it has entries in the map of excluded ports.
    pub has_excluded_ports: u8,
    /// 1 when it has entries in the map of excluded blocks.
    pub has_excluded_blocks: u8,
    /// 1 when the proxy takes the captured pod's connections on all of 127.0.0.0/8; an agent
    /// that knows of 127.0.0.1 only leaves it zero.
    pub is_spread: u8,
    /// The captured pod's first IPv4 address, mapped; zero where it has none.
    pub v4: [u8; 16],
    /// The captured pod's first IPv6 address; zero where it has none.
    pub v6: [u8; 16],
    /// Cookie of the proxy's outbound socket for IPv4 in the captured pod, on which
    /// connections can be held; zero where they can't.
    pub outbound_v4: [u8; 8],
    /// The same for IPv6.
    pub outbound_v6: [u8; 8],
    /// Port of the proxy's outbound listener for IPv4 in the captured pod, in network order:
    /// not always the usual one, which an application may have taken.
    pub port_v4: [u8; 2],
    /// The same for IPv6.
    pub port_v6: [u8; 2],
}

impl NamespaceEntry {
    /// An entry without exclusions and addresses.
    pub const fn new(role: NamespaceRole) -> Self {
        Self {
            role: role as u8,
            has_excluded_ports: 0,
            has_excluded_blocks: 0,
            is_spread: 0,
            v4: [0; 16],
            v6: [0; 16],
            outbound_v4: [0; 8],
            outbound_v6: [0; 8],
            port_v4: [0; 2],
            port_v6: [0; 2],
        }
    }

    /// Port of the proxy's outbound listener of a family, in network order.
    #[inline(always)]
    pub const fn outbound_port(&self, is_v4: bool) -> [u8; 2] {
        match is_v4 {
            true => self.port_v4,
            false => self.port_v6,
        }
    }
}

/// A destination port that a captured pod reaches directly.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ExcludedPort {
    /// Network namespace cookie.
    pub namespace: [u8; 8],
    /// Network order.
    pub port: [u8; 2],
    /// Always zero.
    pub reserved: [u8; 2],
}

impl ExcludedPort {
    /// A port, in network order, for one namespace.
    #[inline(always)]
    pub const fn new(namespace: NamespaceCookie, port: [u8; 2]) -> Self {
        Self {
            namespace: namespace.bytes,
            port,
            reserved: [0; 2],
        }
    }
}

/// The data of a trie key: a block of addresses of one namespace. A prefix of it is
/// the 64 bits of the cookie and as many of the address as the block has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ExcludedBlock {
    /// Network namespace cookie.
    pub namespace: [u8; 8],
    /// Sixteen bytes, IPv4 mapped.
    pub address: [u8; 16],
}

impl ExcludedBlock {
    /// Bits in front of the address.
    pub const NAMESPACE_BITS: u32 = 64;
    /// Bits of a whole key.
    pub const BITS: u32 = 192;

    /// An address of a namespace.
    #[inline(always)]
    pub const fn new(namespace: NamespaceCookie, address: [u8; 16]) -> Self {
        Self {
            namespace: namespace.bytes,
            address,
        }
    }
}

/// Which of the proxy's inbound listeners.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Listener {
    /// Everything that isn't HBONE.
    Plaintext = 1,
    /// Connections to [`HBONE_PORT`](crate::HBONE_PORT).
    Hbone = 2,
}

/// Finds the proxy's listener for a connection that arrives at a pod.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ListenerKey {
    /// The pod's address.
    pub address: [u8; 16],
    /// A [`Listener`].
    pub listener: u8,
    /// Always zero.
    pub reserved: [u8; 3],
}

impl ListenerKey {
    /// One listener of the pod with that address.
    #[inline(always)]
    pub const fn new(address: [u8; 16], listener: Listener) -> Self {
        Self {
            address,
            listener: listener as u8,
            reserved: [0; 3],
        }
    }
}

#[cfg(feature = "user")]
mod user {
    use super::*;

    // SAFETY: bytes only, no padding, every bit pattern is a value.
    unsafe impl aya::Pod for NamespaceCookie {}
    // SAFETY: as above.
    unsafe impl aya::Pod for NamespaceEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ExcludedPort {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ExcludedBlock {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ListenerKey {}
}
