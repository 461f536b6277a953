//! The proxy's addresses in a captured pod, all of them loopback: where it takes connections of
//! the application's, and from where it connects to the application.
//!
//! Were there one only, all connections of a pod would share its source ports, about 28,000, and
//! a source port that an application has bound would serve one destination. Each IPv4
//! destination has an address of its own in 127.0.0.0/8 instead, and so has each client. IPv6 has
//! no more than `::1`.

use crate::SocketAddress;

/// Where the proxy takes outbound connections, on the loopback addresses of a
/// captured pod's namespace, unless an application has taken that port: see
/// [`NamespaceEntry::port_v4`](crate::NamespaceEntry::port_v4).
pub const OUTBOUND_PORT: u16 = 15001;

const LOOPBACK_V6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// The proxy's address for a destination. An IPv4-mapped destination stays IPv4: the socket may
/// be bound to such a source. `is_spread` is false where the proxy listens on 127.0.0.1 alone. The
/// listener's port is in network order.
#[inline(always)]
pub fn proxy_address(
    destination: &SocketAddress,
    is_spread: bool,
    listener: [u8; 2],
) -> SocketAddress {
    if !destination.is_v4() {
        return SocketAddress::new(LOOPBACK_V6, listener);
    }
    if !is_spread {
        return SocketAddress::from_v4([127, 0, 0, 1], listener);
    }
    let [_, _, _, _, _, _, _, _, _, _, _, _, a, b, c, d] = destination.address;
    let address = u32::from_be_bytes([a, b, c, d]);
    let port = u32::from(destination.port_number());
    SocketAddress::from_v4(spread(mixed(mixed(address) ^ port)), listener)
}

/// The address of IPv4 from which the proxy connects to the application for a client: a pod has
/// as many connections of each client as there are source ports, as without a mesh.
pub fn address_for_client(client: &SocketAddress) -> [u8; 4] {
    let words = client.address.chunks_exact(4);
    spread(words.fold(0, |hash, word| match word {
        [a, b, c, d] => mixed(hash ^ u32::from_be_bytes([*a, *b, *c, *d])),
        _ => hash,
    }))
}

/// Whether the proxy may have connected from an address for a client.
#[inline(always)]
pub fn is_for_client(address: &SocketAddress) -> bool {
    address.is_v4() && address.address[12] == 127 && (1..=254).contains(&address.address[13])
}

/// One of the addresses in 127.0.0.0/8 that mean nothing else.
#[inline(always)]
const fn spread(hash: u32) -> [u8; 4] {
    let [first, second, third, _] = hash.to_be_bytes();
    // 127.0.0.0/24 has addresses with a meaning, 127.255.255.255 is a broadcast: 1 to 254.
    [127, 1 + ((first as u16 * 254) >> 8) as u8, second, third]
}

/// Whether an address is one of the proxy's, also in a pod whose connections aren't spread,
/// where its listener has that port, in network order.
#[inline(always)]
pub fn is_proxy_address(address: &SocketAddress, listener: [u8; 2]) -> bool {
    if address.port != listener {
        return false;
    }
    (address.is_v4() && address.address[12] == 127) || address.address == LOOPBACK_V6
}

/// MurmurHash3's finalizer: each bit decides about each, and no two numbers become one.
#[inline(always)]
const fn mixed(number: u32) -> u32 {
    let number = (number ^ (number >> 16)).wrapping_mul(0x85eb_ca6b);
    let number = (number ^ (number >> 13)).wrapping_mul(0xc2b2_ae35);
    number ^ (number >> 16)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::{HashMap, HashSet};

    use super::*;

    const PORT: [u8; 2] = crate::OUTBOUND_PORT.to_be_bytes();
    const OWN_V4: SocketAddress = SocketAddress::from_v4([127, 0, 0, 1], PORT);
    const OWN_V6: SocketAddress = SocketAddress::new(LOOPBACK_V6, PORT);

    fn v4(address: [u8; 4], port: u16) -> SocketAddress {
        SocketAddress::from_v4(address, port.to_be_bytes())
    }

    #[test]
    fn destinations_have_addresses_of_their_own_which_mean_nothing_else() {
        let mut seen = HashMap::new();
        let mut shared = 0;
        for host in 0..=255 {
            for port in 1..=256 {
                let proxy = proxy_address(&v4([10, 0, 3, host], port), true, PORT);
                let [.., a, b, c, d] = proxy.address;
                assert!(proxy.is_v4() && is_proxy_address(&proxy, PORT));
                assert_eq!(a, 127);
                assert!((1..=254).contains(&b), "{a}.{b}.{c}.{d}");
                shared += usize::from(seen.insert(proxy, (host, port)).is_some());
            }
        }
        // Of 65,536 in 16.6 million addresses, by chance 129 have one that another has.
        assert!(shared < 200, "{shared}");
    }

    #[test]
    fn the_addresses_of_neighbours_are_spread_over_all() {
        let addresses = (1..=4096).map(|port| proxy_address(&v4([10, 0, 0, 1], port), true, PORT));
        let second: HashSet<u8> = addresses.map(|proxy| proxy.address[13]).collect();
        assert_eq!(second.len(), 254);
    }

    #[test]
    fn without_the_whole_block_there_is_one_address_of_each_family() {
        let destination = v4([10, 0, 0, 1], 80);
        assert_eq!(
            proxy_address(&destination, false, PORT),
            v4([127, 0, 0, 1], 15001)
        );
        let mut v6 = destination;
        v6.address[0] = 0xfd;
        for is_spread in [false, true] {
            assert_eq!(proxy_address(&v6, is_spread, PORT), OWN_V6);
        }
    }

    #[test]
    fn clients_have_addresses_of_their_own_whichever_their_ports_are() {
        let mut clients = HashSet::new();
        for (a, b) in (0..=255).flat_map(|a| (0..=255).map(move |b| (a, b))) {
            for client in [
                v4([10, 0, a, b], 1),
                SocketAddress::new([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b], PORT),
            ] {
                let from = address_for_client(&client);
                assert!(
                    is_for_client(&SocketAddress::from_v4(from, PORT)),
                    "{from:?}"
                );
                let mut other = client;
                other.port = [1, 2];
                assert_eq!(address_for_client(&other), from);
                clients.insert(from);
            }
        }
        // By chance 515 of 131,072 in 16.6 million have one that another has.
        assert!(clients.len() > 130_000, "{}", clients.len());
        for other in [v4([127, 0, 0, 1], 1), v4([10, 1, 0, 1], 1), OWN_V6] {
            assert!(!is_for_client(&other), "{other:?}");
        }
    }

    #[test]
    fn nothing_else_is_the_proxys() {
        for other in [
            v4([127, 0, 0, 1], 15002),
            v4([10, 0, 0, 1], 15001),
            v4([0, 0, 0, 0], 15001),
            SocketAddress::new([0; 16], PORT),
        ] {
            assert!(!is_proxy_address(&other, PORT), "{other:?}");
        }
        for own in [OWN_V4, OWN_V6] {
            assert!(is_proxy_address(&own, PORT));
            assert!(!is_proxy_address(&own, 40001u16.to_be_bytes()), "elsewhere");
        }
    }
}
