//! The maps, with their types, and what the agent writes into them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use aya::Ebpf;
use aya::maps::lpm_trie::Key;
use aya::maps::{self, LpmTrie, Map, MapData, MapError, PerCpuArray, SkStorage, SockHash};
use weft_ebpf_common::finding::counter;
use weft_ebpf_common::{
    Connection, ExcludedBlock, ExcludedPort, Finding, Listener, ListenerKey, NamespaceCookie,
    NamespaceEntry, NamespaceRole, NamespacedConnection, OwnSocket, SocketAddress,
    StoredDestination, Verdict, map,
};
use weft_model::policy::PlaintextOrigin;
use weft_model::workload::CaptureExclusions;
use weft_model::{AddressBlock, OriginalDestination};

use super::{Counter, PodListeners, RedirectError};

const _: () = assert!(weft_ebpf_common::OUTBOUND_PORT == weft_model::policy::OUTBOUND_PORT);
const _: () = assert!(weft_ebpf_common::HBONE_PORT == weft_model::policy::HBONE_PORT);

type Hash<K, V> = maps::HashMap<MapData, K, V>;

/// Takes a map out of the loaded object.
fn take<T>(object: &mut Ebpf, name: &'static str) -> Result<T, RedirectError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let missing = || RedirectError::Missing {
        kind: "map",
        name: name.to_owned(),
    };
    let map = object.take_map(name).ok_or_else(missing)?;
    T::try_from(map).map_err(RedirectError::map(name, "find the expected types"))
}

/// What the proxy asks and tells the kernel about single sockets.
#[derive(Debug)]
pub struct SocketMaps {
    /// aya wants exclusive access to write. Held for one system call, never while waiting.
    own_sockets: Mutex<SkStorage<MapData, OwnSocket>>,
    destinations: SkStorage<MapData, StoredDestination>,
    node_sockets: SkStorage<MapData, u32>,
}

impl SocketMaps {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, RedirectError> {
        Ok(Self {
            own_sockets: Mutex::new(take(object, map::OWN_SOCKETS)?),
            destinations: take(object, map::DESTINATIONS)?,
            node_sockets: take(object, map::NODE_SOCKETS)?,
        })
    }

    /// Marks a socket as the proxy's own, before it connects to the network: it isn't
    /// captured.
    ///
    /// # Errors
    /// When the kernel has no memory for the mark. The socket must not be used then.
    pub fn mark_upstream(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.mark(socket, OwnSocket::upstream())
    }

    /// Marks a socket as the proxy's own, before it connects to the pod's application,
    /// which will see `client` as its peer.
    ///
    /// # Errors
    /// When the kernel has no memory for the mark. The socket must not be used then.
    pub fn mark_application(&self, socket: BorrowedFd<'_>, client: SocketAddr) -> io::Result<()> {
        self.mark(socket, OwnSocket::application(client.into()))
    }

    fn mark(&self, socket: BorrowedFd<'_>, own: OwnSocket) -> io::Result<()> {
        let mut map = self
            .own_sockets
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        map.insert(&socket, own, 0).map_err(system_error)
    }

    /// Where the application behind an accepted outbound connection wanted to connect to.
    ///
    /// # Errors
    /// `NotFound` when the connection wasn't captured: someone connected to the proxy's
    /// port directly.
    pub fn original_destination(
        &self,
        accepted: BorrowedFd<'_>,
    ) -> io::Result<OriginalDestination> {
        match self.destinations.get(&accepted, 0) {
            Ok(destination) => Ok(OriginalDestination::new(destination.address.into())),
            Err(MapError::KeyNotFound) => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the connection was not captured: someone connected to the proxy's port itself",
            )),
            Err(error) => Err(system_error(error)),
        }
    }

    /// Who opened a connection that an inbound listener has accepted, as the kernel recorded
    /// it when it was opened.
    pub fn origin(&self, accepted: BorrowedFd<'_>) -> PlaintextOrigin {
        match self.node_sockets.get(&accepted, 0) {
            Ok(_) => PlaintextOrigin::Node,
            // Also when the map can't be read: whoever isn't proven to be the node is not.
            Err(_) => PlaintextOrigin::Network,
        }
    }
}

/// aya's error with the kernel's own reason in it, where there is one.
fn system_error(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(error) => error.io_error,
        error => io::Error::other(error),
    }
}

