//! Every map, and the little that all programs do with them. Their names are part of
//! the schema ([`weft_ebpf_common::map`]).

use aya_ebpf::bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::generated::{bpf_sk_storage_delete, bpf_sk_storage_get};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{HashMap, LpmTrie, LruHashMap, PerCpuArray, SockHash};
use weft_ebpf_common::finding::{COUNTERS as COUNTER_COUNT, counter};
use weft_ebpf_common::{
    Connection, ExcludedBlock, ExcludedPort, Finding, ListenerKey, NamespaceCookie, NamespaceEntry,
    NamespacedConnection, OwnSocket, SocketAddress, StoredDestination, Verdict,
};

const BPF_F_NO_PREALLOC: u32 = 1;

#[map]
pub static NAMESPACES: HashMap<NamespaceCookie, NamespaceEntry> =
    HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);
#[map]
pub static EXCLUDED_PORTS: HashMap<ExcludedPort, u8> =
    HashMap::with_max_entries(16384, BPF_F_NO_PREALLOC);
#[map]
pub static EXCLUDED_BLOCKS: LpmTrie<ExcludedBlock, u8> =
    LpmTrie::with_max_entries(16384, BPF_F_NO_PREALLOC);
#[map]
pub static POD_ADDRESSES: HashMap<[u8; 16], NamespaceCookie> =
    HashMap::with_max_entries(8192, BPF_F_NO_PREALLOC);
#[map]
pub static LISTENERS: SockHash<ListenerKey> = SockHash::with_max_entries(16384, 0);

#[btf_map]
pub static OWN_SOCKETS: SkStorage<OwnSocket> = SkStorage::new();
#[btf_map]
pub static DESTINATIONS: SkStorage<StoredDestination> = SkStorage::new();
#[btf_map]
pub static CLIENTS: SkStorage<SocketAddress> = SkStorage::new();
/// Process (thread group) that opened the connection, as the first PID namespace numbers
/// it.
#[btf_map]
pub static NODE_SOCKETS: SkStorage<u32> = SkStorage::new();

// Records of connections that are being opened: each is removed when its other end exists,
// or when the attempt ends. Least recently used go first should one of these be full; what
// is then missing is refused or shows the proxy's address, never let through.
#[map]
pub static PENDING: LruHashMap<NamespacedConnection, SocketAddress> =
    LruHashMap::with_max_entries(OPENING, 0);
#[map]
pub static OWN_CONNECTIONS: LruHashMap<Connection, SocketAddress> =
    LruHashMap::with_max_entries(OPENING, 0);
#[map]
pub static NODE_CONNECTIONS: LruHashMap<Connection, u32> = LruHashMap::with_max_entries(OPENING, 0);
/// Such maps take their memory at once: about 130 bytes an entry.
const OPENING: u32 = 32768;

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

/// Takes a value away from a socket.
#[inline(always)]
pub fn forget<T>(map: &'static SkStorage<T>, socket: *mut bpf_sock) {
    if !socket.is_null() {
        // SAFETY: the socket comes from the hook's context and isn't null.
        unsafe { bpf_sk_storage_delete(core::ptr::from_ref(map).cast_mut().cast(), socket.cast()) };
    }
}
