//! An application asks for its own end of a connection: it shall see the pod's address, as
//! without the mesh, not the loopback address that leads to the proxy.

use aya_ebpf::programs::SockAddrContext;
use weft_ebpf_common::{Direction, SocketAddress};

use crate::context::{self, address};
use crate::maps;

/// These hooks can't refuse.
const ALLOW: i32 = 1;

#[inline(always)]
pub fn getsockname4(context: &SockAddrContext) -> i32 {
    if let Some(name) = name(context, &address::v4(context))
        && name.is_v4()
    {
        address::set_v4(context, &name);
    }
    ALLOW
}

#[inline(always)]
pub fn getsockname6(context: &SockAddrContext) -> i32 {
    if let Some(name) = name(context, &address::v6(context)) {
        address::set_v6(context, &name);
    }
    ALLOW
}

/// The address to name instead of the current one. The port is the socket's own.
#[inline(always)]
fn name(context: &SockAddrContext, current: &SocketAddress) -> Option<SocketAddress> {
    // An application that has bound an address of the pod's kept it. Unspecified is the name
    // of a socket whose connect has failed.
    if !current.is_loopback() || current.is_unspecified() {
        return None;
    }
    let socket = address::socket(context);
    let dialled = maps::stored(&maps::DESTINATIONS, socket)?;
    // The destination of an earlier attempt stays with a socket of MPTCP.
    if context::remote_port(socket) != u16::from_be_bytes(dialled.proxy_port) {
        return None;
    }
    // The proxy's own sockets carry a destination too, and must see the truth.
    if dialled.direction != Direction::Dialled as u8 || dialled.source == [0; 16] {
        return None;
    }
    Some(SocketAddress::new(dialled.source, current.port))
}
