//! Listening sockets of applications: a connection to a port of a captured pod where nobody
//! listens is refused before the proxy takes it.

use crate::SocketAddress;

const _: () = assert!(size_of::<ListeningKey>() == 28);
const _: () = assert!(size_of::<ListeningSocket>() == 12);
const _: () = assert!(size_of::<ListeningPod>() == 28);

/// An address at which an application of a pod listens; the unspecified one stands for all of
/// its family.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ListeningKey {
    /// Network namespace cookie.
    pub namespace: [u8; 8],
    /// The address that is bound.
    pub address: SocketAddress,
}

impl ListeningKey {
    /// An address of one namespace.
    #[inline(always)]
    pub const fn new(namespace: [u8; 8], address: SocketAddress) -> Self {
        Self { namespace, address }
    }
}

/// What is known of the sockets that listen at an address.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ListeningSocket {
    /// When the kernel saw the latest one begin, in nanoseconds of `CLOCK_MONOTONIC`; zero for
    /// one that the agent has found.
    pub since: [u8; 8],
    /// 1 when those at the unspecified address of IPv6 take no connections of IPv4.
    pub is_only_v6: u8,
    /// Always zero.
    pub reserved: [u8; 3],
}

/// A pod whose listening sockets are followed.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ListeningPod {
    /// 1 when every socket of the pod that listens is in the table: nobody listens at an
    /// address that isn't there. Zero when some found no room, or not all were looked for yet.
    pub is_complete: u8,
    /// Always zero.
    pub reserved: [u8; 3],
    /// Entries of the pod's.
    pub entries: [u8; 4],
    /// When the present interval of events began, in nanoseconds of `CLOCK_MONOTONIC`.
    pub began: [u8; 8],
    /// Events that the agent was told of since.
    pub events: [u8; 4],
    /// When the agent was last told of a connection that was refused, in nanoseconds of
    /// `CLOCK_MONOTONIC`.
    pub refused_at: [u8; 8],
}

impl ListeningPod {
    /// Nanoseconds of an interval.
    pub const INTERVAL: u64 = 100_000_000;
    /// Events that the agent is told of in one, so that no pod's fill the buffer for others.
    pub const MOST_EVENTS: u32 = 32;
    /// Nanoseconds between two refusals that the agent is told of.
    pub const BETWEEN_REFUSALS: u64 = 1_000_000_000;
}

#[cfg(feature = "user")]
mod user {
    use super::*;

    // SAFETY: bytes only, no padding, every bit pattern is a value.
    unsafe impl aya::Pod for ListeningKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ListeningSocket {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ListeningPod {}
}
