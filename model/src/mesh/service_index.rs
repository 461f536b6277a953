//! Services by name, by virtual address, and by what else leads to their ports.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::name::NamespacedName;
use crate::service::Service;

/// All Services. Who writes one says how many addresses and how many ports it has: an index has
/// an entry for each address or each port, never for each pair of them.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceIndex {
    by_name: HashMap<NamespacedName, Arc<Service>>,
    by_address: HashMap<IpAddr, Arc<Service>>,
    /// Which port somebody wants there, the Services say.
    by_external_address: Claims<IpAddr>,
    by_node_port: Claims<u16>,
}

/// Services that want the same, the oldest first: that one has it. Shared by the snapshots in
/// which they are the same.
type Claims<K> = Arc<HashMap<K, Arc<Vec<Arc<Service>>>>>;

impl ServiceIndex {
    /// The Service of that name.
    pub(super) fn get(&self, name: &NamespacedName) -> Option<&Arc<Service>> {
        self.by_name.get(name)
    }

    /// The Service that has a canonical virtual address.
    pub(super) fn by_address(&self, address: IpAddr) -> Option<&Arc<Service>> {
        self.by_address.get(&address)
    }

    /// The Service that has that external address, for one of its ports.
    pub(super) fn by_external_address(&self, address: SocketAddr) -> Option<&Arc<Service>> {
        let mut claims = self.by_external_address.get(&address.ip())?.iter();
        claims.find(|service| service.port(address.port()).is_some())
    }

    /// The Service that has that port on every node.
    pub(super) fn by_node_port(&self, port: u16) -> Option<&Arc<Service>> {
        self.by_node_port.get(&port)?.first()
    }

    /// All Services, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.by_name.values()
    }

    /// Adds a Service, or replaces the one of its name.
    pub(super) fn insert(&mut self, service: Arc<Service>) {
        self.remove(&service.key);
        for address in service.addresses() {
            self.by_address.insert(*address, Arc::clone(&service));
        }
        for address in &service.external_addresses {
            claim(&mut self.by_external_address, *address, &service);
        }
        for port in node_ports(&service) {
            claim(&mut self.by_node_port, port, &service);
        }
        self.by_name.insert(service.key.clone(), service);
    }

    /// Removes a Service.
    pub(super) fn remove(&mut self, name: &NamespacedName) {
        let Some(old) = self.by_name.remove(name) else {
            return;
        };
        for address in old.addresses() {
            // A new Service may have taken the address before the old one was removed.
            let owner = self.by_address.get(address);
            if owner.is_some_and(|owner| owner.key == *name) {
                self.by_address.remove(address);
            }
        }
        for address in &old.external_addresses {
            give_up(&mut self.by_external_address, *address, &old);
        }
        for port in node_ports(&old) {
            give_up(&mut self.by_node_port, port, &old);
        }
    }
}

fn node_ports(service: &Service) -> impl Iterator<Item = u16> {
    service.ports.iter().filter_map(|port| port.node_port)
}

fn claim<K: Clone + Eq + Hash>(claims: &mut Claims<K>, key: K, service: &Arc<Service>) {
    let claims = Arc::make_mut(claims);
    let of_key = Arc::make_mut(claims.entry(key).or_default());
    // A Service may name an address twice.
    if let Err(place) = of_key.binary_search_by(|other| by_age(other, service)) {
        of_key.insert(place, Arc::clone(service));
    }
}

fn give_up<K: Clone + Eq + Hash>(claims: &mut Claims<K>, key: K, service: &Service) {
    let claims = Arc::make_mut(claims);
    let Some(of_key) = claims.get_mut(&key) else {
        return;
    };
    if let Ok(place) = of_key.binary_search_by(|other| by_age(other, service)) {
        Arc::make_mut(of_key).remove(place);
    }
    if of_key.is_empty() {
        claims.remove(&key);
    }
}

/// The older one first; of equally old ones that whose name is first.
fn by_age(a: &Service, b: &Service) -> Ordering {
    (a.created, &a.key).cmp(&(b.created, &b.key))
}

#[cfg(test)]
impl ServiceIndex {
    /// Asserts that the index points at Services that exist.
    pub(super) fn assert_consistent(&self) {
        for (address, service) in &self.by_address {
            assert!(service.addresses().contains(address));
            assert!(Arc::ptr_eq(service, &self.by_name[&service.key]));
        }
        let mut anew = Self::default();
        for service in self.by_name.values() {
            anew.insert(Arc::clone(service));
        }
        assert_eq!(anew.by_external_address, self.by_external_address);
        assert_eq!(anew.by_node_port, self.by_node_port);
    }

    /// Whether the indexes of external addresses and ports of nodes are the very same.
    pub(super) fn shares_claims_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.by_external_address, &other.by_external_address)
            && Arc::ptr_eq(&self.by_node_port, &other.by_node_port)
    }

    /// How many entries the indexes of external addresses and ports of nodes have.
    pub(super) fn claims(&self) -> usize {
        let addresses = self.by_external_address.values().map(|claims| claims.len());
        let ports = self.by_node_port.values().map(|claims| claims.len());
        addresses.chain(ports).sum()
    }
}
