//! An application asks who is at the other end: it shall see what it would see
//! without the mesh.

use aya_ebpf::programs::SockAddrContext;
use weft_ebpf_common::{Direction, SocketAddress};

use crate::connect::is_proxy;
use crate::context::address;
use crate::maps;

/// These hooks can't refuse.
const ALLOW: i32 = 1;

#[inline(always)]
pub fn getpeername4(context: &SockAddrContext) -> i32 {
    // An IPv4 socket can't name a client that came by IPv6.
    if let Some(peer) = peer(context, &address::v4(context))
        && peer.is_v4()
    {
        address::set_v4(context, &peer);
    }
    ALLOW
}

#[inline(always)]
pub fn getpeername6(context: &SockAddrContext) -> i32 {
    if let Some(peer) = peer(context, &address::v6(context)) {
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
    // The proxy's own sockets carry a destination too, and must see the truth.
    if !is_proxy(current) {
        return None;
    }
    let dialled = maps::stored(&maps::DESTINATIONS, socket)?;
    (dialled.direction == Direction::Dialled as u8).then_some(dialled.address)
}
