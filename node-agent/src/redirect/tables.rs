//! The maps that the agent writes, with their types.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::RawFd;

use aya::Ebpf;
use aya::maps::lpm_trie::Key;
use aya::maps::{self, LpmTrie, MapData, MapError, SockHash};
use weft_ebpf_common::{
    Connection, ExcludedBlock, ExcludedPort, Listener, ListenerKey, NamespaceCookie,
    NamespaceEntry, NamespaceRole, NamespacedConnection, SocketAddress, map,
};
use weft_model::workload::CaptureExclusions;

use super::blocks::{TrieKey, trie_entries};
use super::error::RedirectError;
use super::listeners::PodListeners;
use super::object::take_map;

const _: () = assert!(weft_ebpf_common::OUTBOUND_PORT == weft_model::ports::OUTBOUND_PORT);
const _: () = assert!(weft_ebpf_common::HBONE_PORT == weft_model::ports::HBONE_PORT);

type Hash<K, V> = maps::HashMap<MapData, K, V>;

/// The tables that tell the programs about namespaces and pods. One writer at a time: its
/// owner holds it in a mutex.
pub(super) struct Tables {
    namespaces: Hash<NamespaceCookie, NamespaceEntry>,
    excluded_ports: Hash<ExcludedPort, u8>,
    excluded_blocks: LpmTrie<MapData, ExcludedBlock, u8>,
    pod_addresses: Hash<[u8; 16], NamespaceCookie>,
    listeners: SockHash<MapData, ListenerKey>,
    pending: Hash<NamespacedConnection, SocketAddress>,
    own_connections: Hash<Connection, SocketAddress>,
    node_connections: Hash<Connection, u32>,
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

/// The entries that were written for one pod, to be removed later.
#[derive(Debug, Default)]
pub(super) struct PodEntries {
    ports: HashSet<u16>,
    blocks: HashSet<TrieKey>,
    addresses: Vec<IpAddr>,
}

impl Tables {
    pub(super) fn from_object(object: &mut Ebpf) -> Result<Self, RedirectError> {
        Ok(Self {
            namespaces: take_map(object, map::NAMESPACES)?,
            excluded_ports: take_map(object, map::EXCLUDED_PORTS)?,
            excluded_blocks: take_map(object, map::EXCLUDED_BLOCKS)?,
            pod_addresses: take_map(object, map::POD_ADDRESSES)?,
            listeners: take_map(object, map::LISTENERS)?,
            pending: take_map(object, map::PENDING)?,
            own_connections: take_map(object, map::OWN_CONNECTIONS)?,
            node_connections: take_map(object, map::NODE_CONNECTIONS)?,
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
        ignore_missing(self.namespaces.remove(&NamespaceCookie::new(cookie)))
            .map_err(RedirectError::map(map::NAMESPACES, "remove a namespace"))
    }

    /// Replaces a captured namespace's entry, with its exclusions. Its addresses are set
    /// already ([`set_addresses`](Self::set_addresses)). New ones are in place before the entry
    /// refers to them; old ones go last.
    pub(super) fn set_exclusions(
        &mut self,
        cookie: u64,
        exclusions: &CaptureExclusions,
        written: &mut PodEntries,
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
        // As the pod would connect from without the mesh: from its first address of a family.
        let first = |is_wanted: fn(&IpAddr) -> bool| {
            let address = written.addresses.iter().copied().find(is_wanted);
            address.map_or([0; 16], mapped)
        };
        (entry.v4, entry.v6) = (first(IpAddr::is_ipv4), first(IpAddr::is_ipv6));
        self.set_namespace(cookie, entry)?;

        let old_ports = std::mem::replace(&mut written.ports, ports);
        for port in old_ports.difference(&written.ports) {
            ignore_missing(
                self.excluded_ports
                    .remove(&ExcludedPort::new(namespace, port.to_be_bytes())),
            )
            .map_err(RedirectError::map(map::EXCLUDED_PORTS, "remove a port"))?;
        }
        let old_blocks = std::mem::replace(&mut written.blocks, blocks.into_keys().collect());
        for &(length, block) in old_blocks.difference(&written.blocks) {
            ignore_missing(self.excluded_blocks.remove(&Key::new(length, block)))
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
        written: &mut PodEntries,
    ) -> Result<(), RedirectError> {
        let addresses: Vec<IpAddr> = addresses.iter().map(IpAddr::to_canonical).collect();
        for address in &addresses {
            let bytes = mapped(*address);
            let (plaintext, hbone) = listeners.descriptors_for(*address);
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
            ignore_missing(self.listeners.remove(&ListenerKey::new(bytes, listener)))
                .map_err(RedirectError::map(map::LISTENERS, "remove a listener"))?;
        }
        ignore_missing(self.pod_addresses.remove(&bytes))
            .map_err(RedirectError::map(map::POD_ADDRESSES, "remove an address"))
    }

    /// Removes everything that was written for a pod but its namespace's entry.
    /// Goes on after a failure, and reports the first.
    pub(super) fn remove_entries(
        &mut self,
        cookie: u64,
        written: &mut PodEntries,
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
                ignore_missing(removed)
                    .map_err(RedirectError::map(map::EXCLUDED_PORTS, "remove a port")),
            );
        }
        for (length, block) in written.blocks.drain() {
            let removed = self.excluded_blocks.remove(&Key::new(length, block));
            result = result.and(
                ignore_missing(removed)
                    .map_err(RedirectError::map(map::EXCLUDED_BLOCKS, "remove a block")),
            );
        }
        result
    }

    /// Entries that an earlier agent has left in pinned maps, by namespace.
    pub(super) fn entries_of_predecessor(&self) -> HashMap<u64, PodEntries> {
        let mut left: HashMap<u64, PodEntries> = HashMap::new();
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

    /// The number of records that the programs keep. Walks through them all.
    pub(super) fn records(&self) -> RecordCounts {
        RecordCounts {
            pending: self.pending.keys().count(),
            own_connections: self.own_connections.keys().count(),
            node_connections: self.node_connections.keys().count(),
        }
    }

    /// The number of entries of each table.
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

/// Numbers of connections that the programs see being opened: close to zero, also on a busy node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordCounts {
    /// Captured connections whose end at the proxy doesn't exist yet.
    pub pending: usize,
    /// The proxy's connections to applications.
    pub own_connections: usize,
    /// Connections of the node's processes to captured pods.
    pub node_connections: usize,
}

/// Sizes of the agent's tables in the kernel.
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
fn ignore_missing(result: Result<(), MapError>) -> Result<(), MapError> {
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
