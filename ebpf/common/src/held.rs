//! Connections that are held: the application waits in `connect()` until the proxy knows
//! whether anybody answers at the destination, so that it learns of a refusal from
//! `connect()` itself.

use crate::{Connection, SocketAddress};

const _: () = assert!(size_of::<HeldKey>() == 48);
const _: () = assert!(size_of::<HeldConnection>() == 40);
const _: () = assert!(size_of::<HoldRate>() == 12);
const _: () = assert!(size_of::<ReachedKey>() == 28);
const _: () = assert!(size_of::<Attempt>() == 140);

/// Finds a held connection.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct HeldKey {
    /// Socket cookie of the proxy's outbound listener, which tells the pod.
    pub listener: [u8; 8],
    /// From the application's end to the proxy's, which tells the destination where the same
    /// source has several.
    pub connection: Connection,
}

/// What is known of a held connection.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeldConnection {
    /// Network namespace cookie.
    pub namespace: [u8; 8],
    /// Where the application wanted to connect to.
    pub destination: SocketAddress,
    /// When its first SYN was sent, in nanoseconds of `CLOCK_MONOTONIC`.
    pub began: [u8; 8],
    /// 1 once the proxy was told of it.
    pub is_told: u8,
    /// Always zero.
    pub reserved: [u8; 3],
}

impl HeldConnection {
    /// Nanoseconds for which SYNs are dropped at the most. The proxy gives up connecting after
    /// 10 seconds and answers; without an answer by then there will be none.
    pub const LONGEST: u64 = 13_000_000_000;

    /// One whose first SYN is about to be sent.
    #[inline(always)]
    pub const fn new(namespace: [u8; 8], destination: SocketAddress, now: u64) -> Self {
        Self {
            namespace,
            destination,
            began: now.to_ne_bytes(),
            is_told: 0,
            reserved: [0; 3],
        }
    }
}

/// What a pod's listener has held lately: a share of what the proxy is told, so that no pod's
/// applications fill it for those of others.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HoldRate {
    /// When its present interval began, in nanoseconds of `CLOCK_MONOTONIC`.
    pub began: [u8; 8],
    /// Connections held since.
    pub held: [u8; 4],
}

impl HoldRate {
    /// Nanoseconds of an interval.
    pub const INTERVAL: u64 = 100_000_000;
    /// Connections that are held in one; others go on at once.
    pub const MOST: u32 = 128;
}

/// A destination of one pod.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ReachedKey {
    /// Network namespace cookie.
    pub namespace: [u8; 8],
    /// Where applications connect to.
    pub destination: SocketAddress,
}

/// What the proxy is told of a held connection, and what it needs to let it go on.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// Network namespace cookie.
    pub namespace: [u8; 8],
    /// Where the connection is found.
    pub key: HeldKey,
    /// Where the application wanted to connect to.
    pub destination: SocketAddress,
    /// Bytes of `segment` that count.
    pub length: [u8; 4],
    /// The SYN, from its TCP header on (RFC 9293 section 3.1).
    pub segment: [u8; Self::LONGEST],
}

impl Attempt {
    /// The longest TCP header, which is all of a SYN.
    pub const LONGEST: usize = 60;
}

#[cfg(feature = "user")]
mod user {
    use super::*;

    // SAFETY: bytes only, no padding, every bit pattern is a value.
    unsafe impl aya::Pod for HeldKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for HeldConnection {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ReachedKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Attempt {}
}
