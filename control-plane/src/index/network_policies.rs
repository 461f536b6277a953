//! NetworkPolicies: their rules, as agents have them.

use weft_model::NamespacedName;
use weft_model::mesh::Change;
use weft_model::network_policy::NetworkPolicy;

use super::changes::Changes;
use super::objects::{Names, Objects};
use super::published::{Published, Resource};
use crate::kinds::NetworkPolicyObject;

/// The policies that agents have, and those that may be others by now.
#[derive(Debug, Default)]
pub(super) struct NetworkPolicies {
    dirty: Names,
    published: Published<NetworkPolicy>,
}

impl Resource for NetworkPolicy {
    type Key = NamespacedName;

    fn changed(self) -> Change {
        Change::NetworkPolicy(self)
    }

    fn removed(key: NamespacedName) -> Change {
        Change::NetworkPolicyRemoved(key)
    }
}

impl NetworkPolicies {
    /// A policy is about to be or was just changed.
    pub(super) fn mark_dirty(&mut self, policy: &NamespacedName) {
        self.dirty.insert(policy.clone());
    }

    /// Looks at everything dirty.
    pub(super) fn update(&mut self, objects: &Objects, changes: &mut Changes) {
        for name in std::mem::take(&mut self.dirty) {
            let object = objects.tables.get::<NetworkPolicyObject>(&name);
            let policy = object.map(|object| object.policy.clone());
            self.published.set(&name, policy, changes);
        }
    }
}
