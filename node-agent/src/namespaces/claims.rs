//! Claims: a namespace serves one pod at a time, since two proxies in one would fight over
//! its ports.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weft_model::workload::WorkloadUid;

use super::changes::ChangeNotice;
use super::network_namespace::NamespaceIdentity;

/// The pods that use namespaces now.
#[derive(Debug)]
pub(super) struct NamespaceClaims {
    owners: Mutex<HashMap<NamespaceIdentity, WorkloadUid>>,
    changes: ChangeNotice,
}

/// Keeps a namespace to one pod until it is dropped.
#[derive(Debug)]
pub(crate) struct NamespaceClaim {
    claims: Arc<NamespaceClaims>,
    identity: NamespaceIdentity,
}

impl NamespaceClaims {
    /// No claims yet; `changes` is told of each that ends.
    pub(super) fn new(changes: ChangeNotice) -> Self {
        Self {
            owners: Mutex::default(),
            changes,
        }
    }

    /// The pod that uses a namespace.
    pub(super) fn owner(&self, identity: NamespaceIdentity) -> Option<WorkloadUid> {
        self.owners().get(&identity).cloned()
    }

    /// Keeps a namespace to a pod; `None` when it is kept to one already.
    pub(super) fn claim(
        self: &Arc<Self>,
        identity: NamespaceIdentity,
        pod: &WorkloadUid,
    ) -> Option<NamespaceClaim> {
        match self.owners().entry(identity) {
            Entry::Occupied(_) => None,
            Entry::Vacant(free) => {
                free.insert(pod.clone());
                Some(NamespaceClaim {
                    claims: Arc::clone(self),
                    identity,
                })
            }
        }
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<NamespaceIdentity, WorkloadUid>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NamespaceClaim {
    fn drop(&mut self) {
        self.claims.owners().remove(&self.identity);
        // Whoever waits for it need not wait for the next poll.
        self.claims.changes.notify();
    }
}
