//! The hooks' contexts, as canonical addresses.
//!
//! Fields are read one by one and volatile: LLVM would otherwise merge neighbouring
//! loads, or fold the branches for IPv4 and IPv6 into one load at a computed offset,
//! and the verifier allows neither.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{__sk_buff, bpf_sk_lookup, bpf_sock, bpf_sock_addr, bpf_sock_ops};
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::programs::{SkBuffContext, SkLookupContext, SockAddrContext, SockOpsContext};
use weft_ebpf_common::{Connection, NamespaceCookie, SocketAddress};

pub const IPPROTO_TCP: u32 = 6;
/// Every namespace has its loopback interface under this number.
pub const LOOPBACK_INTERFACE: u32 = 1;
/// State of a socket that listens.
pub const TCP_LISTEN: u32 = 10;
const AF_INET: u32 = 2;

/// Reads one field of a context.
macro_rules! field {
    ($context:expr, $($field:tt)+) => {
        // SAFETY: the kernel hands every hook a context of its type; the verifier checks
        // the offset.
        unsafe { core::ptr::read_volatile(&raw const (*$context).$($field)+) }
    };
}

/// Writes one field of a context.
macro_rules! set_field {
    ($context:expr, $value:expr, $($field:tt)+) => {
        // SAFETY: as for reading; the verifier checks that the field can be written.
        unsafe { core::ptr::write_volatile(&raw mut (*$context).$($field)+, $value) }
    };
}

#[inline(always)]
fn words(words: [u32; 4]) -> [u8; 16] {
    let [a, b, c, d] = words;
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&a.to_ne_bytes());
    bytes[4..8].copy_from_slice(&b.to_ne_bytes());
    bytes[8..12].copy_from_slice(&c.to_ne_bytes());
    bytes[12..].copy_from_slice(&d.to_ne_bytes());
    bytes
}