/// What the programs are told about namespaces and pods. One writer at a time: its
/// owner holds it in a mutex.
pub(super) struct Tables {
    namespaces: Hash<NamespaceCookie, NamespaceEntry>,
    excluded_ports: Hash<ExcludedPort, u8>,
    excluded_blocks: LpmTrie<MapData, ExcludedBlock, u8>,
    pod_addresses: Hash<[u8; 16], NamespaceCookie>,
    listeners: SockHash<MapData, ListenerKey>,
    pending: Hash<NamespacedConnection, SocketAddress>,
    own_connections: Hash<Connection, SocketAddress>,
    node_connections: Hash<Connection, u8>,
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

/// Length in bits, and the data of which so many count.
type TrieKey = (u32, ExcludedBlock);

/// What was written for one pod, to be taken back later.
#[derive(Debug, Default)]
pub(super) struct Written {
    ports: HashSet<u16>,
    blocks: HashSet<TrieKey>,
    addresses: Vec<IpAddr>,
}

impl Tables {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, RedirectError> {
        Ok(Self {
            namespaces: take(object, map::NAMESPACES)?,
            excluded_ports: take(object, map::EXCLUDED_PORTS)?,
            excluded_blocks: take(object, map::EXCLUDED_BLOCKS)?,
            pod_addresses: take(object, map::POD_ADDRESSES)?,
            listeners: take(object, map::LISTENERS)?,
            pending: take(object, map::PENDING)?,
            own_connections: take(object, map::OWN_CONNECTIONS)?,
            node_connections: take(object, map::NODE_CONNECTIONS)?,
        })
    }

    /// Says whose a namespace is.
    pub(super) fn set_namespace(
        &mut self,
        cookie: u64,
        entry: NamespaceEntry,
    ) -> Result<(), RedirectError> {
        self.namespaces
            .insert(NamespaceCookie::new(cookie), entry, 0)
            .map_err(RedirectError::map(map::NAMESPACES, "write a namespace"))
    }

    /// Makes a namespace unknown again.
    pub(super) fn remove_namespace(&mut self, cookie: u64) -> Result<(), RedirectError> {
        gone(self.namespaces.remove(&NamespaceCookie::new(cookie)))
            .map_err(RedirectError::map(map::NAMESPACES, "remove a namespace"))
    }

    /// Replaces a captured namespace's exclusions. New ones are in place before the entry
    /// refers to them; old ones go last.
    pub(super) fn set_exclusions(
        &mut self,
        cookie: u64,
        exclusions: &CaptureExclusions,
        written: &mut Written,
    ) -> Result<(), RedirectError> {
        let namespace = NamespaceCookie::new(cookie);
        let ports: HashSet<u16> = exclusions.ports.iter().copied().collect();
        for port in &ports {
            self.excluded_ports
                .insert(ExcludedPort::new(namespace, port.to_be_bytes()), 1, 0)
                .map_err(RedirectError::map(map::EXCLUDED_PORTS, "write a port"))?;
        }
        let blocks = trie_entries(namespace, &exclusions.blocks);
        for (&(length, block), excluded) in &blocks {
            self.excluded_blocks
                .insert(&Key::new(length, block), excluded, 0)
                .map_err(RedirectError::map(map::EXCLUDED_BLOCKS, "write a block"))?;
        }
        let mut entry = NamespaceEntry::new(NamespaceRole::Captured);
        entry.has_excluded_ports = u8::from(!ports.is_empty());
        entry.has_excluded_blocks = u8::from(!blocks.is_empty());
        self.set_namespace(cookie, entry)?;

        let old_ports = std::mem::replace(&mut written.ports, ports);
        for port in old_ports.difference(&written.ports) {
            gone(
                self.excluded_ports
                    .remove(&ExcludedPort::new(namespace, port.to_be_bytes())),
            )
            .map_err(RedirectError::map(map::EXCLUDED_PORTS, "remove a port"))?;
        }
        let old_blocks = std::mem::replace(&mut written.blocks, blocks.into_keys().collect());
        for &(length, block) in old_blocks.difference(&written.blocks) {
            gone(self.excluded_blocks.remove(&Key::new(length, block)))
                .map_err(RedirectError::map(map::EXCLUDED_BLOCKS, "remove a block"))?;
        }
        Ok(())
    }

