//! A TCP socket changes its state: what is known about one end of a connection is
//! carried over to the other.

use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB,
    BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_SOCK_OPS_TCP_LISTEN_CB,
};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::programs::SockOpsContext;
use weft_ebpf_common::{
    Connection, Direction, Finding, HeldConnection, HeldKey, NamespacedConnection,
    PendingConnection, PendingSlot, Policy, Purpose, SocketAddress, StoredDestination, decide,
    is_proxy_address,
};

use crate::context::{self, TCP_LISTEN, ops};
use crate::{held, listening, maps, opening, unknown};

const TCP_SYN_SENT: u32 = 2;
const TCP_CLOSE: u32 = 7;
/// What a sockops program returns in every case.
const DONE: u32 = 1;

/// Each event is a function of its own in the kernel, too: together they would have more stack than
/// Linux 6.1 allows a program, 512 bytes with each function's rounded up to 32.
#[inline(always)]
pub fn sockops(context: &SockOpsContext) -> u32 {
    match context.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => {
            if !connecting(context) {
                hold(context);
            }
        }
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => connected(context),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => {
            if !accepted_within(context) {
                accepted_from_outside(context);
            }
        }
        BPF_SOCK_OPS_TCP_LISTEN_CB => listens(context),
        BPF_SOCK_OPS_STATE_CB => {
            forget_pending(context);
            state_changed(context);
        }
        _ => {}
    }
    DONE
}

#[inline(never)]
fn listens(context: &SockOpsContext) {
    unknown::mark_listener(context);
    if listening::begin(context) {
        watch_close(context);
    }
}

/// The source port is chosen, the SYN not yet sent: whoever receives it finds these
/// records. False where it is an application's.
#[inline(never)]
fn connecting(context: &SockOpsContext) -> bool {
    let socket = ops::socket(context);
    if let Some(own) = maps::stored(&maps::OWN_SOCKETS, socket) {
        if own.purpose == Purpose::Application as u8 {
            opening::insert_own(ops::connection(context), own.client);
            watch_close(context);
        }
    } else if let Some(process) = maps::stored(&maps::NODE_SOCKETS, socket) {
        opening::insert_node(ops::connection(context), process);
        watch_close(context);
    } else {
        return false;
    }
    true
}

/// An application's SYN to the proxy is about to be sent: [`held`](crate::held) finds this
/// record when it arrives.
#[inline(never)]
fn hold(context: &SockOpsContext) {
    let Some(destination) = maps::stored(&maps::DESTINATIONS, ops::socket(context)) else {
        return;
    };
    let connection = ops::connection(context);
    let proxy_port = destination.proxy_port;
    if destination.is_held == 0 || !is_proxy_address(&connection.destination, proxy_port) {
        return;
    }
    let namespace = context::namespace(context);
    // SAFETY: the entry is replaced as a whole and read at once.
    let Some(entry) = (unsafe { maps::NAMESPACES.get(namespace) }) else {
        return;
    };
    let key = HeldKey {
        listener: held::listener(entry, connection.destination.is_v4()),
        connection,
    };
    // SAFETY: the helper takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    let held = HeldConnection::new(namespace.bytes, destination.address, now);
    // Without it the connection goes on at once.
    let _ = maps::HELD.insert(key, held, 0);
}

#[inline(always)]
fn watch_close(context: &SockOpsContext) {
    // Other programs may have asked for other events of this socket.
    let flags = context.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG;
    let _ = context.set_cb_flags(flags as i32);
}

/// The client's end: comes before the packet that lets the proxy's end be accepted.
#[inline(never)]
fn connected(context: &SockOpsContext) {
    let Some(destination) = maps::stored(&maps::DESTINATIONS, ops::socket(context)) else {
        return;
    };
    let connection = ops::connection(context);
    if destination.direction != Direction::Dialled as u8
        || !is_proxy_address(&connection.destination, destination.proxy_port)
    {
        return;
    }
    let key = NamespacedConnection {
        namespace: context::namespace(context).bytes,
        connection,
    };
    // Its application may hold back the packet that lets the proxy's end be accepted, and go.
    watch_close(context);
    let pending = PendingConnection {
        connection,
        destination: destination.address,
    };
    let slot = PendingSlot::new(&key);
    if maps::PENDING_SLOTS
        .insert(slot, pending, maps::BPF_NOEXIST)
        .is_err()
        && maps::PENDING.insert(key, destination.address, 0).is_err()
    {
        note(Finding::DestinationLost);
    }
}

