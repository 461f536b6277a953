//! The kernel's half of the node agent: hands the connections of captured pods to
//! the proxy, both ways. One line per hook; the bodies are in the modules.
//!
//! * a captured pod connects: [`connect`] keeps the destination and sends it to the
//!   proxy's listener in the same network namespace, [`sockops`] carries the
//!   destination over to the socket that the proxy accepts
//! * someone connects to a captured pod: [`lookup`] gives the connection to the proxy
//! * the proxy connects to the application: [`sockops`] gives the application's socket
//!   the client's address, [`peer_name`] answers with it
//! * the proxy or a process of the node connects to a pod: [`opening`] keeps that for the other
//!   end
//! * a captured pod asks for the local address of its connection: [`socket_name`] answers
//!   with the pod's own
//! * an application begins to listen, or ends it: [`listening`] keeps where, so that [`lookup`]
//!   refuses connections to where nobody does
//! * a connection arrives at a pod that nobody has told of: [`unknown`] drops it, where that is
//!   wanted
//! * nobody knows whether a destination answers: [`held`] lets the application wait in
//!   `connect()` until the proxy does

#![no_std]
#![no_main]

mod config;
mod connect;
mod context;
mod held;
mod listening;
mod lookup;
mod maps;
mod opening;
mod packet;
mod peer_name;
mod socket_name;
mod sockops;
mod unknown;

use aya_ebpf::macros::{cgroup_skb, cgroup_sock_addr, sk_lookup, sock_ops, socket_filter};
use aya_ebpf::programs::{SkBuffContext, SkLookupContext, SockAddrContext, SockOpsContext};

/// An IPv4 socket connects.
#[cgroup_sock_addr(connect4)]
pub fn connect4(context: SockAddrContext) -> i32 {
    connect::connect4(&context)
}

/// An IPv6 socket connects, perhaps to an IPv4-mapped address.
#[cgroup_sock_addr(connect6)]
pub fn connect6(context: SockAddrContext) -> i32 {
    connect::connect6(&context)
}

/// An IPv4 socket is asked for its peer, by getpeername() or accept().
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(context: SockAddrContext) -> i32 {
    peer_name::getpeername4(&context)
}

/// An IPv6 socket is asked for its peer.
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(context: SockAddrContext) -> i32 {
    peer_name::getpeername6(&context)
}

/// An IPv4 socket is asked for its own address.
#[cgroup_sock_addr(getsockname4)]
pub fn getsockname4(context: SockAddrContext) -> i32 {
    socket_name::getsockname4(&context)
}

/// An IPv6 socket is asked for its own address.
#[cgroup_sock_addr(getsockname6)]
pub fn getsockname6(context: SockAddrContext) -> i32 {
    socket_name::getsockname6(&context)
}

/// A TCP socket changes its state.
#[sock_ops]
pub fn socket_events(context: SockOpsContext) -> u32 {
    sockops::sockops(&context)
}

/// A connection arrives at a permissive pod.
#[sk_lookup]
pub fn lookup_permissive(context: SkLookupContext) -> u32 {
    lookup::lookup(&context, false)
}

/// A connection arrives at a strict pod.
#[sk_lookup]
pub fn lookup_strict(context: SkLookupContext) -> u32 {
    lookup::lookup(&context, true)
}

/// A packet arrives at a socket of a pod. Attached only where connections to unknown pods are
/// refused.
#[cgroup_skb(ingress)]
pub fn ingress(context: SkBuffContext) -> i32 {
    unknown::ingress(&context)
}

/// A segment arrives at the proxy's outbound listener.
#[socket_filter]
pub fn hold(context: SkBuffContext) -> i64 {
    held::hold(&context)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier lets no program through that could come here.
    loop {}
}

/// The kernel gives its helpers to programs under a licence it is compatible with.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