#[inline(always)]
fn word(bytes: &[u8; 16], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// A port that the context holds as a 32-bit field in network order.
#[inline(always)]
fn network_port(field: u32) -> [u8; 2] {
    (field as u16).to_ne_bytes()
}

/// The network namespace of a hook's socket.
#[inline(always)]
pub fn namespace(context: &impl EbpfContext) -> NamespaceCookie {
    // SAFETY: the helper takes the hook's context.
    NamespaceCookie::new(unsafe { bpf_get_netns_cookie(context.as_ptr()) })
}

/// The port that a socket is connected to, 0 for none.
#[inline(always)]
pub fn remote_port(socket: *mut bpf_sock) -> u16 {
    if socket.is_null() {
        return 0;
    }
    u16::from_be(field!(socket, dst_port))
}

/// The interface that a socket is bound to, 0 for none.
#[inline(always)]
pub fn bound_interface(socket: *mut bpf_sock) -> u32 {
    if socket.is_null() {
        return 0;
    }
    field!(socket, bound_dev_if)
}

/// The state of a socket, 0 without one.
#[inline(always)]
pub fn state(socket: *mut bpf_sock) -> u32 {
    if socket.is_null() {
        return 0;
    }
    field!(socket, state)
}

/// The address of IPv4 that a socket is bound to, none for none and without a socket. The kernel
/// keeps it beside the mapped one of a socket for both families.
#[inline(always)]
pub fn local_v4(socket: *mut bpf_sock) -> Option<[u8; 4]> {
    if socket.is_null() {
        return None;
    }
    let address = field!(socket, src_ip4);
    (address != 0).then(|| address.to_ne_bytes())
}

/// `connect`, `getpeername` and `getsockname` hooks.
pub mod address {
    use super::*;

    #[inline(always)]
    pub fn protocol(context: &SockAddrContext) -> u32 {
        let raw: *mut bpf_sock_addr = context.sock_addr;
        field!(raw, protocol)
    }

    #[inline(always)]
    pub fn socket(context: &SockAddrContext) -> *mut bpf_sock {
        // SAFETY: the context is valid for the whole run of the hook.
        unsafe { (*context.sock_addr).__bindgen_anon_1.sk }
    }

    #[inline(always)]
    pub fn v4(context: &SockAddrContext) -> SocketAddress {
        let raw = context.sock_addr;
        let address = field!(raw, user_ip4);
        SocketAddress::from_v4(address.to_ne_bytes(), network_port(field!(raw, user_port)))
    }

    #[inline(always)]
    pub fn v6(context: &SockAddrContext) -> SocketAddress {
        let raw = context.sock_addr;
        let address = words([
            field!(raw, user_ip6[0]),
            field!(raw, user_ip6[1]),
            field!(raw, user_ip6[2]),
            field!(raw, user_ip6[3]),
        ]);
        SocketAddress::new(address, network_port(field!(raw, user_port)))
    }

    /// Replaces the address of an IPv4 socket. `to` must be IPv4.
    #[inline(always)]
    pub fn set_v4(context: &SockAddrContext, to: &SocketAddress) {
        let raw = context.sock_addr;
        set_field!(raw, word(&to.address, 12), user_ip4);
        set_field!(raw, u32::from(u16::from_ne_bytes(to.port)), user_port);
    }

    #[inline(always)]
    pub fn set_v6(context: &SockAddrContext, to: &SocketAddress) {
        let raw = context.sock_addr;
        set_field!(raw, word(&to.address, 0), user_ip6[0]);
        set_field!(raw, word(&to.address, 4), user_ip6[1]);
        set_field!(raw, word(&to.address, 8), user_ip6[2]);
        set_field!(raw, word(&to.address, 12), user_ip6[3]);
        set_field!(raw, u32::from(u16::from_ne_bytes(to.port)), user_port);
    }
}

/// The `sockops` hook.
pub mod ops {
    use super::*;

    /// The connection with the hook's own socket as its source.
    #[inline(always)]
    pub fn connection(context: &SockOpsContext) -> Connection {
        let raw: *mut bpf_sock_ops = context.ops;
        // `local_port` is in host order, `remote_port` in network order.
        let local_port = (field!(raw, local_port) as u16).to_be_bytes();
        let remote_port = network_port_of_u32(field!(raw, remote_port));
        let (local4, remote4) = (field!(raw, local_ip4), field!(raw, remote_ip4));
        let local6 = [
            field!(raw, local_ip6[0]),
            field!(raw, local_ip6[1]),
            field!(raw, local_ip6[2]),
            field!(raw, local_ip6[3]),
        ];
        let remote6 = [
            field!(raw, remote_ip6[0]),
            field!(raw, remote_ip6[1]),
            field!(raw, remote_ip6[2]),
            field!(raw, remote_ip6[3]),
        ];
        if field!(raw, family) == AF_INET {
            Connection {
                source: SocketAddress::from_v4(local4.to_ne_bytes(), local_port),
                destination: SocketAddress::from_v4(remote4.to_ne_bytes(), remote_port),
            }
        } else {
            Connection {
                source: SocketAddress::new(words(local6), local_port),
                destination: SocketAddress::new(words(remote6), remote_port),
            }
        }
    }

    /// The hook's own end.
    #[inline(always)]
    pub fn local(context: &SockOpsContext) -> SocketAddress {
        let raw: *mut bpf_sock_ops = context.ops;
        let port = (field!(raw, local_port) as u16).to_be_bytes();
        let v4 = field!(raw, local_ip4);
        let v6 = [
            field!(raw, local_ip6[0]),
            field!(raw, local_ip6[1]),
            field!(raw, local_ip6[2]),
            field!(raw, local_ip6[3]),
        ];
        if field!(raw, family) == AF_INET {
            SocketAddress::from_v4(v4.to_ne_bytes(), port)
        } else {
            SocketAddress::new(words(v6), port)
        }
    }

    /// Here the port in network order fills the upper half of a big-endian word.
    #[inline(always)]
    fn network_port_of_u32(field: u32) -> [u8; 2] {
        (u32::from_be(field) as u16).to_be_bytes()
    }

    #[inline(always)]
    pub fn socket(context: &SockOpsContext) -> *mut bpf_sock {
        // SAFETY: the context is valid for the whole run of the hook.
        unsafe { (*context.ops).__bindgen_anon_2.sk }
    }
}

/// The `sk_lookup` hook.
pub mod lookup {
    use super::*;

    #[inline(always)]
    pub fn protocol(context: &SkLookupContext) -> u32 {
        field!(context.lookup, protocol)
    }

    #[inline(always)]
    pub fn ingress_interface(context: &SkLookupContext) -> u32 {
        field!(context.lookup, ingress_ifindex)
    }

    /// The arriving connection, with the remote end as its source.
    #[inline(always)]
    pub fn connection(context: &SkLookupContext) -> Connection {
        let raw: *mut bpf_sk_lookup = context.lookup;
        // Here it is the other way round: `remote_port` is a 16-bit field in network order.
        let remote_port = field!(raw, remote_port).to_ne_bytes();
        let local_port = (field!(raw, local_port) as u16).to_be_bytes();
        let (local4, remote4) = (field!(raw, local_ip4), field!(raw, remote_ip4));
        let local6 = [
            field!(raw, local_ip6[0]),
            field!(raw, local_ip6[1]),
            field!(raw, local_ip6[2]),
            field!(raw, local_ip6[3]),
        ];
        let remote6 = [
            field!(raw, remote_ip6[0]),
            field!(raw, remote_ip6[1]),
            field!(raw, remote_ip6[2]),
            field!(raw, remote_ip6[3]),
        ];
        if field!(raw, family) == AF_INET {
            Connection {
                source: SocketAddress::from_v4(remote4.to_ne_bytes(), remote_port),
                destination: SocketAddress::from_v4(local4.to_ne_bytes(), local_port),
            }
        } else {
            Connection {
                source: SocketAddress::new(words(remote6), remote_port),
                destination: SocketAddress::new(words(local6), local_port),
            }
        }
    }
}

/// The `cgroup_skb` hook.
pub mod packet {
    use super::*;

    #[inline(always)]
    pub fn socket(context: &SkBuffContext) -> *mut bpf_sock {
        // SAFETY: the context is valid for the whole run of the hook.
        unsafe { (*context.skb.skb).__bindgen_anon_2.sk }
    }

    /// The interface that the packet came over.
    #[inline(always)]
    pub fn interface(context: &SkBuffContext) -> u32 {
        let raw: *mut __sk_buff = context.skb.skb;
        field!(raw, ifindex)
    }
}
