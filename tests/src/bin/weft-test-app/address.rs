//! Addresses as people write them.

use std::net::SocketAddr;

/// The peer as a person writes it: IPv4 without the mapping into IPv6.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
