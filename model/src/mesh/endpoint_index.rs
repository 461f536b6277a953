//! Endpoints by Service, and those by address that no pod is behind.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::name::NamespacedName;
use crate::service::{Endpoint, EndpointKey};

/// All endpoints.
#[derive(Clone, Debug, Default)]
pub(super) struct EndpointIndex {
    /// Endpoints of each Service, by address.
    by_service: HashMap<NamespacedName, Arc<Vec<Arc<Endpoint>>>>,
    /// Endpoints without a workload, by address: nothing else says that these are somebody.
    by_address: HashMap<IpAddr, Arc<OfServices>>,
}

/// The endpoint of each Service that has one at an address.
type OfServices = BTreeMap<NamespacedName, Arc<Endpoint>>;

impl EndpointIndex {
    /// The endpoint of that key.
    pub(super) fn get(&self, key: &EndpointKey) -> Option<&Arc<Endpoint>> {
        let endpoints = self.of_service(&key.service);
        let index = position(endpoints, key.address).ok()?;
        endpoints.get(index)
    }

    /// The endpoints of a Service, ready or not.
    pub(super) fn of_service(&self, service: &NamespacedName) -> &[Arc<Endpoint>] {
        let endpoints = self.by_service.get(service);
        endpoints.map_or(&[], |endpoints| endpoints.as_slice())
    }

    /// All endpoints, in no particular order.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.by_service.values().flat_map(|list| list.iter())
    }

    /// Whether an endpoint without a workload takes connections at a canonical address and that
    /// port of it.
    pub(super) fn takes_connections_at(&self, address: SocketAddr) -> bool {
        let endpoints = self.by_address.get(&address.ip());
        let mut endpoints = endpoints.iter().flat_map(|endpoints| endpoints.values());
        endpoints.any(|endpoint| {
            let mut targets = endpoint.ready_ports().iter().map(|(_, target)| *target);
            targets.any(|target| target == address.port())
        })
    }

    /// Adds an endpoint, or replaces the one of its key, which is given back.
    pub(super) fn insert(&mut self, endpoint: Arc<Endpoint>) -> Option<Arc<Endpoint>> {
        let EndpointKey { service, address } = endpoint.key.clone();
        self.remove_from_address(&endpoint.key);
        if endpoint.workload.is_none() {
            let there = Arc::make_mut(self.by_address.entry(address).or_default());
            there.insert(service.clone(), Arc::clone(&endpoint));
        }
        let list = Arc::make_mut(self.by_service.entry(service).or_default());
        match position(list, address) {
            Ok(index) => Some(std::mem::replace(&mut list[index], endpoint)),
            Err(index) => {
                list.insert(index, endpoint);
                None
            }
        }
    }

    /// Removes an endpoint, which is given back.
    pub(super) fn remove(&mut self, key: &EndpointKey) -> Option<Arc<Endpoint>> {
        let list = self.by_service.get_mut(&key.service)?;
        let index = position(list, key.address).ok()?;
        let list = Arc::make_mut(list);
        let removed = list.remove(index);
        if list.is_empty() {
            self.by_service.remove(&key.service);
        }
        self.remove_from_address(key);
        Some(removed)
    }

    fn remove_from_address(&mut self, key: &EndpointKey) {
        if let Some(there) = self.by_address.get_mut(&key.address)
            && there.contains_key(&key.service)
        {
            Arc::make_mut(there).remove(&key.service);
            if there.is_empty() {
                self.by_address.remove(&key.address);
            }
        }
    }
}

/// Index of the endpoint that has an address in a list that is sorted by it, or of its
/// place.
fn position(endpoints: &[Arc<Endpoint>], address: IpAddr) -> Result<usize, usize> {
    endpoints.binary_search_by(|endpoint| endpoint.key.address.cmp(&address))
}

#[cfg(test)]
impl EndpointIndex {
    /// Asserts that lists are sorted and not empty, and that the index by address is the one
    /// that they give anew.
    pub(super) fn assert_consistent(&self) {
        let mut by_address = HashMap::<IpAddr, Arc<OfServices>>::new();
        for list in self.by_service.values() {
            assert!(!list.is_empty());
            assert!(list.is_sorted_by(|a, b| a.key.address < b.key.address));
            for endpoint in list.iter() {
                if endpoint.workload.is_none() {
                    let there = by_address.entry(endpoint.key.address).or_default();
                    let service = endpoint.key.service.clone();
                    Arc::make_mut(there).insert(service, Arc::clone(endpoint));
                }
            }
        }
        assert_eq!(by_address, self.by_address);
    }
}