/// The destination of a connection that the proxy's end is accepted of, or that has ended
/// before. It is kept no longer.
#[inline(always)]
fn take_pending(key: &NamespacedConnection) -> Option<SocketAddress> {
    let slot = PendingSlot::new(key);
    // SAFETY: written once, by the client's end, before the proxy's end exists.
    let pending = unsafe { maps::PENDING_SLOTS.get(slot) }.copied();
    if let Some(pending) = pending
        && pending.connection == key.connection
    {
        let _ = maps::PENDING_SLOTS.remove(slot);
        return Some(pending.destination);
    }
    // SAFETY: as above.
    let address = unsafe { maps::PENDING.get(key) }.copied()?;
    let _ = maps::PENDING.remove(key);
    Some(address)
}

/// A connection within the pod, by the proxy. False where it is another's.
#[inline(never)]
fn accepted_within(context: &SockOpsContext) -> bool {
    let connection = reversed(ops::connection(context));
    if !connection.destination.is_loopback() {
        return false;
    }
    if accepted_captured(context, connection) {
        return true;
    }
    let is_lost = is_of_proxy(context, &connection.destination);
    if is_lost {
        note(Finding::DestinationLost);
    }
    is_lost
}

/// Whether a loopback address is that of the pod's outbound listener.
#[inline(always)]
fn is_of_proxy(context: &SockOpsContext, address: &SocketAddress) -> bool {
    // SAFETY: the entry is replaced as a whole and read at once.
    let entry = unsafe { maps::NAMESPACES.get(context::namespace(context)) };
    entry.is_some_and(|entry| is_proxy_address(address, entry.outbound_port(address.is_v4())))
}

/// A connection within the pod that was captured is accepted: by the proxy, since nobody else
/// has its port. False where it wasn't captured.
#[inline(always)]
fn accepted_captured(context: &SockOpsContext, connection: Connection) -> bool {
    let key = NamespacedConnection {
        namespace: context::namespace(context).bytes,
        connection,
    };
    let Some(address) = take_pending(&key) else {
        return false;
    };
    let destination = StoredDestination::new(address, Direction::Accepted);
    let kept = maps::store(&maps::DESTINATIONS, ops::socket(context), destination);
    note(if kept {
        Finding::DestinationKept
    } else {
        Finding::DestinationLost
    });
    true
}

/// By an application, or by one of the proxy's inbound listeners.
#[inline(never)]
fn accepted_from_outside(context: &SockOpsContext) {
    let connection = &reversed(ops::connection(context));
    let socket = ops::socket(context);
    if let Some(client) = opening::take_own(connection) {
        let kept = maps::store(&maps::CLIENTS, socket, client);
        note(if kept {
            Finding::ClientKept
        } else {
            Finding::ClientLost
        });
    } else if let Some(process) = opening::take_node(connection) {
        let kept = maps::store(&maps::NODE_SOCKETS, socket, process);
        note(if kept {
            Finding::NodeKept
        } else {
            Finding::NodeLost
        });
    }
}

/// A captured connection within the pod has ended: where nobody accepted it, what is known of its
/// destination goes.
#[inline(never)]
fn forget_pending(context: &SockOpsContext) {
    let connection = ops::connection(context);
    let is_end = context.arg(0) != TCP_LISTEN && context.arg(1) == TCP_CLOSE;
    if is_end && connection.destination.is_loopback() {
        let namespace = context::namespace(context).bytes;
        let _ = take_pending(&NamespacedConnection {
            namespace,
            connection,
        });
    }
}

#[inline(never)]
fn state_changed(context: &SockOpsContext) {
    let before = context.arg(0);
    if before == TCP_LISTEN {
        return listening::tell(context::namespace(context), ops::local(context));
    }
    if context.arg(1) != TCP_CLOSE {
        return;
    }
    let connection = ops::connection(context);
    if opening::take_own(&connection).is_none() {
        let _ = opening::take_node(&connection);
    } else if before == TCP_SYN_SENT {
        // No application took it.
        listening::tell(context::namespace(context), connection.destination);
    }
}

/// The same connection as its other end sees it.
#[inline(always)]
fn reversed(connection: Connection) -> Connection {
    Connection {
        source: connection.destination,
        destination: connection.source,
    }
}

#[inline(always)]
fn note(finding: Finding) {
    let verdict = decide(
        finding,
        Policy {
            unknown_pods_refused: false,
            strict: false,
        },
    );
    maps::count(finding, verdict);
}
