//! The maps that the agent writes, with their types.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::RawFd;

use aya::Ebpf;
use aya::maps::lpm_trie::Key;
use aya::maps::{self, LpmTrie, MapData, SockHash};
use weft_ebpf_common::{
    ExcludedBlock, ExcludedPort, Listener, ListenerKey, NamespaceCookie, NamespaceEntry,
    NamespaceRole, map,
};
use weft_model::node_access::NodeAccess;
use weft_model::workload::CaptureExclusions;

use super::entries::{self, Exclusions, PodEntries};
use super::error::RedirectError;
use super::listeners::{OutboundListeners, PodListeners};
use super::node_ports::NodePorts;
use super::object::{ignore_missing, take_map};
use super::records::Records;
use super::table_sizes::{RecordCounts, TableSizes};

const _: () = assert!(weft_ebpf_common::OUTBOUND_PORT == weft_model::ports::OUTBOUND_PORT);
const _: () = assert!(weft_ebpf_common::HBONE_PORT == weft_model::ports::HBONE_PORT);

type Hash<K, V> = maps::HashMap<MapData, K, V>;

/// The tables that tell the programs about namespaces and pods. One writer at a time: its
/// owner holds it in a mutex.
pub(super) struct Tables {
    namespaces: Hash<NamespaceCookie, NamespaceEntry>,
    /// Namespaces that are marked as outside while nothing else is said of them.
    pub(super) left_alone: HashSet<u64>,
    excluded_ports: Hash<ExcludedPort, u8>,
    excluded_blocks: LpmTrie<MapData, ExcludedBlock, u8>,
    pod_addresses: Hash<[u8; 16], NamespaceCookie>,
    listeners: SockHash<MapData, ListenerKey>,
    records: Records,
    node_ports: NodePorts,
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

impl Tables {
    pub(super) fn from_object(object: &mut Ebpf) -> Result<Self, RedirectError> {
        Ok(Self {
            namespaces: take_map(object, map::NAMESPACES)?,
            left_alone: HashSet::new(),
            excluded_ports: take_map(object, map::EXCLUDED_PORTS)?,
            excluded_blocks: take_map(object, map::EXCLUDED_BLOCKS)?,
            pod_addresses: take_map(object, map::POD_ADDRESSES)?,
            listeners: take_map(object, map::LISTENERS)?,
            records: Records::from_object(object)?,
            node_ports: NodePorts::from_object(object)?,
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

    /// What was said about a namespace.
    pub(super) fn namespace(&self, cookie: u64) -> Option<NamespaceEntry> {
        self.namespaces.get(&NamespaceCookie::new(cookie), 0).ok()
    }

    /// Makes a namespace unknown again, or leaves it alone.
    pub(super) fn remove_namespace(&mut self, cookie: u64) -> Result<(), RedirectError> {
        if self.left_alone.contains(&cookie) {
            return self.set_namespace(cookie, NamespaceEntry::new(NamespaceRole::Outside));
        }
        ignore_missing(self.namespaces.remove(&NamespaceCookie::new(cookie)))
            .map_err(RedirectError::map(map::NAMESPACES, "remove a namespace"))
    }

    /// Replaces an enrolled namespace's entry, with its exclusions and the listeners on which its
    /// connections are held. Its addresses are set
    /// already ([`set_addresses`](Self::set_addresses)). New ones are in place before the entry
    /// refers to them; old ones go last.
    pub(super) fn set_exclusions(
        &mut self,
        cookie: u64,
        role: NamespaceRole,
        exclusions: &CaptureExclusions,
        outbound: OutboundListeners,
        written: &mut PodEntries,
    ) -> Result<(), RedirectError> {
        let wanted = Exclusions::new(cookie, exclusions)?;
        let new = wanted.without(&written.exclusions);
        // Remembered before they are written, so that none is ever left behind.
        written.exclusions.extend(&new);
        let mut entry = NamespaceEntry::new(role);
        entry.has_excluded_ports = u8::from(!wanted.ports.is_empty());
        entry.has_excluded_blocks = u8::from(!wanted.blocks.is_empty());
        // As the pod would connect from without the mesh: from its first address of a family.
        let first = |is_wanted: fn(&IpAddr) -> bool| {
            let address = written.addresses.iter().copied().find(is_wanted);
            address.map_or([0; 16], mapped)
        };
        (entry.v4, entry.v6) = (first(IpAddr::is_ipv4), first(IpAddr::is_ipv6));
        let cookies = outbound.cookies;
        (entry.outbound_v4, entry.outbound_v6) = (cookies.v4, cookies.v6);
        entry.port_v4 = outbound.port_v4.to_be_bytes();
        entry.port_v6 = outbound.port_v6.to_be_bytes();
        entry.is_spread = u8::from(outbound.is_spread);
        let result = self.write_exclusions(cookie, &wanted);
        let result = result.and_then(|()| self.set_namespace(cookie, entry));
        let unwanted = match &result {
            Ok(()) => written.exclusions.without(&wanted),
            Err(_) => new,
        };
        result.and(self.remove_exclusions(cookie, &unwanted, &mut written.exclusions))
    }

    fn write_exclusions(&mut self, cookie: u64, wanted: &Exclusions) -> Result<(), RedirectError> {
        let namespace = NamespaceCookie::new(cookie);
        for port in &wanted.ports {
            self.excluded_ports
                .insert(ExcludedPort::new(namespace, port.to_be_bytes()), 1, 0)
                .map_err(RedirectError::map(map::EXCLUDED_PORTS, "write a port"))?;
        }
        for (&(length, block), excluded) in &wanted.blocks {
            self.excluded_blocks
                .insert(&Key::new(length, block), excluded, 0)
                .map_err(RedirectError::map(map::EXCLUDED_BLOCKS, "write a block"))?;
        }
        Ok(())
    }

    /// Removes entries, and forgets those that are gone. Goes on after a failure, and reports
    /// the first.
    fn remove_exclusions(
        &mut self,
        cookie: u64,
        unwanted: &Exclusions,
        written: &mut Exclusions,
    ) -> Result<(), RedirectError> {
        let namespace = NamespaceCookie::new(cookie);
        let mut result = Ok(());
        for port in &unwanted.ports {
            let key = ExcludedPort::new(namespace, port.to_be_bytes());
            match ignore_missing(self.excluded_ports.remove(&key)) {
                Ok(()) => _ = written.ports.remove(port),
                Err(error) => {
                    let failed = RedirectError::map(map::EXCLUDED_PORTS, "remove a port");
                    result = result.and(Err(failed(error)));
                }
            }
        }
        for key @ &(length, block) in unwanted.blocks.keys() {
            match ignore_missing(self.excluded_blocks.remove(&Key::new(length, block))) {
                Ok(()) => _ = written.blocks.remove(key),
                Err(error) => {
                    let failed = RedirectError::map(map::EXCLUDED_BLOCKS, "remove a block");
                    result = result.and(Err(failed(error)));
                }
            }
        }
        result
    }

    /// Has every connection of a captured namespace refused but its exclusions.
    pub(super) fn refuse_captured(&mut self, cookie: u64) -> Result<(), RedirectError> {
        let entry = self.namespaces.get(&NamespaceCookie::new(cookie), 0);
        let mut entry = entry.map_err(RedirectError::map(map::NAMESPACES, "read a namespace"))?;
        entry.role = NamespaceRole::Enforced as u8;
        (entry.outbound_v4, entry.outbound_v6) = ([0; 8], [0; 8]);
        self.set_namespace(cookie, entry)
    }

    /// Says which addresses are the pod's and where its listeners are, if it has any.
    pub(super) fn set_addresses(
        &mut self,
        cookie: u64,
        addresses: &[IpAddr],
        listeners: Option<&PodListeners>,
        written: &mut PodEntries,
    ) -> Result<(), RedirectError> {
        let addresses = entries::canonical(addresses)?;
        let missing = |of: &[IpAddr], from: &[IpAddr]| -> Vec<IpAddr> {
            let is_missing = |address: &IpAddr| !from.contains(address);
            of.iter().copied().filter(is_missing).collect()
        };
        let new = missing(&addresses, &written.addresses);
        let old = missing(&written.addresses, &addresses);
        // Remembered before they are written, so that none is ever left behind.
        written.addresses.extend(&new);
        let result = self.write_addresses(cookie, &addresses, listeners);
        let unwanted = match &result {
            Ok(()) => {
                // The first one of each family is the pod's own.
                written.addresses = addresses;
                written.addresses.extend(&old);
                old
            }
            Err(_) => new,
        };
        result.and(self.remove_addresses(cookie, &unwanted, &mut written.addresses))
    }

    fn write_addresses(
        &mut self,
        cookie: u64,
        addresses: &[IpAddr],
        listeners: Option<&PodListeners>,
    ) -> Result<(), RedirectError> {
        for address in addresses {
            let bytes = mapped(*address);
            match listeners {
                Some(listeners) => {
                    self.set_listeners(bytes, listeners.descriptors_for(*address))?
                }
                // Also those of the one that had it before.
                None => self.remove_listeners(bytes)?,
            }
            self.pod_addresses
                .insert(bytes, NamespaceCookie::new(cookie), 0)
                .map_err(RedirectError::map(map::POD_ADDRESSES, "write an address"))?;
        }
        Ok(())
    }

    /// Removes addresses, and forgets those that are gone. Goes on after a failure, and reports
    /// the first.
    fn remove_addresses(
        &mut self,
        cookie: u64,
        unwanted: &[IpAddr],
        written: &mut Vec<IpAddr>,
    ) -> Result<(), RedirectError> {
        let mut result = Ok(());
        for address in unwanted {
            let removed = self.remove_address(cookie, *address);
            if removed.is_ok() {
                written.retain(|one| one != address);
            }
            result = result.and(removed);
        }
        result
    }

    /// Says which ports of a pod stay open to its node while no proxy runs.
    pub(super) fn set_node_access(
        &mut self,
        cookie: u64,
        access: &NodeAccess,
        written: &mut PodEntries,
    ) -> Result<(), RedirectError> {
        let pod = NamespaceCookie::new(cookie);
        self.node_ports.set(pod, access, &mut written.node_ports)
    }

    fn set_listeners(
        &mut self,
        address: [u8; 16],
        (plaintext, hbone): (Option<RawFd>, Option<RawFd>),
    ) -> Result<(), RedirectError> {
        for (listener, socket) in [(Listener::Plaintext, plaintext), (Listener::Hbone, hbone)] {
            let Some(socket) = socket else { continue };
            self.listeners
                .insert(ListenerKey::new(address, listener), socket, 0)
                .map_err(RedirectError::map(map::LISTENERS, "write a listener"))?;
        }
        Ok(())
    }

    /// The namespace that has an address, by its cookie.
    pub(super) fn owner(&self, address: IpAddr) -> Option<u64> {
        let owner = self.pod_addresses.get(&mapped(address), 0).ok();
        owner.map(|owner| owner.get())
    }

    fn remove_listeners(&mut self, address: [u8; 16]) -> Result<(), RedirectError> {
        for listener in [Listener::Plaintext, Listener::Hbone] {
            ignore_missing(self.listeners.remove(&ListenerKey::new(address, listener)))
                .map_err(RedirectError::map(map::LISTENERS, "remove a listener"))?;
        }
        Ok(())
    }

    fn remove_address(&mut self, cookie: u64, address: IpAddr) -> Result<(), RedirectError> {
        // It may have passed to a new pod before the old one is released, which must then
        // leave it alone.
        if self.owner(address).is_some_and(|owner| owner != cookie) {
            return Ok(());
        }
        let bytes = mapped(address);
        self.remove_listeners(bytes)?;
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
        let addresses = written.addresses.clone();
        let result = self.remove_addresses(cookie, &addresses, &mut written.addresses);
        let exclusions = written.exclusions.clone();
        let removed = self.remove_exclusions(cookie, &exclusions, &mut written.exclusions);
        let namespace = NamespaceCookie::new(cookie);
        let ports = self
            .node_ports
            .remove_all(namespace, &mut written.node_ports);
        result.and(removed).and(ports)
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
                .exclusions
                .ports
                .insert(port);
        }
        for (key, excluded) in self.excluded_blocks.iter().flatten() {
            let cookie = u64::from_ne_bytes(key.data().namespace);
            left.entry(cookie)
                .or_default()
                .exclusions
                .blocks
                .insert((key.prefix_len(), key.data()), excluded);
        }
        for (cookie, port) in self.node_ports.all() {
            left.entry(cookie).or_default().node_ports.insert(port);
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
        self.records.counts()
    }

    /// The number of entries of each table, beside those where applications listen.
    pub(super) fn sizes(&self, listening: usize) -> TableSizes {
        TableSizes {
            namespaces: self.namespaces.keys().count(),
            excluded_ports: self.excluded_ports.keys().count(),
            excluded_blocks: self.excluded_blocks.keys().count(),
            pod_addresses: self.pod_addresses.keys().count(),
            listeners: self.listeners.keys().count(),
            node_ports: self.node_ports.all().count(),
            listening,
        }
    }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}
