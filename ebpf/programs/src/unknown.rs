//! Pods that nobody has told of: where that is wanted, what arrives at their listeners is dropped.
//!
//! No hook for what arrives knows the socket's namespace on every kernel, so listeners are marked
//! with it as they begin. One from before these programs has no mark and is left to the agent,
//! which attaches `sk_lookup` to the namespaces of pods that it finds.

use aya_ebpf::programs::{SkBuffContext, SockOpsContext};
use aya_log_ebpf::debug;
use weft_ebpf_common::{Finding, NamespaceCookie, NamespaceRole, Verdict, decide};

use crate::context::{self, LOOPBACK_INTERFACE, TCP_LISTEN, ops, packet as fields};
use crate::{config, maps, opening, packet};

const DROP: i32 = 0;
const PASS: i32 = 1;

/// A socket begins to listen: marks it, unless it is the node's own.
#[inline(always)]
pub fn mark_listener(context: &SockOpsContext) {
    let policy = config::policy(false);
    if !policy.unknown_pods_refused {
        return;
    }
    let namespace = context::namespace(context);
    if role(namespace) == Some(NamespaceRole::Host as u8) {
        return;
    }
    if !maps::store(&maps::LISTENER_NAMESPACES, ops::socket(context), namespace) {
        let finding = Finding::ListenerUnmarked;
        maps::count(finding, decide(finding, policy));
    }
}

/// A packet arrives at a socket. Only listeners are looked at: what is established goes on.
#[inline(always)]
pub fn ingress(context: &SkBuffContext) -> i32 {
    let socket = fields::socket(context);
    if context::state(socket) != TCP_LISTEN {
        return PASS;
    }
    let Some(namespace) = maps::stored(&maps::LISTENER_NAMESPACES, socket) else {
        return PASS;
    };
    // Whatever was said of it: who may not be open is refused elsewhere.
    if role(namespace).is_some() || fields::interface(context) == LOOPBACK_INTERFACE {
        return PASS;
    }
    let finding = match is_by_node(context) {
        true => Finding::NodeToUnknown,
        false => Finding::UnknownListener,
    };
    let verdict = decide(finding, config::policy(false));
    maps::count(finding, verdict);
    debug!(
        context,
        "ingress finding {} verdict {}", finding as u8, verdict as u8
    );
    match verdict {
        Verdict::Pass | Verdict::Capture => PASS,
        Verdict::Refuse => DROP,
    }
}

/// Whether a process of the node opened the connection.
#[inline(always)]
fn is_by_node(context: &SkBuffContext) -> bool {
    let connection =
        packet::ports(context).and_then(|(from, to)| packet::connection(context, from, to));
    connection.is_some_and(|connection| opening::node(&connection).is_some())
}

/// What was said of a namespace.
#[inline(always)]
fn role(namespace: NamespaceCookie) -> Option<u8> {
    // SAFETY: the entry is replaced as a whole, one byte of it is read.
    unsafe { maps::NAMESPACES.get(namespace) }.map(|entry| entry.role)
}
