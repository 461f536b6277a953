//! Where applications of captured pods listen: kept as they begin, taken back by the agent, which
//! is told when one ends and looks whether others go on. In doubt somebody listens: the proxy then
//! takes the connection, and finds out.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::programs::SockOpsContext;
use weft_ebpf_common::{
    ListeningKey, ListeningPod, ListeningSocket, NamespaceCookie, SocketAddress, capacity,
};

use crate::context::{self, LOOPBACK_INTERFACE, ops};
use crate::maps;

const ANY_V4: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0];
const ANY_V6: [u8; 16] = [0; 16];
/// Fails where there is no entry yet.
const BPF_EXIST: u64 = 2;

/// A socket begins to listen. Returns whether it is one of a captured pod's, that others reach.
#[inline(always)]
pub fn begin(context: &SockOpsContext) -> bool {
    let namespace = context::namespace(context);
    let Some(pod) = maps::LISTENING_PODS.get_ptr_mut(namespace) else {
        return false;
    };
    let address = ops::local(context);
    // So do the proxy's own.
    let is_within_pod = context::bound_interface(ops::socket(context)) == LOOPBACK_INTERFACE
        || (address.is_loopback() && !address.is_unspecified());
    if is_within_pod {
        return false;
    }
    // SAFETY: the value is aligned and lives for the whole run. Of two CPUs that count at the
    // same time one may be lost; the agent counts again.
    let pod = unsafe { &mut *pod };
    if !keep(ListeningKey::new(namespace.bytes, address), pod) {
        pod.is_complete = 0;
    }
    if address.address == ANY_V6 {
        // Only the agent finds out whether it is for IPv4, too.
        tell(namespace, address);
    }
    true
}

/// Keeps an address, within its pod's share.
#[inline(always)]
fn keep(key: ListeningKey, pod: &mut ListeningPod) -> bool {
    // SAFETY: the helper takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    let socket = ListeningSocket {
        since: now.to_ne_bytes(),
        ..ListeningSocket::default()
    };
    // Another socket of its group may listen there already.
    if maps::LISTENING.insert(key, socket, BPF_EXIST).is_ok() {
        return true;
    }
    let entries = u32::from_ne_bytes(pod.entries);
    if entries >= capacity::LISTENING
        || maps::LISTENING
            .insert(key, socket, maps::BPF_NOEXIST)
            .is_err()
    {
        return false;
    }
    pod.entries = (entries + 1).to_ne_bytes();
    true
}

/// Tells the agent to look who listens at a port of a captured pod.
#[inline(always)]
pub fn tell(namespace: NamespaceCookie, address: SocketAddress) {
    let Some(pod) = maps::LISTENING_PODS.get_ptr_mut(namespace) else {
        return;
    };
    // SAFETY: the value is aligned and lives for the whole run. Of two CPUs that count at the
    // same time one may be lost, which changes nothing.
    let pod = unsafe { &mut *pod };
    // SAFETY: the helper takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    let mut events = u32::from_ne_bytes(pod.events);
    if now.saturating_sub(u64::from_ne_bytes(pod.began)) >= ListeningPod::INTERVAL {
        pod.began = now.to_ne_bytes();
        events = 0;
    }
    if events >= ListeningPod::MOST_EVENTS {
        return;
    }
    pod.events = (events + 1).to_ne_bytes();
    if let Some(mut entry) = maps::LISTENING_EVENTS.reserve::<ListeningKey>(0) {
        entry.write(ListeningKey::new(namespace.bytes, address));
        entry.submit(0);
    }
}

/// Whether it is certain that no application listens at an address of a captured pod. Now and then
/// the agent is told to make sure: it finds those whose beginning no program has seen, as of a
/// process outside of the cgroup that they are attached to.
#[inline(always)]
pub fn is_nobody_there(address: &SocketAddress) -> bool {
    // SAFETY: the entry is replaced as a whole and read at once.
    let Some(namespace) = (unsafe { maps::POD_ADDRESSES.get(address.address) }).copied() else {
        return false;
    };
    let Some(pod) = maps::LISTENING_PODS.get_ptr_mut(namespace) else {
        return false;
    };
    // SAFETY: the value is aligned and lives for the whole run. Of two CPUs that write the time
    // either may be the last.
    let pod = unsafe { &mut *pod };
    if pod.is_complete == 0 || is_listened_at(namespace, address) {
        return false;
    }
    // SAFETY: the helper takes nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    let before = u64::from_ne_bytes(pod.refused_at);
    if now.saturating_sub(before) >= ListeningPod::BETWEEN_REFUSALS {
        pod.refused_at = now.to_ne_bytes();
        tell(namespace, *address);
    }
    true
}

#[inline(always)]
fn is_listened_at(namespace: NamespaceCookie, address: &SocketAddress) -> bool {
    let listening = |at: [u8; 16]| {
        let key = ListeningKey::new(namespace.bytes, SocketAddress::new(at, address.port));
        // SAFETY: the entry is replaced as a whole, one byte of it is read.
        unsafe { maps::LISTENING.get(key) }
    };
    if listening(address.address).is_some() {
        return true;
    }
    if !address.is_v4() {
        return listening(ANY_V6).is_some();
    }
    listening(ANY_V4).is_some() || listening(ANY_V6).is_some_and(|any| any.is_only_v6 == 0)
}
