//! Namespaces: what they ask for that is below the MeshConfig's floor.

use std::collections::BTreeMap;

use weft_model::NamespacedName;

use super::conflict::Conflict;
use super::objects::{Names, Objects};
use super::settings::floor;
use crate::kinds::{KindObject, NamespaceObject, ObjectKey};

/// Namespaces that ask for less than they may, and those that may by now.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    dirty: Names,
    refused: BTreeMap<NamespacedName, Vec<Conflict>>,
}

impl Namespaces {
    /// A namespace is about to be or was just changed.
    pub(super) fn mark_dirty(&mut self, namespace: &str) {
        self.dirty.insert(NamespacedName::new("", namespace));
    }

    /// The floor is another.
    pub(super) fn mark_all_dirty(&mut self, objects: &Objects) {
        let namespaces = objects.tables.all::<NamespaceObject>();
        self.dirty.extend(namespaces.map(|(name, _)| name.clone()));
    }

    /// What namespaces ask for without effect.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        self.refused.values().flatten()
    }

    /// Looks at everything dirty.
    pub(super) fn update(&mut self, objects: &Objects) {
        for name in std::mem::take(&mut self.dirty) {
            let refused = refused(&name, objects);
            match refused.is_empty() {
                true => self.refused.remove(&name),
                false => self.refused.insert(name, refused),
            };
        }
    }
}

fn refused(name: &NamespacedName, objects: &Objects) -> Vec<Conflict> {
    let kind = NamespaceObject::KIND;
    let Some((origin, namespace)) = objects.tables.entry::<NamespaceObject>(kind, name) else {
        return Vec::new();
    };
    let floor = floor(&namespace.name, Some(namespace), objects.mesh_config());
    let refused = floor.refused_of_namespace(namespace).into_iter();
    let refused = refused.map(|problem| Conflict::Floor {
        object: ObjectKey {
            kind,
            name: name.clone(),
        },
        uid: namespace.uid.clone(),
        origin: origin.clone(),
        problem,
    });
    refused.collect()
}
