//! Every map, and the little that all programs do with them. Their names are part of
//! the schema ([`weft_ebpf_common::map`]).

use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::generated::{
    bpf_sk_storage_delete, bpf_sk_storage_get, bpf_skc_to_mptcp_sock,
};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SockHash};
use weft_ebpf_common::finding::{COUNTERS as COUNTER_COUNT, counter};
use weft_ebpf_common::{
    Connection, ExcludedBlock, ExcludedPort, Finding, HeldConnection, HeldKey, HoldRate,
    KubeletCgroup, ListenerKey, ListeningKey, ListeningPod, ListeningSocket, NamespaceCookie,
    NamespaceEntry, NamespacedConnection, NodePort, NodeProcess, OpeningNode, OpeningOwn,
    OpeningSlot, OwnSocket, PendingConnection, PendingSlot, ReachedKey, SocketAddress,
    StoredDestination, Verdict, capacity,
};

const BPF_F_NO_PREALLOC: u32 = 1;
/// A flag of an insertion: it fails where there is an entry already.
pub const BPF_NOEXIST: u64 = 1;

#[map]
pub static NAMESPACES: HashMap<NamespaceCookie, NamespaceEntry> =
    HashMap::with_max_entries(capacity::NAMESPACES, BPF_F_NO_PREALLOC);
#[map]
pub static EXCLUDED_PORTS: HashMap<ExcludedPort, u8> =
    HashMap::with_max_entries(capacity::PODS * capacity::EXCLUDED_PORTS, BPF_F_NO_PREALLOC);
/// A pod has one more than it asks for where blocks of IPv6 would cover IPv4.
#[map]
pub static EXCLUDED_BLOCKS: LpmTrie<ExcludedBlock, u8> = LpmTrie::with_max_entries(
    capacity::PODS * (capacity::EXCLUDED_BLOCKS + 1),
    BPF_F_NO_PREALLOC,
);
#[map]
pub static POD_ADDRESSES: HashMap<[u8; 16], NamespaceCookie> =
    HashMap::with_max_entries(capacity::PODS * capacity::ADDRESSES, BPF_F_NO_PREALLOC);
#[map]
pub static LISTENERS: SockHash<ListenerKey> =
    SockHash::with_max_entries(2 * capacity::PODS * capacity::ADDRESSES, 0);

#[btf_map]
pub static OWN_SOCKETS: SkStorage<OwnSocket> = SkStorage::new();
#[btf_map]
pub static DESTINATIONS: SkStorage<StoredDestination> = SkStorage::new();
#[btf_map]
pub static CLIENTS: SkStorage<SocketAddress> = SkStorage::new();
/// The process that opened the connection.
#[btf_map]
pub static NODE_SOCKETS: SkStorage<NodeProcess> = SkStorage::new();
/// Of a listener, where connections to unknown pods are refused.
#[btf_map]
pub static LISTENER_NAMESPACES: SkStorage<NamespaceCookie> = SkStorage::new();
/// As many as one node runs, and one more while it restarts.
#[map]
pub static KUBELETS: HashMap<KubeletCgroup, [u8; 4]> =
    HashMap::with_max_entries(16, BPF_F_NO_PREALLOC);
/// What doesn't fit is closed while no proxy runs.
#[map]
pub static NODE_PORTS: HashMap<NodePort, u8> =
    HashMap::with_max_entries(capacity::PODS * capacity::NODE_PORTS, BPF_F_NO_PREALLOC);

// Records of connections that are being opened: each is removed when its other end exists,
// or when the attempt ends. Least recently used go first should one of these be full; what
// is then missing is refused or shows the proxy's address, never let through.
/// Room for all of all pods: none fills it for another.
#[map]
pub static PENDING_SLOTS: HashMap<PendingSlot, PendingConnection> =
    HashMap::with_max_entries(capacity::PODS * capacity::PENDING_SLOTS, BPF_F_NO_PREALLOC);
/// Those that find their slot taken.
#[map]
pub static PENDING: LruHashMap<NamespacedConnection, SocketAddress> =
    LruHashMap::with_max_entries(OPENING, 0);
/// As above: for each address of a pod that is connected to.
#[map]
pub static OWN_SLOTS: HashMap<OpeningSlot, OpeningOwn> =
    HashMap::with_max_entries(capacity::PODS * capacity::OPENING_SLOTS, BPF_F_NO_PREALLOC);
#[map]
pub static NODE_SLOTS: HashMap<OpeningSlot, OpeningNode> =
    HashMap::with_max_entries(capacity::PODS * capacity::OPENING_SLOTS, BPF_F_NO_PREALLOC);
/// Those that find their slot taken.
#[map]
pub static OWN_CONNECTIONS: LruHashMap<Connection, SocketAddress> =
    LruHashMap::with_max_entries(OPENING, 0);
