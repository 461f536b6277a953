//! The objects that are known, and who of them refers to whom: always in step.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_model::NamespacedName;
use weft_model::authorization_policy::AuthorizationPolicy;
use weft_model::route::RouteKey;

use super::authorization_budget::AuthorizationBudget;
use super::key_sets::KeySets;
use super::peer_selectors::{PeerSelectors, Selectors};
use super::references::References;
use super::sidecars::MeshSidecars;
use super::tables::Tables;
use crate::kinds::{
    AuthorizationPolicyObject, Kind, MeshConfigObject, NamespaceObject, Object, ObjectKey,
    RequestAuthenticationObject, RouteObject,
};
use crate::source::Origin;

/// Names of objects.
pub(super) type Names = BTreeSet<NamespacedName>;

/// All objects.
#[derive(Debug, Default)]
pub(super) struct Objects {
    /// The namespace of the control plane: what is in it may be for all.
    pub(super) mesh_namespace: Arc<str>,
    pub(super) tables: Tables,
    pub(super) references: References,
    pub(super) peer_selectors: PeerSelectors,
    pub(super) authorization_budget: AuthorizationBudget,
    pub(super) sidecars: MeshSidecars,
    pub(super) key_sets: KeySets,
}

impl Objects {
    /// The settings of the whole mesh.
    pub(super) fn mesh_config(&self) -> Option<&MeshConfigObject> {
        self.tables.all().next().map(|(_, config)| config)
    }

    /// A namespace.
    pub(super) fn namespace(&self, name: &str) -> Option<&NamespaceObject> {
        self.tables.get(&NamespacedName::new("", name))
    }

    /// The route that counts.
    pub(super) fn route(&self, key: &RouteKey) -> Option<&RouteObject> {
        self.route_entry(key).map(|(_, route)| route)
    }

    /// The route that counts, with its origin.
    pub(super) fn route_entry(&self, key: &RouteKey) -> Option<(&Origin, &RouteObject)> {
        self.tables.entry(Kind::from(key.kind), &key.name)
    }

    /// The AuthorizationPolicy, or the RequestAuthentication, that agents know by a name.
    pub(super) fn authorization_policy(
        &self,
        name: &NamespacedName,
    ) -> Option<&AuthorizationPolicyObject> {
        let key = RequestAuthenticationObject::object_of_told(name);
        self.tables.object(&key)?.authorization_policy()
    }

    /// The same as agents are told of it, with the keys that were fetched for it.
    pub(super) fn told_policy(&self, name: &NamespacedName) -> Option<AuthorizationPolicy> {
        let key = RequestAuthenticationObject::object_of_told(name);
        match self.tables.object(&key)? {
            Object::RequestAuthentication(object) => {
                Some(object.with_keys(|source| self.key_sets.keys(source).to_vec()))
            }
            object => object
                .authorization_policy()
                .map(AuthorizationPolicyObject::policy),
        }
    }

    /// Counts the selectors of peers of NetworkPolicies. Gives those that have come to count, or
    /// do no more.
    pub(super) fn count_peer_selectors(&mut self) -> Selectors {
        self.peer_selectors.update(&self.tables)
    }

    /// Counts the parts of AuthorizationPolicies. Gives the policies that have come to be beyond
    /// the share of their namespace, or are so no more.
    pub(super) fn count_authorization_policies(&mut self) -> Names {
        self.authorization_budget.update(&self.tables)
    }

    /// Changes what the tables have under a key.
    pub(super) fn change(&mut self, key: &ObjectKey, change: impl FnOnce(&mut Tables)) {
        let Self {
            tables,
            references,
            peer_selectors,
            authorization_budget,
            ..
        } = self;
        if let Some(before) = tables.object(key) {
            references.remove(before);
            peer_selectors.mark_dirty(before);
            authorization_budget.mark_dirty(before);
        }
        change(tables);
        if let Some(now) = tables.object(key) {
            references.add(now);
            peer_selectors.mark_dirty(now);
            authorization_budget.mark_dirty(now);
        }
    }
}
