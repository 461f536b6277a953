//! Workloads by UID and by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::memberships::Memberships;
use crate::workload::{Workload, WorkloadUid};

/// All workloads.
#[derive(Clone, Debug, Default)]
pub(super) struct WorkloadIndex {
    by_uid: HashMap<WorkloadUid, Arc<Workload>>,
    by_address: HashMap<IpAddr, Arc<Workload>>,
    memberships: Memberships,
}

impl WorkloadIndex {
    /// The workload of that UID.
    pub(super) fn get(&self, uid: &WorkloadUid) -> Option<&Arc<Workload>> {
        self.by_uid.get(uid)
    }

    /// The workload that has a canonical address.
    pub(super) fn by_address(&self, address: IpAddr) -> Option<&Arc<Workload>> {
        self.by_address.get(&address)
    }

    /// All workloads, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.by_uid.values()
    }

    /// Adds a workload, or replaces the one of its UID.
    pub(super) fn insert(&mut self, mut workload: Workload) {
        self.memberships.share(&mut workload);
        self.remove(&workload.uid);
        let workload = Arc::new(workload);
        for address in &workload.addresses {
            self.by_address.insert(*address, Arc::clone(&workload));
        }
        self.by_uid.insert(workload.uid.clone(), workload);
    }

    /// Removes a workload.
    pub(super) fn remove(&mut self, uid: &WorkloadUid) {
        let Some(old) = self.by_uid.remove(uid) else {
            return;
        };
        self.memberships.remove(&old);
        for address in &old.addresses {
            // A new pod may have taken the address before the old one was removed.
            let owner = self.by_address.get(address);
            if owner.is_some_and(|owner| owner.uid == *uid) {
                self.by_address.remove(address);
            }
        }
    }
}

#[cfg(test)]
impl WorkloadIndex {
    /// Asserts that the index points at workloads that exist.
    pub(super) fn assert_consistent(&self) {
        for (address, workload) in &self.by_address {
            assert!(workload.has_address(*address));
            assert!(Arc::ptr_eq(workload, &self.by_uid[&workload.uid]));
        }
        self.memberships.assert_consistent(self.iter());
    }
}
