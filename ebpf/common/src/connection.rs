//! Addresses and connections.

const _: () = assert!(size_of::<SocketAddress>() == 20);
const _: () = assert!(size_of::<Connection>() == 40);
const _: () = assert!(size_of::<NamespacedConnection>() == 48);
const _: () = assert!(size_of::<PendingSlot>() == 12);
const _: () = assert!(size_of::<PendingConnection>() == 60);
const _: () = assert!(size_of::<StoredDestination>() == 40);
const _: () = assert!(size_of::<OwnSocket>() == 24);

/// An address with its port.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct SocketAddress {
    /// Sixteen bytes, IPv4 mapped.
    pub address: [u8; 16],
    /// Network order.
    pub port: [u8; 2],
    /// Always zero: map keys compare all bytes.
    pub reserved: [u8; 2],
}

/// `::ffff:0:0`, what the IPv4 addresses are mapped to.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

impl SocketAddress {
    /// From its bytes, the port in network order.
    #[inline(always)]
    pub const fn new(address: [u8; 16], port: [u8; 2]) -> Self {
        Self {
            address,
            port,
            reserved: [0; 2],
        }
    }

    /// From four bytes of IPv4.
    #[inline(always)]
    pub const fn from_v4(v4: [u8; 4], port: [u8; 2]) -> Self {
        let [a, b, c, d] = v4;
        Self::new([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d], port)
    }

    /// The port as a number.
    #[inline(always)]
    pub const fn port_number(&self) -> u16 {
        u16::from_be_bytes(self.port)
    }

    /// Whether this is an IPv4 address.
    #[inline(always)]
    pub fn is_v4(&self) -> bool {
        self.address[..12] == MAPPED
    }

    /// Whether a connection to it never leaves the namespace by its own nature:
    /// loopback, or unspecified, which the kernel takes for loopback.
    #[inline(always)]
    pub fn is_loopback(&self) -> bool {
        if self.is_v4() {
            return self.address[12] == 127 || self.address[12..] == [0; 4];
        }
        self.address[..15] == [0; 15] && self.address[15] <= 1
    }

    /// Whether it is the unspecified address of either family.
    #[inline(always)]
    pub fn is_unspecified(&self) -> bool {
        (self.is_v4() && self.address[12..] == [0; 4]) || self.address == [0; 16]
    }

    /// Whether it is in `fe80::/10`: meaningful only on one link, and only together
    /// with an interface.
    #[inline(always)]
    pub fn is_link_local_v6(&self) -> bool {
        self.address[0] == 0xfe && self.address[1] & 0xc0 == 0x80
    }
}

/// A connection as the end that opened it sees it.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Connection {
    /// The opener's own address.
    pub source: SocketAddress,
    /// Where the connection goes.
    pub destination: SocketAddress,
}

/// A connection within one network namespace. Both ends of a captured connection
/// are loopback addresses, which every namespace has.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct NamespacedConnection {
    /// Network namespace cookie.
    pub namespace: [u8; 8],
    /// As its opener sees it.
    pub connection: Connection,
}

/// Connections of one pod that may be on their way to the proxy with a place of their own.
pub const PENDING_SLOTS: u32 = 256;

/// A place for one of the connections that a pod is just opening: no pod takes that of another,
/// however many it opens.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct PendingSlot {
    /// Network namespace cookie.
    pub namespace: [u8; 8],
    /// One of [`PENDING_SLOTS`].
    pub slot: [u8; 4],
}

impl PendingSlot {
    /// The place of a connection. Those that are opened one after the other have different ones.
    #[inline(always)]
    pub const fn new(of: &NamespacedConnection) -> Self {
        let Connection {
            source,
            destination,
        } = &of.connection;
        // The kernel gives `connect()` every second port.
        let port = u16::from_be_bytes(source.port) >> 1;
        let number = port as u32 ^ destination.address[15] as u32;
        let slot = number % PENDING_SLOTS;
        Self {
            namespace: of.namespace,
            slot: slot.to_ne_bytes(),
        }
    }
}

/// Who has such a place, and where that connection leads.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PendingConnection {
    /// As its opener sees it.
    pub connection: Connection,
    /// The destination before it was rewritten.
    pub destination: SocketAddress,
}

/// Which end of a captured connection a socket is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// The application's socket, which dialled.
    Dialled = 1,
    /// The proxy's socket, which accepted.
    Accepted = 2,
}

/// Where an application wanted to connect to, kept with a socket.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StoredDestination {
    /// Before it was rewritten.
    pub address: SocketAddress,
    /// The pod's own address of the same family, which the application would have connected
    /// from; zero where none is known. Sixteen bytes, IPv4 mapped.
    pub source: [u8; 16],
    /// A [`Direction`].
    pub direction: u8,
    /// 1 when the connection is held until somebody answers at the destination.
    pub is_held: u8,
    /// Port of the proxy's listener that the connection was handed to, in network order; zero
    /// at the proxy's end.
    pub proxy_port: [u8; 2],
}

