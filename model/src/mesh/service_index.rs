//! Services by name and by virtual address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::name::NamespacedName;
use crate::service::Service;

/// All Services.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceIndex {
    by_name: HashMap<NamespacedName, Arc<Service>>,
    by_address: HashMap<IpAddr, Arc<Service>>,
}

impl ServiceIndex {
    /// The Service of that name.
    pub(super) fn get(&self, name: &NamespacedName) -> Option<&Arc<Service>> {
        self.by_name.get(name)
    }

    /// The Service that has a canonical virtual address.
    pub(super) fn by_address(&self, address: IpAddr) -> Option<&Arc<Service>> {
        self.by_address.get(&address)
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
    }
}

#[cfg(test)]
impl ServiceIndex {
    /// Asserts that the index points at Services that exist.
    pub(super) fn assert_consistent(&self) {
        for (address, service) in &self.by_address {
            assert!(service.addresses().contains(address));
            assert!(Arc::ptr_eq(service, &self.by_name[&service.key]));
        }
    }
}
