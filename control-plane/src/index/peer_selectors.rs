//! The peers in NetworkPolicies that are pods. Every pod of the mesh is compared with each, and
//! all agents have the outcome, so that the policies of one namespace have a limited number: of
//! older policies first. Those beyond it admit no pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_model::NamespacedName;

use super::conflict::Conflict;
use super::references::Links;
use super::tables::Tables;
use crate::kinds::{NetworkPolicyObject, Object, PeerSelector};

/// The most different ones of the policies of one namespace.
const MOST_OF_NAMESPACE: usize = 512;

/// How many policies a conflict names.
const NAMED: usize = 5;

/// Selectors of peers.
pub(super) type Selectors = BTreeSet<Arc<PeerSelector>>;

/// The selectors that count.
#[derive(Debug, Default)]
pub(super) struct PeerSelectors {
    /// Namespaces whose policies may be others by now.
    dirty: BTreeSet<Arc<str>>,
    /// Those of each namespace's policies.
    counted: BTreeMap<Arc<str>, Selectors>,
    /// Those that may match pods of a namespace; those of pods of several under no name.
    to_namespace: Links<Arc<PeerSelector>>,
    /// Namespaces whose policies have too many.
    conflicts: BTreeMap<Arc<str>, Conflict>,
}

impl PeerSelectors {
    /// An object is about to be or was just changed.
    pub(super) fn mark_dirty(&mut self, object: &Object) {
        if let Object::NetworkPolicy(policy) = object {
            self.dirty.insert(Arc::clone(&policy.policy.key.namespace));
        }
    }

    /// Those that may match pods of a namespace.
    pub(super) fn of_pods_in(&self, namespace: &str) -> impl Iterator<Item = &Arc<PeerSelector>> {
        let places = [namespace, ""].map(|namespace| NamespacedName::new("", namespace));
        let places = places.into_iter();
        places.flat_map(|place| self.to_namespace.to(&place))
    }

    /// Namespaces whose policies have too many.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        self.conflicts.values()
    }

    /// Looks at everything dirty. Gives the selectors that have come to count, or do no more.
    pub(super) fn update(&mut self, tables: &Tables) -> Selectors {
        let mut changed = Selectors::new();
        for namespace in std::mem::take(&mut self.dirty) {
            let (now, over) = count(&namespace, tables);
            let before = self.counted.remove(&namespace).unwrap_or_default();
            for selector in before.difference(&now) {
                self.to_namespace.remove(&place(selector), selector);
            }
            for selector in now.difference(&before) {
                self.to_namespace.add(&place(selector), selector);
            }
            changed.extend(before.symmetric_difference(&now).cloned());
            match over.is_empty() {
                true => self.conflicts.remove(&namespace),
                false => {
                    let conflict = conflict(&namespace, &over);
                    self.conflicts.insert(Arc::clone(&namespace), conflict)
                }
            };
            if !now.is_empty() {
                self.counted.insert(namespace, now);
            }
        }
        changed
    }
}

fn place(selector: &PeerSelector) -> NamespacedName {
    let namespace = selector.namespaces.own();
    NamespacedName::new("", namespace.map_or("", |namespace| namespace))
}

/// The selectors of a namespace's policies that count, and the policies of which some don't.
fn count<'a>(namespace: &str, tables: &'a Tables) -> (Selectors, Vec<&'a NamespacedName>) {
    let policies = tables.in_namespace::<NetworkPolicyObject>(namespace);
    let mut policies: Vec<_> = policies
        .filter(|(_, policy)| !policy.peers.is_empty())
        .collect();
    policies.sort_by_key(|(name, policy)| (policy.created, *name));
    let mut counted = Selectors::new();
    let mut over = Vec::new();
    for (name, policy) in policies {
        let mut fits = true;
        for selector in &policy.peers {
            if counted.len() < MOST_OF_NAMESPACE {
                counted.insert(Arc::clone(selector));
            } else {
                fits &= counted.contains(selector);
            }
        }
        if !fits {
            over.push(name);
        }
    }
    (counted, over)
}

fn conflict(namespace: &Arc<str>, over: &[&NamespacedName]) -> Conflict {
    let named = over
        .iter()
        .take(NAMED)
        .map(|policy| policy.name.to_string());
    let mut policies = named.collect::<Vec<_>>().join(", ");
    if let Some(more) = over.len().checked_sub(NAMED).filter(|more| *more > 0) {
        policies += &format!(" and {more} more");
    }
    Conflict::PeerSelectors {
        namespace: Arc::clone(namespace),
        most: MOST_OF_NAMESPACE,
        policies,
    }
}