#[map]
pub static NODE_CONNECTIONS: LruHashMap<Connection, NodeProcess> =
    LruHashMap::with_max_entries(OPENING, 0);
/// Such maps take their memory at once: about 130 bytes an entry.
const OPENING: u32 = 32768;

/// Least recently used go first: their connections go on as if they had never been held.
#[map]
pub static HELD: LruHashMap<HeldKey, HeldConnection> = LruHashMap::with_max_entries(16384, 0);
/// By the cookie of an outbound listener.
#[map]
pub static HOLD_RATES: LruHashMap<[u8; 8], HoldRate> = LruHashMap::with_max_entries(8192, 0);
/// Least recently used go first: their connections are held once more.
#[map]
pub static REACHED: LruHashMap<ReachedKey, u64> = LruHashMap::with_max_entries(16384, 0);
/// Room for about 2000 connections that the agent has not heard of yet; with more, they
/// aren't held.
#[map]
pub static ATTEMPTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

/// A pod of which one found no room has nobody refused for it.
#[map]
pub static LISTENING: HashMap<ListeningKey, ListeningSocket> =
    HashMap::with_max_entries(capacity::PODS * capacity::LISTENING, BPF_F_NO_PREALLOC);
#[map]
pub static LISTENING_PODS: HashMap<NamespaceCookie, ListeningPod> =
    HashMap::with_max_entries(capacity::NAMESPACES, BPF_F_NO_PREALLOC);
/// Room for about 1800 events. What the agent isn't told of looks as if somebody listened.
#[map]
pub static LISTENING_EVENTS: RingBuf = RingBuf::with_byte_size(64 * 1024, 0);

#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_COUNT, 0);

/// Counts a finding that led to a verdict.
#[inline(always)]
pub fn count(finding: Finding, verdict: Verdict) {
    if let Some(count) = COUNTERS.get_ptr_mut(counter(finding, verdict)) {
        // SAFETY: the slot of this CPU, aligned. A packet that interrupts a process which is
        // counting may cost one count; Rust has no atomic addition for this target.
        unsafe { *count += 1 }
    }
}

/// The value that a socket carries in a storage map.
#[inline(always)]
pub fn stored<T: Copy>(map: &'static SkStorage<T>, socket: *mut bpf_sock) -> Option<T> {
    if socket.is_null() {
        return None;
    }
    // SAFETY: the socket comes from the hook's context and isn't null.
    let value = unsafe {
        bpf_sk_storage_get(
            core::ptr::from_ref(map).cast_mut().cast(),
            socket.cast(),
            core::ptr::null_mut(),
            0,
        )
    }
    .cast::<T>();
    if value.is_null() {
        return None;
    }
    // SAFETY: the kernel gives a pointer to a whole, aligned value or null.
    Some(unsafe { *value })
}

/// Gives a socket a value in a storage map, replacing an older one. Fails when the
/// kernel has no memory for it.
#[inline(always)]
pub fn store<T: Copy>(map: &'static SkStorage<T>, socket: *mut bpf_sock, value: T) -> bool {
    if socket.is_null() {
        return false;
    }
    let mut initial = value;
    // SAFETY: the socket comes from the hook's context and isn't null; `initial`
    // outlives the call.
    let slot = unsafe {
        bpf_sk_storage_get(
            core::ptr::from_ref(map).cast_mut().cast(),
            socket.cast(),
            core::ptr::from_mut(&mut initial).cast(),
            u64::from(BPF_SK_STORAGE_GET_F_CREATE),
        )
    }
    .cast::<T>();
    if slot.is_null() {
        return false;
    }
    // The socket may already have had a value: the kernel then ignores the initial one.
    // SAFETY: as in `stored`.
    unsafe { *slot = value }
    true
}

/// Gives the MPTCP socket above a subflow a value. Does nothing for any other socket.
#[inline(always)]
pub fn store_for_mptcp<T: Copy>(map: &'static SkStorage<T>, subflow: *mut bpf_sock, value: T) {
    if subflow.is_null() {
        return;
    }
    // SAFETY: the socket comes from the hook's context and isn't null.
    let parent = unsafe { bpf_skc_to_mptcp_sock(subflow.cast()) };
    store(map, parent.cast(), value);
}

/// Takes a value away from a socket.
#[inline(always)]
pub fn forget<T>(map: &'static SkStorage<T>, socket: *mut bpf_sock) {
    if !socket.is_null() {
        // SAFETY: the socket comes from the hook's context and isn't null.
        unsafe { bpf_sk_storage_delete(core::ptr::from_ref(map).cast_mut().cast(), socket.cast()) };
    }
}