    /// Says which addresses are the pod's and where its listeners are.
    pub(super) fn set_addresses(
        &mut self,
        cookie: u64,
        addresses: &[IpAddr],
        listeners: &PodListeners,
        written: &mut Written,
    ) -> Result<(), RedirectError> {
        let addresses: Vec<IpAddr> = addresses.iter().map(IpAddr::to_canonical).collect();
        for address in &addresses {
            let bytes = mapped(*address);
            let (plaintext, hbone) = listeners.of_family(*address);
            for (listener, socket) in [(Listener::Plaintext, plaintext), (Listener::Hbone, hbone)] {
                let Some(socket) = socket else { continue };
                self.set_listener(ListenerKey::new(bytes, listener), socket)?;
            }
            self.pod_addresses
                .insert(bytes, NamespaceCookie::new(cookie), 0)
                .map_err(RedirectError::map(map::POD_ADDRESSES, "write an address"))?;
        }
        let old = std::mem::replace(&mut written.addresses, addresses);
        for address in old {
            if !written.addresses.contains(&address) {
                self.remove_address(cookie, address)?;
            }
        }
        Ok(())
    }

    fn set_listener(&mut self, key: ListenerKey, socket: RawFd) -> Result<(), RedirectError> {
        self.listeners
            .insert(key, socket, 0)
            .map_err(RedirectError::map(map::LISTENERS, "write a listener"))
    }

    /// An address may have passed to a new pod before the old one is released, which must
    /// then leave it alone.
    fn remove_address(&mut self, cookie: u64, address: IpAddr) -> Result<(), RedirectError> {
        let bytes = mapped(address);
        let owner = self.pod_addresses.get(&bytes, 0).ok();
        if owner.is_some_and(|owner| owner.get() != cookie) {
            return Ok(());
        }
        for listener in [Listener::Plaintext, Listener::Hbone] {
            gone(self.listeners.remove(&ListenerKey::new(bytes, listener)))
                .map_err(RedirectError::map(map::LISTENERS, "remove a listener"))?;
        }
        gone(self.pod_addresses.remove(&bytes))
            .map_err(RedirectError::map(map::POD_ADDRESSES, "remove an address"))
    }

    /// Takes back everything that was written for a pod but its namespace's entry.
    /// Goes on after a failure, and reports the first.
    pub(super) fn take_back(
        &mut self,
        cookie: u64,
        written: &mut Written,
    ) -> Result<(), RedirectError> {
        let namespace = NamespaceCookie::new(cookie);
        let mut result = Ok(());
        for address in written.addresses.drain(..) {
            result = result.and(self.remove_address(cookie, address));
        }
        for port in written.ports.drain() {
            let removed = self
                .excluded_ports
                .remove(&ExcludedPort::new(namespace, port.to_be_bytes()));
            result = result.and(
                gone(removed).map_err(RedirectError::map(map::EXCLUDED_PORTS, "remove a port")),
            );
        }
        for (length, block) in written.blocks.drain() {
            let removed = self.excluded_blocks.remove(&Key::new(length, block));
            result = result.and(
                gone(removed).map_err(RedirectError::map(map::EXCLUDED_BLOCKS, "remove a block")),
            );
        }
        result
    }

    /// What an earlier agent has left in pinned maps, by namespace.
    pub(super) fn left_by_predecessor(&self) -> HashMap<u64, Written> {
        let mut left: HashMap<u64, Written> = HashMap::new();
        let captured = |entry: &NamespaceEntry| entry.role != NamespaceRole::Host as u8;
        for (cookie, entry) in self.namespaces.iter().flatten() {
            if captured(&entry) {
                left.entry(cookie.get()).or_default();
            }
        }
        for key in self.excluded_ports.keys().flatten() {
            let port = u16::from_be_bytes(key.port);
            left.entry(u64::from_ne_bytes(key.namespace))
                .or_default()
                .ports
                .insert(port);
        }
        for key in self.excluded_blocks.keys().flatten() {
            let cookie = u64::from_ne_bytes(key.data().namespace);
            left.entry(cookie)
                .or_default()
                .blocks
                .insert((key.prefix_len(), key.data()));
        }
        for (address, cookie) in self.pod_addresses.iter().flatten() {
            let address = IpAddr::V6(Ipv6Addr::from(address)).to_canonical();
            left.entry(cookie.get())
                .or_default()
                .addresses
                .push(address);
        }
        left
    }

    /// How many records the programs keep. Walks through them all.
    pub(super) fn records(&self) -> RecordCounts {
        RecordCounts {
            pending: self.pending.keys().count(),
            own_connections: self.own_connections.keys().count(),
            node_connections: self.node_connections.keys().count(),
        }
    }

