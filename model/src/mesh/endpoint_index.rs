//! Endpoints by Service, and the addresses that any endpoint has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::name::NamespacedName;
use crate::service::{Endpoint, EndpointKey};

/// All endpoints.
#[derive(Clone, Debug, Default)]
pub(super) struct EndpointIndex {
    /// Endpoints of each Service, by address.
    by_service: HashMap<NamespacedName, Arc<Vec<Arc<Endpoint>>>>,
    /// Number of endpoints that have an address.
    by_address: HashMap<IpAddr, usize>,
}

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

    /// Whether any endpoint has a canonical address.
    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.by_address.contains_key(&address)
    }

    /// Adds an endpoint, or replaces the one of its key, which is given back.
    pub(super) fn insert(&mut self, endpoint: Arc<Endpoint>) -> Option<Arc<Endpoint>> {
        let service = endpoint.key.service.clone();
        let list = Arc::make_mut(self.by_service.entry(service).or_default());
        match position(list, endpoint.key.address) {
            Ok(index) => Some(std::mem::replace(&mut list[index], endpoint)),
            Err(index) => {
                *self.by_address.entry(endpoint.key.address).or_default() += 1;
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
        if let Some(count) = self.by_address.get_mut(&key.address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&key.address);
            }
        }
        Some(removed)
    }
}

/// Index of the endpoint that has an address in a list that is sorted by it, or of its
/// place.
fn position(endpoints: &[Arc<Endpoint>], address: IpAddr) -> Result<usize, usize> {
    endpoints.binary_search_by(|endpoint| endpoint.key.address.cmp(&address))
}

#[cfg(test)]
impl EndpointIndex {
    /// Asserts that lists are sorted and not empty, and that addresses are counted.
    pub(super) fn assert_consistent(&self) {
        let mut by_address = HashMap::new();
        for list in self.by_service.values() {
            assert!(!list.is_empty());
            assert!(list.is_sorted_by(|a, b| a.key.address < b.key.address));
            for endpoint in list.iter() {
                *by_address.entry(endpoint.key.address).or_default() += 1;
            }
        }
        assert_eq!(by_address, self.by_address);
    }
}
