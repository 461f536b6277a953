//! Kubernetes objects in, mesh resources out. Synchronous and pure: whoever watches
//! applies, whoever serves reads a snapshot.

mod compute;
mod resources;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use weft_model::identity::InvalidIdentity;
use weft_model::service::ServiceKey;
use weft_model::workload::WorkloadUid;

use crate::manifest::Object;
pub(crate) use resources::Resources;
#[cfg(test)]
use resources::Versioned;

/// Where objects came from, such as a file's name; replaced and removed as a whole.
pub(crate) type Origin = String;

/// An object that can't take effect because of others.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Conflict {
    /// Two objects with the same name.
    #[error("{origin}: {object} is also in {first}; the one in {first} counts")]
    Duplicate {
        /// Kind, namespace and name.
        object: String,
        /// The file that is ignored for it.
        origin: String,
        /// The file that counts.
        first: String,
    },
    /// Two pods with the same address.
    #[error("{origin}: Pod {pod} has the address {address} of Pod {first}; Pod {pod} is left out")]
    Address {
        /// The pod that is left out.
        pod: ServiceKey,
        /// Its file.
        origin: String,
        /// The address.
        address: String,
        /// The pod that has it.
        first: ServiceKey,
    },
    /// A namespace or service account that can't be part of an identity.
    #[error("{origin}: Pod {pod}: {error}")]
    Identity {
        /// The pod that is left out.
        pod: ServiceKey,
        /// Its file.
        origin: String,
        /// Why.
        error: InvalidIdentity,
    },
}

/// All objects, and which pods are captured.
#[derive(Debug, Default)]
pub(crate) struct Index {
    objects: BTreeMap<Origin, Vec<Object>>,
    captured: HashSet<WorkloadUid>,
}

impl Index {
    /// The objects of an origin are now these.
    pub(crate) fn apply(&mut self, origin: Origin, objects: Vec<Object>) {
        self.objects.insert(origin, objects);
    }

    /// An origin is gone with its objects.
    pub(crate) fn delete(&mut self, origin: &str) {
        self.objects.remove(origin);
    }

    /// These pods are captured, all others are not.
    pub(crate) fn set_captured(&mut self, captured: HashSet<WorkloadUid>) {
        self.captured = captured;
    }

    /// What the mesh consists of now, and what had to be left out.
    pub(crate) fn compute(&self) -> (Arc<Resources>, Vec<Conflict>) {
        let (changes, conflicts) = compute::resources(&self.objects, &self.captured);
        (Arc::new(Resources::new(changes)), conflicts)
    }
}

/// Objects by name, with the first of each name counting.
#[derive(Debug)]
struct Named<'a, T> {
    kind: &'static str,
    by_name: HashMap<ServiceKey, (&'a str, &'a T)>,
}

impl<'a, T> Named<'a, T> {
    fn new(kind: &'static str) -> Self {
        Self {
            kind,
            by_name: HashMap::new(),
        }
    }

    fn insert(
        &mut self,
        key: ServiceKey,
        origin: &'a str,
        object: &'a T,
        conflicts: &mut Vec<Conflict>,
    ) {
        if let Some((first, _)) = self.by_name.get(&key) {
            let object = format!("{} {key}", self.kind);
            let (origin, first) = (origin.to_owned(), (*first).to_owned());
            conflicts.push(Conflict::Duplicate {
                object,
                origin,
                first,
            });
        } else {
            self.by_name.insert(key, (origin, object));
        }
    }
}

#[cfg(test)]
mod tests;
