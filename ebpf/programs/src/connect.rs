//! A process connects: is that connection the mesh's, and if so, to the proxy with it.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_set_retval, bpf_setsockopt,
};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::programs::SockAddrContext;
use aya_log_ebpf::debug;
use weft_ebpf_common::{
    Direction, ExcludedBlock, ExcludedPort, Finding, NamespaceCookie, NamespaceEntry,
    NamespaceRole, OUTBOUND_PORT, SocketAddress, StoredDestination, Verdict, decide,
};

use crate::context::{self, IPPROTO_TCP, address};
use crate::{config, maps};

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;
const ECONNREFUSED: i32 = 111;
const SOL_SOCKET: i32 = 1;
const SO_BINDTODEVICE: i32 = 25;
/// Deeper than any pods cgroup found in practice, also with a node in a container.
const DEEPEST_PODS_CGROUP: i32 = 12;

const PROXY_V4: SocketAddress = SocketAddress::from_v4([127, 0, 0, 1], OUTBOUND_PORT.to_be_bytes());
const PROXY_V6: SocketAddress = SocketAddress::new(
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    OUTBOUND_PORT.to_be_bytes(),
);

/// Whether an address is the proxy's outbound listener.
#[inline(always)]
pub fn is_proxy(address: &SocketAddress) -> bool {
    *address == PROXY_V4 || *address == PROXY_V6
}

#[inline(always)]
pub fn connect4(context: &SockAddrContext) -> i32 {
    let dialled = address::v4(context);
    match connect(context, &dialled) {
        Verdict::Pass => ALLOW,
        Verdict::Capture => {
            address::set_v4(context, &PROXY_V4);
            ALLOW
        }
        Verdict::Refuse => refuse(),
    }
}

#[inline(always)]
pub fn connect6(context: &SockAddrContext) -> i32 {
    let dialled = address::v6(context);
    match connect(context, &dialled) {
        Verdict::Pass => ALLOW,
        Verdict::Capture => {
            // An IPv4-mapped destination stays IPv4: the socket may be bound to such a source.
            let proxy = if dialled.is_v4() { PROXY_V4 } else { PROXY_V6 };
            address::set_v6(context, &proxy);
            ALLOW
        }
        Verdict::Refuse => refuse(),
    }
}

#[inline(always)]
fn refuse() -> i32 {
    // Without it the application gets EPERM.
    if config::has_set_retval() {
        // SAFETY: the helper takes a number.
        unsafe { bpf_set_retval(-ECONNREFUSED) };
    }
    REFUSE
}

#[inline(always)]
fn connect(context: &SockAddrContext, dialled: &SocketAddress) -> Verdict {
    if address::protocol(context) != IPPROTO_TCP {
        return Verdict::Pass;
    }
    let finding = inspect(context, dialled);
    let verdict = decide(finding, config::policy(false));
    maps::count(finding, verdict);
    debug!(
        context,
        "connect {:i}:{} finding {} verdict {}",
        dialled.address,
        dialled.port_number(),
        finding as u8,
        verdict as u8
    );
    verdict
}

#[inline(always)]
fn inspect(context: &SockAddrContext, dialled: &SocketAddress) -> Finding {
    let socket = address::socket(context);
    if dialled.is_loopback() {
        // The socket may have been captured before, and been dissolved.
        maps::forget(&maps::DESTINATIONS, socket);
        return Finding::Loopback;
    }
    let cookie = context::namespace(context);
    // SAFETY: the entry is replaced as a whole and read at once.
    let entry = unsafe { maps::NAMESPACES.get(cookie) }.copied();
    let Some(entry) = entry else {
        return match maps::stored(&maps::OWN_SOCKETS, socket) {
            Some(_) => Finding::OwnSocket,
            None => Finding::UnknownNamespace,
        };
    };
    if entry.role == NamespaceRole::Captured as u8 {
        captured_pod(context, socket, cookie, &entry, dialled)
    } else if entry.role == NamespaceRole::Host as u8 {
        node(socket, dialled)
    } else {
        Finding::OutsideNamespace
    }
}

#[inline(always)]
fn captured_pod(
    context: &SockAddrContext,
    socket: *mut bpf_sock,
    cookie: NamespaceCookie,
    entry: &NamespaceEntry,
    dialled: &SocketAddress,
) -> Finding {
    if maps::stored(&maps::OWN_SOCKETS, socket).is_some() {
        return Finding::OwnSocket;
    }
    if dialled.is_link_local_v6() {
        return Finding::LinkLocal;
    }
    if entry.has_excluded_ports != 0 {
        let key = ExcludedPort::new(cookie, dialled.port);
        if maps::EXCLUDED_PORTS.get_ptr(key).is_some() {
            return Finding::ExcludedPort;
        }
    }
    if entry.has_excluded_blocks != 0 {
        let key = Key::new(
            ExcludedBlock::BITS,
            ExcludedBlock::new(cookie, dialled.address),
        );
        if let Some(1) = maps::EXCLUDED_BLOCKS.get(&key) {
            return Finding::ExcludedBlock;
        }
    }
    let mut destination = StoredDestination::new(*dialled, Direction::Dialled);
    destination.source = if dialled.is_v4() { entry.v4 } else { entry.v6 };
    if !maps::store(&maps::DESTINATIONS, socket, destination) {
        return Finding::NoStorage;
    }
    if !reaches_loopback(context, socket) {
        return Finding::BoundToDevice;
    }
    Finding::Outbound
}

/// A socket bound to a device can't reach a loopback address: binds it to that one.
#[inline(always)]
fn reaches_loopback(context: &SockAddrContext, socket: *mut bpf_sock) -> bool {
    if socket.is_null() {
        return false;
    }
    // SAFETY: not null, and valid for the whole run of the hook.
    if unsafe { (*socket).bound_dev_if } == 0 {
        return true;
    }
    let mut name = *b"lo\0\0";
    // SAFETY: the option's value outlives the call and has the length given.
    let result = unsafe {
        bpf_setsockopt(
            context.as_ptr(),
            SOL_SOCKET,
            SO_BINDTODEVICE,
            name.as_mut_ptr().cast(),
            name.len() as i32,
        )
    };
    result == 0
}

/// The node's own namespace: marks the sockets whose connections the proxy of a pod
/// may take for the node's own.
#[inline(always)]
fn node(socket: *mut bpf_sock, dialled: &SocketAddress) -> Finding {
    if maps::POD_ADDRESSES.get_ptr(dialled.address).is_none() {
        return Finding::HostNamespace;
    }
    let process = (bpf_get_current_pid_tgid() >> 32) as u32;
    if is_pod_process() || !maps::store(&maps::NODE_SOCKETS, socket, process) {
        maps::forget(&maps::NODE_SOCKETS, socket);
        return Finding::HostNamespace;
    }
    Finding::NodeProcess
}

/// Whether the running process lives below the cgroup of pods. A pod in the node's
/// network namespace is still a pod.
#[inline(always)]
fn is_pod_process() -> bool {
    let Some(pods) = config::pods_cgroup() else {
        return false;
    };
    // The depth isn't known to user space when it lives in a cgroup namespace.
    for level in 1..=DEEPEST_PODS_CGROUP {
        // SAFETY: the helper takes a number.
        let ancestor = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if ancestor == pods {
            return true;
        }
        if ancestor == 0 {
            return false;
        }
    }
    false
}
