//! A TCP socket changes its state: what is known about one end of a connection is
//! carried over to the other.

use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB,
    BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB,
};
use aya_ebpf::programs::SockOpsContext;
use weft_ebpf_common::{
    Connection, Direction, Finding, NamespacedConnection, OUTBOUND_PORT, Policy, Purpose,
    StoredDestination, decide,
};

use crate::connect::is_proxy;
use crate::context::{self, ops};
use crate::maps;

const TCP_CLOSE: u32 = 7;
/// What a sockops program returns in every case.
const DONE: u32 = 1;

#[inline(always)]
pub fn sockops(context: &SockOpsContext) -> u32 {
    match context.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => connecting(context),
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => connected(context),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => accepted(context),
        BPF_SOCK_OPS_STATE_CB => state_changed(context),
        _ => {}
    }
    DONE
}

/// The source port is chosen, the SYN not yet sent: whoever receives it finds these
/// records.
#[inline(always)]
fn connecting(context: &SockOpsContext) {
    let socket = ops::socket(context);
    if let Some(own) = maps::stored(&maps::OWN_SOCKETS, socket) {
        if own.purpose == Purpose::Application as u8 {
            let _ = maps::OWN_CONNECTIONS.insert(ops::connection(context), own.client, 0);
            watch_close(context);
        }
    } else if let Some(process) = maps::stored(&maps::NODE_SOCKETS, socket) {
        let _ = maps::NODE_CONNECTIONS.insert(ops::connection(context), process, 0);
        watch_close(context);
    }
}

#[inline(always)]
fn watch_close(context: &SockOpsContext) {
    // Other programs may have asked for other events of this socket.
    let flags = context.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG;
    let _ = context.set_cb_flags(flags as i32);
}

/// The client's end: comes before the packet that lets the proxy's end be accepted.
#[inline(always)]
fn connected(context: &SockOpsContext) {
    if ops::remote_port(context) != u32::from(OUTBOUND_PORT) {
        return;
    }
    let connection = ops::connection(context);
    if !is_proxy(&connection.destination) {
        return;
    }
    let Some(destination) = maps::stored(&maps::DESTINATIONS, ops::socket(context)) else {
        return;
    };
    if destination.direction != Direction::Dialled as u8 {
        return;
    }
    let key = NamespacedConnection {
        namespace: context::namespace(context).bytes,
        connection,
    };
    if maps::PENDING.insert(key, destination.address, 0).is_err() {
        note(Finding::DestinationLost);
    }
}

#[inline(always)]
fn accepted(context: &SockOpsContext) {
    let connection = reversed(ops::connection(context));
    if ops::local_port(context) == u32::from(OUTBOUND_PORT) && is_proxy(&connection.destination) {
        accepted_by_proxy(context, connection);
    } else {
        accepted_from_outside(context, &connection);
    }
}

#[inline(always)]
fn accepted_by_proxy(context: &SockOpsContext, connection: Connection) {
    let key = NamespacedConnection {
        namespace: context::namespace(context).bytes,
        connection,
    };
    // SAFETY: written once, by the client's end, before this end exists.
    let Some(address) = unsafe { maps::PENDING.get(key) }.copied() else {
        return note(Finding::DestinationLost);
    };
    let destination = StoredDestination::new(address, Direction::Accepted);
    let kept = maps::store(&maps::DESTINATIONS, ops::socket(context), destination);
    let _ = maps::PENDING.remove(key);
    note(if kept {
        Finding::DestinationKept
    } else {
        Finding::DestinationLost
    });
}

/// By an application, or by one of the proxy's inbound listeners.
#[inline(always)]
fn accepted_from_outside(context: &SockOpsContext, connection: &Connection) {
    let socket = ops::socket(context);
    // SAFETY: written once, before the SYN was sent.
    if let Some(client) = unsafe { maps::OWN_CONNECTIONS.get(connection) }.copied() {
        let kept = maps::store(&maps::CLIENTS, socket, client);
        let _ = maps::OWN_CONNECTIONS.remove(connection);
        note(if kept {
            Finding::ClientKept
        } else {
            Finding::ClientLost
        });
    // SAFETY: written once, before the SYN was sent.
    } else if let Some(process) = unsafe { maps::NODE_CONNECTIONS.get(connection) }.copied() {
        let kept = maps::store(&maps::NODE_SOCKETS, socket, process);
        let _ = maps::NODE_CONNECTIONS.remove(connection);
        note(if kept {
            Finding::NodeKept
        } else {
            Finding::NodeLost
        });
    }
}

#[inline(always)]
fn state_changed(context: &SockOpsContext) {
    if context.arg(1) != TCP_CLOSE {
        return;
    }
    let connection = ops::connection(context);
    if maps::OWN_CONNECTIONS.remove(connection).is_err() {
        let _ = maps::NODE_CONNECTIONS.remove(connection);
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
