//! An application asks who is at the other end: it shall see what it would see
//! without the mesh.

use aya_ebpf::programs::SockAddrContext;
use weft_ebpf_common::{Direction, NamespaceRole, SocketAddress, is_for_client, is_proxy_address};

use crate::context::{self, address};
use crate::maps;

/// These hooks can't refuse.
const ALLOW: i32 = 1;

#[inline(always)]
pub fn getpeername4(context: &SockAddrContext) -> i32 {
    let current = address::v4(context);
    // An IPv4 socket can't name a client that came by IPv6.
    let peer = peer(context, &current).filter(SocketAddress::is_v4);
    if let Some(peer) = peer.or_else(|| own(context, &current)) {
        address::set_v4(context, &peer);
    }
    ALLOW
}

#[inline(always)]
pub fn getpeername6(context: &SockAddrContext) -> i32 {
    let current = address::v6(context);
    if let Some(peer) = peer(context, &current).or_else(|| own(context, &current)) {
        address::set_v6(context, &peer);
    }
    ALLOW
}

/// The peer to name instead of the current one.
#[inline(always)]
fn peer(context: &SockAddrContext, current: &SocketAddress) -> Option<SocketAddress> {
    let socket = address::socket(context);
    if let Some(client) = maps::stored(&maps::CLIENTS, socket) {
        return Some(client);
    }
    let dialled = maps::stored(&maps::DESTINATIONS, socket)?;
    // The proxy's own sockets carry a destination too, and must see the truth.
    let is_captured = dialled.direction == Direction::Dialled as u8
        && is_proxy_address(current, dialled.proxy_port);
    is_captured.then_some(dialled.address)
}

/// The pod's own address for a client that can't be named, or that the kernel has forgotten: many
/// applications trust loopback addresses, and clients come from elsewhere.
#[inline(always)]
fn own(context: &SockAddrContext, current: &SocketAddress) -> Option<SocketAddress> {
    let own = context::local_v4(address::socket(context))?;
    if !is_for_client(current) || own[0] == 127 {
        return None;
    }
    // SAFETY: the entry is replaced as a whole and read at once.
    let entry = unsafe { maps::NAMESPACES.get(context::namespace(context)) }?;
    let is_captured = entry.role == NamespaceRole::Captured as u8;
    is_captured.then_some(SocketAddress::from_v4(own, current.port))
}