    /// How many entries each table has.
    pub(super) fn sizes(&self) -> TableSizes {
        TableSizes {
            namespaces: self.namespaces.keys().count(),
            excluded_ports: self.excluded_ports.keys().count(),
            excluded_blocks: self.excluded_blocks.keys().count(),
            pod_addresses: self.pod_addresses.keys().count(),
            listeners: self.listeners.keys().count(),
        }
    }
}

/// How many connections the programs see being opened: close to zero, also on a busy node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordCounts {
    /// Captured connections whose end at the proxy doesn't exist yet.
    pub pending: usize,
    /// The proxy's connections to applications.
    pub own_connections: usize,
    /// Connections of the node's processes to captured pods.
    pub node_connections: usize,
}

/// How many entries the agent's tables in the kernel have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TableSizes {
    /// Namespaces that the programs know, the node's own among them.
    pub namespaces: usize,
    /// Ports left alone, of all pods.
    pub excluded_ports: usize,
    /// Address blocks left alone, of all pods.
    pub excluded_blocks: usize,
    /// Addresses of captured pods.
    pub pod_addresses: usize,
    /// Listeners that arriving connections are given to.
    pub listeners: usize,
}

/// Removing what isn't there is no failure.
fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        result => result,
    }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

const MAPPED_PREFIX_LENGTH: u8 = 96;

/// The trie entries for a namespace's excluded blocks, and whether each excludes. A
/// short IPv6 block would also match the IPv4 addresses, which look like `::ffff:a.b.c.d`
/// to the programs: a more specific entry takes these out again.
fn trie_entries(namespace: NamespaceCookie, blocks: &[AddressBlock]) -> HashMap<TrieKey, u8> {
    let key = |address, length: u8| {
        let bits = ExcludedBlock::NAMESPACE_BITS + u32::from(length);
        (bits, ExcludedBlock::new(namespace, address))
    };
    let ipv4 = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0);
    let covers_ipv4 = |block: &AddressBlock| {
        block.prefix_length() <= MAPPED_PREFIX_LENGTH
            && has_prefix(ipv4, block.network(), block.prefix_length())
    };
    let mut entries = HashMap::new();
    if blocks.iter().any(covers_ipv4) {
        entries.insert(key(ipv4.octets(), MAPPED_PREFIX_LENGTH), 0);
    }
    for block in blocks {
        let (address, length) = block.to_mapped();
        entries.insert(key(address, length), 1);
    }
    entries
}

fn has_prefix(address: Ipv6Addr, network: IpAddr, length: u8) -> bool {
    let IpAddr::V6(network) = network else {
        return false;
    };
    let keep = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    u128::from(address) & keep == u128::from(network) & keep
}

/// Reads the programs' counters.
pub(super) struct Counters(PerCpuArray<MapData, u64>);

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.read()).finish()
    }
}

impl Counters {
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, RedirectError> {
        take(object, map::COUNTERS).map(Self)
    }

    /// Every counter that has counted.
    pub(super) fn read(&self) -> Vec<Counter> {
        let mut counters = Vec::new();
        for finding in Finding::ALL {
            for verdict in Verdict::ALL {
                let Ok(values) = self.0.get(&counter(finding, verdict), 0) else {
                    continue;
                };
                let count = values.iter().sum();
                if count > 0 {
                    counters.push(Counter {
                        program: finding.program().name(),
                        verdict: verdict.name(),
                        finding: finding.name(),
                        count,
                    });
                }
            }
        }
        counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: NamespaceCookie = NamespaceCookie::new(7);

    fn entries(blocks: &[&str]) -> Vec<(u32, u8)> {
        let blocks: Vec<AddressBlock> = blocks.iter().map(|text| text.parse().unwrap()).collect();
        let entries = trie_entries(NAMESPACE, &blocks);
        let mut lengths: Vec<_> = entries
            .into_iter()
            .map(|((length, _), excluded)| (length, excluded))
            .collect();
        lengths.sort_unstable();
        lengths
    }

    #[test]
    fn blocks_become_trie_entries_behind_the_namespace() {
        assert_eq!(
            entries(&["10.0.0.0/8", "fd00::/8"]),
            [(64 + 8, 1), (64 + 96 + 8, 1)]
        );
    }

    #[test]
    fn an_ipv6_block_never_excludes_ipv4() {
        assert_eq!(entries(&["::/0"]), [(64, 1), (64 + 96, 0)]);
        assert_eq!(entries(&["::/0", "0.0.0.0/0"]), [(64, 1), (64 + 96, 1)]);
        assert_eq!(entries(&["fd00::/8"]), [(64 + 8, 1)]);
    }
}
