//! The share of a namespace in what agents know of AuthorizationPolicies: an agent is there for the
//! pods of all tenants of its node.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_model::NamespacedName;

use super::tables::Tables;
use crate::kinds::Object;

/// The most memory that an agent needs for all AuthorizationPolicies of one namespace together, in
/// bytes, about.
pub(super) const MOST_BYTES: usize = 8 * 1024 * 1024;

/// Names of policies.
type Names = BTreeSet<NamespacedName>;

/// The policies that are beyond the share of their namespace: its newest ones.
#[derive(Debug, Default)]
pub(super) struct AuthorizationBudget {
    /// Namespaces whose policies have changed.
    dirty: BTreeSet<Arc<str>>,
    beyond: Names,
}

impl AuthorizationBudget {
    /// An object is about to be or was just changed.
    pub(super) fn mark_dirty(&mut self, object: &Object) {
        if let Some(policy) = object.authorization_policy() {
            self.dirty.insert(Arc::clone(&policy.key.namespace));
        }
    }

    /// Whether a policy is beyond the share of its namespace.
    pub(super) fn is_beyond(&self, policy: &NamespacedName) -> bool {
        self.beyond.contains(policy)
    }

    /// Counts again where something has changed. Gives the policies that have come to be beyond
    /// their share, or are so no more.
    pub(super) fn update(&mut self, tables: &Tables) -> Names {
        let mut changed = Names::new();
        for namespace in std::mem::take(&mut self.dirty) {
            let beyond = beyond(&namespace, tables);
            let before = self.beyond.iter();
            let before: Names = before
                .filter(|policy| policy.namespace == namespace)
                .cloned()
                .collect();
            changed.extend(before.symmetric_difference(&beyond).cloned());
            self.beyond.retain(|policy| policy.namespace != namespace);
            self.beyond.extend(beyond);
        }
        changed
    }
}

fn beyond(namespace: &str, tables: &Tables) -> Names {
    let mut policies: Vec<_> = tables.authorization_policies(namespace).collect();
    policies.sort_by_key(|policy| (policy.created, &policy.key));
    let mut bytes = 0_usize;
    let beyond = policies.into_iter().filter(|policy| {
        bytes = bytes.saturating_add(policy.size());
        bytes > MOST_BYTES
    });
    beyond.map(|policy| policy.key.clone()).collect()
}