impl StoredDestination {
    /// A destination for one end of the connection.
    #[inline(always)]
    pub const fn new(address: SocketAddress, direction: Direction) -> Self {
        Self {
            address,
            source: [0; 16],
            direction: direction as u8,
            is_held: 0,
            proxy_port: [0; 2],
        }
    }
}

/// What the proxy opened a connection for.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// To the network.
    Upstream = 1,
    /// To the pod's own application.
    Application = 2,
}

/// Marks one of the proxy's own sockets. Only who holds the map can set it.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OwnSocket {
    /// The peer that the application shall see; zero unless `purpose` is
    /// [`Purpose::Application`].
    pub client: SocketAddress,
    /// A [`Purpose`].
    pub purpose: u8,
    /// Always zero.
    pub reserved: [u8; 3],
}

impl OwnSocket {
    /// A socket to the network.
    pub const fn upstream() -> Self {
        let client = SocketAddress::new([0; 16], [0; 2]);
        Self {
            client,
            purpose: Purpose::Upstream as u8,
            reserved: [0; 3],
        }
    }

    /// A socket to the pod's application on behalf of a client.
    pub const fn application(client: SocketAddress) -> Self {
        Self {
            client,
            purpose: Purpose::Application as u8,
            reserved: [0; 3],
        }
    }
}

#[cfg(feature = "user")]
mod user {
    use super::*;
    use core::net::{IpAddr, Ipv6Addr, SocketAddr};

    // SAFETY: bytes only, no padding, every bit pattern is a value.
    unsafe impl aya::Pod for SocketAddress {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Connection {}
    // SAFETY: as above.
    unsafe impl aya::Pod for NamespacedConnection {}
    // SAFETY: as above.
    unsafe impl aya::Pod for PendingSlot {}
    // SAFETY: as above.
    unsafe impl aya::Pod for PendingConnection {}
    // SAFETY: as above.
    unsafe impl aya::Pod for StoredDestination {}
    // SAFETY: as above.
    unsafe impl aya::Pod for OwnSocket {}

    impl From<SocketAddr> for SocketAddress {
        fn from(address: SocketAddr) -> Self {
            let bytes = match address.ip() {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            Self::new(bytes, address.port().to_be_bytes())
        }
    }

    impl From<SocketAddress> for SocketAddr {
        /// Canonical: IPv4-mapped addresses come out as IPv4.
        fn from(address: SocketAddress) -> Self {
            let ip = IpAddr::V6(Ipv6Addr::from(address.address)).to_canonical();
            Self::new(ip, address.port_number())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: [u8; 2] = 80u16.to_be_bytes();

    fn v6(text: &str) -> SocketAddress {
        SocketAddress::new(text.parse::<core::net::Ipv6Addr>().unwrap().octets(), PORT)
    }

    #[test]
    fn loopback_is_known_in_every_form() {
        for local in [
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:127.1.2.3",
            "::ffff:0.0.0.0",
        ] {
            assert!(v6(local).is_loopback(), "{local}");
        }
        for remote in [
            "::2",
            "1::1",
            "::ffff:128.0.0.1",
            "::ffff:10.0.0.127",
            "fd00::1",
            "::7f00:1",
        ] {
            assert!(!v6(remote).is_loopback(), "{remote}");
        }
    }

    #[test]
    fn connections_of_neighbouring_ports_and_addresses_have_places_of_their_own() {
        let slot = |port: u16, last| {
            let of = NamespacedConnection {
                namespace: [7; 8],
                connection: Connection {
                    source: SocketAddress::from_v4([127, 0, 0, 1], port.to_be_bytes()),
                    destination: SocketAddress::from_v4([127, 1, 1, last], PORT),
                },
            };
            u32::from_ne_bytes(PendingSlot::new(&of).slot)
        };
        let count = PENDING_SLOTS as u16;
        let mut seen = [false; 1 << 16];
        for port in (32_768..).step_by(2).take(usize::from(count)) {
            let slot = slot(port, 1);
            assert!(slot < count.into() && !seen[slot as usize]);
            seen[slot as usize] = true;
        }
        assert_ne!(slot(40_000, 1), slot(40_000, 2));
    }

    #[test]
    fn ipv4_and_its_mapped_form_are_one() {
        assert_eq!(
            SocketAddress::from_v4([10, 0, 0, 1], PORT),
            v6("::ffff:10.0.0.1")
        );
        assert!(v6("::ffff:10.0.0.1").is_v4());
        assert!(!v6("::10.0.0.1").is_v4());
    }

    #[test]
    fn link_local_is_fe80_to_febf() {
        assert!(v6("fe80::1").is_link_local_v6());
        assert!(v6("febf::1").is_link_local_v6());
        assert!(!v6("fec0::1").is_link_local_v6());
        assert!(!v6("fd00::1").is_link_local_v6());
    }
}
