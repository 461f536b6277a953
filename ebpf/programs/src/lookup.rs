//! A connection arrives in the namespace of a captured pod: which socket takes it.

use aya_ebpf::programs::SkLookupContext;
use aya_log_ebpf::debug;
use weft_ebpf_common::{
    Connection, Finding, HBONE_PORT, Listener, ListenerKey, NodePort, Verdict, decide,
};

use crate::context::{IPPROTO_TCP, LOOPBACK_INTERFACE, lookup as fields};
use crate::{config, listening, maps, opening};

const SK_DROP: u32 = 0;
const SK_PASS: u32 = 1;

#[inline(always)]
pub fn lookup(context: &SkLookupContext, strict: bool) -> u32 {
    if fields::protocol(context) != IPPROTO_TCP {
        return SK_PASS;
    }
    let connection = fields::connection(context);
    let finding = inspect(context, &connection);
    let verdict = decide(finding, config::policy(strict));
    maps::count(finding, verdict);
    debug!(
        context,
        "lookup {:i}:{} from {:i}:{} finding {} verdict {}",
        connection.destination.address,
        connection.destination.port_number(),
        connection.source.address,
        connection.source.port_number(),
        finding as u8,
        verdict as u8
    );
    match verdict {
        // Captured: the listener has been assigned.
        Verdict::Pass | Verdict::Capture => SK_PASS,
        Verdict::Refuse => SK_DROP,
    }
}

/// Finds out what the connection is, and gives it to the proxy when it is the proxy's.
#[inline(always)]
fn inspect(context: &SkLookupContext, connection: &Connection) -> Finding {
    let Connection {
        source,
        destination,
    } = connection;
    if source.is_loopback() || destination.is_loopback() {
        return Finding::WithinPod;
    }
    if config::has_ingress_interface() && fields::ingress_interface(context) == LOOPBACK_INTERFACE {
        return Finding::WithinPod;
    }
    // The proxy's connection to the pod's own address arrives with the interface of that
    // address, not with loopback's.
    if source.address == destination.address {
        return Finding::SameAddress;
    }
    if opening::is_own(connection) {
        return Finding::OwnConnection;
    }
    let listener = match destination.port_number() {
        HBONE_PORT => Listener::Hbone,
        _ => Listener::Plaintext,
    };
    let key = ListenerKey::new(destination.address, listener);
    if maps::LISTENERS.redirect_sk_lookup(context, key, 0).is_ok() {
        // Only where there is a proxy: without it the kernel finds out by itself.
        return match listener {
            Listener::Plaintext if listening::is_nobody_there(destination) => {
                Finding::NobodyListens
            }
            _ => Finding::Inbound,
        };
    }
    if is_open_to_node(connection) {
        return Finding::NodeWithoutListener;
    }
    match maps::POD_ADDRESSES.get_ptr(destination.address) {
        Some(_) => Finding::ListenerMissing,
        None => Finding::UnknownAddress,
    }
}

/// Whether a process of the node opened the connection, to a port of the pod that is open to it.
#[inline(always)]
fn is_open_to_node(connection: &Connection) -> bool {
    let destination = &connection.destination;
    let Some(process) = opening::node(connection) else {
        return false;
    };
    // SAFETY: the entry is replaced as a whole and read at once.
    let Some(pod) = (unsafe { maps::POD_ADDRESSES.get(destination.address) }) else {
        return false;
    };
    let is_open = |port| {
        let key = NodePort::new(pod.bytes, port);
        maps::NODE_PORTS.get_ptr(key).is_some()
    };
    is_open(NodePort::ALL) || (process.is_kubelet == 1 && is_open(destination.port))
}
