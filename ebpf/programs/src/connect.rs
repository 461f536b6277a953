//! A process connects: is that connection the mesh's, and if so, to the proxy with it.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_ktime_get_ns,
    bpf_set_retval, bpf_setsockopt,
};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::programs::SockAddrContext;
use aya_log_ebpf::debug;
use weft_ebpf_common::{
    ANY_CGROUP, ANY_PROCESS, Direction, ExcludedBlock, ExcludedPort, Finding, NamespaceCookie,
    NamespaceEntry, NamespaceRole, NodeProcess, ReachedKey, SocketAddress, StoredDestination,
    Verdict, decide, is_proxy_address, proxy_address,
};

use crate::context::{self, IPPROTO_TCP, address};
use crate::{config, held, maps};

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;
const ECONNREFUSED: i32 = 111;
const SOL_SOCKET: i32 = 1;
const SO_BINDTODEVICE: i32 = 25;
/// Deeper than any pods cgroup found in practice, also with a node in a container.
const DEEPEST_PODS_CGROUP: i32 = 12;

#[inline(always)]
pub fn connect4(context: &SockAddrContext) -> i32 {
    let dialled = address::v4(context);
    match connect(context, &dialled) {
        Verdict::Pass => ALLOW,
        Verdict::Capture => {
            address::set_v4(context, &proxy(context, &dialled));
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
            address::set_v6(context, &proxy(context, &dialled));
            ALLOW
        }
        Verdict::Refuse => refuse(),
    }
}

/// The proxy's address for a destination of the captured pod.
#[inline(always)]
fn proxy(context: &SockAddrContext, dialled: &SocketAddress) -> SocketAddress {
    let cookie = context::namespace(context);
    // SAFETY: the entry is replaced as a whole and read at once.
    let entry = unsafe { maps::NAMESPACES.get(cookie) };
    let is_spread = entry.is_some_and(|entry| entry.is_spread != 0);
    // Not the entry's port: the pod may be let go just now, and this connection is still served.
    let stored = maps::stored(&maps::DESTINATIONS, address::socket(context));
    let port = stored.map_or([0; 2], |stored| stored.proxy_port);
    proxy_address(dialled, is_spread, port)
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
        // The socket may have been captured before, and been dissolved. Or it is captured just
        // now, by a predecessor's program that runs until the kernel has taken it off.
        let earlier = maps::stored(&maps::DESTINATIONS, socket);
        if earlier.is_some_and(|earlier| !is_proxy_address(dialled, earlier.proxy_port)) {
            maps::forget(&maps::DESTINATIONS, socket);
        }
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
    if entry.role == NamespaceRole::Captured as u8 || entry.role == NamespaceRole::Enforced as u8 {
        enrolled_pod(context, socket, cookie, &entry, dialled)
    } else if entry.role == NamespaceRole::Host as u8 {
        node(socket, dialled)
    } else {
        Finding::OutsideNamespace
    }
}

#[inline(always)]
fn enrolled_pod(
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
    if entry.role == NamespaceRole::Enforced as u8 {
        return Finding::NotCaptured;
    }
    let mut destination = StoredDestination::new(*dialled, Direction::Dialled);
    destination.source = if dialled.is_v4() { entry.v4 } else { entry.v6 };
    destination.proxy_port = entry.outbound_port(dialled.is_v4());
    destination.is_held = u8::from(is_to_be_held(cookie, entry, dialled));
    if !maps::store(&maps::DESTINATIONS, socket, destination) {
        return Finding::NoStorage;
    }
    if config::has_mptcp() {
        // The hook sees the first subflow, but the application holds the socket above it and
        // asks that one for its names.
        maps::store_for_mptcp(&maps::DESTINATIONS, socket, destination);
    }
    if !reaches_loopback(context, socket) {
        return Finding::BoundToDevice;
    }
    Finding::Outbound
}

/// Whether nobody has answered at a destination lately, so that the application is to wait for
/// the answer.
#[inline(always)]
fn is_to_be_held(cookie: NamespaceCookie, entry: &NamespaceEntry, dialled: &SocketAddress) -> bool {
    let listener = held::listener(entry, dialled.is_v4());
    if listener == [0; 8] {
        return false;
    }
    let key = ReachedKey {
        namespace: cookie.bytes,
        destination: *dialled,
    };
    // SAFETY: the entry is replaced as a whole and read at once.
    match unsafe { maps::REACHED.get(key) } {
        // SAFETY: the helper takes nothing.
        Some(until) => *until < unsafe { bpf_ktime_get_ns() },
        None => true,
    }
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
/// may take for the node's own, and those that may lead to an unknown pod where such are refused.
#[inline(always)]
fn node(socket: *mut bpf_sock, dialled: &SocketAddress) -> Finding {
    let is_to_pod = maps::POD_ADDRESSES.get_ptr(dialled.address).is_some();
    if !is_to_pod && !config::policy(false).unknown_pods_refused {
        return Finding::HostNamespace;
    }
    let process = (bpf_get_current_pid_tgid() >> 32) as u32;
    let record = NodeProcess::new(process, is_kubelet(process));
    if is_pod_process() || !maps::store(&maps::NODE_SOCKETS, socket, record) {
        maps::forget(&maps::NODE_SOCKETS, socket);
        return Finding::HostNamespace;
    }
    match is_to_pod {
        true => Finding::NodeProcess,
        false => Finding::HostNamespace,
    }
}

/// Whether the running process is kubelet: by its own cgroup, and by its number where that is
/// known in the kernel's terms. Its children, in the same cgroup, are not.
#[inline(always)]
fn is_kubelet(process: u32) -> bool {
    // SAFETY: the helper takes nothing.
    let cgroup = unsafe { bpf_get_current_cgroup_id() }.to_ne_bytes();
    // SAFETY: the entry is replaced as a whole and read at once.
    let known = match unsafe { maps::KUBELETS.get(cgroup) } {
        Some(known) => Some(*known),
        // SAFETY: as above.
        None => unsafe { maps::KUBELETS.get(ANY_CGROUP) }.copied(),
    };
    known.is_some_and(|known| known == ANY_PROCESS || known == process.to_ne_bytes())
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
