//! Connections to pods that are being opened, by the proxy to its application or by a process of
//! the node, between the first packet and the end that it makes there.

use crate::{Connection, NodeProcess, SocketAddress};

const _: () = assert!(size_of::<OpeningSlot>() == 20);
const _: () = assert!(size_of::<OpeningOwn>() == 60);
const _: () = assert!(size_of::<OpeningNode>() == 48);

/// Connections to one address that may be on their way there with a place of their own.
pub const OPENING_SLOTS: u32 = 128;

/// A place for one of the connections that are just being opened to an address: those to one pod
/// take no place of those to another, however many there are.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct OpeningSlot {
    /// Sixteen bytes, IPv4 mapped.
    pub address: [u8; 16],
    /// One of [`OPENING_SLOTS`].
    pub slot: [u8; 4],
}

impl OpeningSlot {
    /// The place of a connection. Those that are opened one after the other have different ones.
    #[inline(always)]
    pub const fn new(of: &Connection) -> Self {
        let Connection {
            source,
            destination,
        } = of;
        // The kernel gives `connect()` every second port.
        let port = u16::from_be_bytes(source.port) >> 1;
        let number = port as u32 ^ destination.port[1] as u32;
        let slot = number % OPENING_SLOTS;
        Self {
            address: destination.address,
            slot: slot.to_ne_bytes(),
        }
    }
}

/// The proxy's connection to an application that has such a place.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OpeningOwn {
    /// As the proxy sees it.
    pub connection: Connection,
    /// The client that the application shall see.
    pub client: SocketAddress,
}

/// The connection of a process of the node that has such a place.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OpeningNode {
    /// As that process sees it.
    pub connection: Connection,
    /// The process.
    pub process: NodeProcess,
}

#[cfg(feature = "user")]
mod user {
    use super::*;

    // SAFETY: bytes only, no padding, every bit pattern is a value.
    unsafe impl aya::Pod for OpeningSlot {}
    // SAFETY: as above.
    unsafe impl aya::Pod for OpeningOwn {}
    // SAFETY: as above.
    unsafe impl aya::Pod for OpeningNode {}
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::HashSet;

    use super::*;

    #[test]
    fn connections_to_a_pod_have_places_of_their_own_until_there_are_many() {
        let to = |last: u8| SocketAddress::from_v4([10, 9, 0, last], [0, 80]);
        let slot = |port: u16, last: u8| {
            OpeningSlot::new(&Connection {
                source: SocketAddress::from_v4([10, 9, 0, 1], port.to_be_bytes()),
                destination: to(last),
            })
        };
        // As the kernel numbers them.
        let ports = || (0..OPENING_SLOTS).map(|number| 32_768 + 2 * number as u16);
        let slots: HashSet<_> = ports().map(|port| slot(port, 2)).collect();
        assert_eq!(slots.len(), OPENING_SLOTS as usize);
        let others: HashSet<_> = (0..=u16::MAX).map(|port| slot(port, 3)).collect();
        assert_eq!(others.len(), OPENING_SLOTS as usize);
        assert!(slots.is_disjoint(&others));
    }
}
