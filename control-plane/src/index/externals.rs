//! External services, which depend on nothing but themselves.

use weft_model::NamespacedName;
use weft_model::external::ExternalService;
use weft_model::mesh::Change;

use super::changes::Changes;
use super::objects::{Names, Objects};
use super::published::{Published, Resource};
use crate::kinds::ExternalServiceObject;

/// The external services that agents have, and those that may be others by now.
#[derive(Debug, Default)]
pub(super) struct Externals {
    dirty: Names,
    published: Published<ExternalService>,
}

impl Resource for ExternalService {
    type Key = NamespacedName;

    fn changed(self) -> Change {
        Change::ExternalService(self)
    }

    fn removed(key: NamespacedName) -> Change {
        Change::ExternalServiceRemoved(key)
    }
}

impl Externals {
    /// An external service is about to be or was just changed.
    pub(super) fn mark_dirty(&mut self, name: &NamespacedName) {
        self.dirty.insert(name.clone());
    }

    /// Looks at everything dirty.
    pub(super) fn update(&mut self, objects: &Objects, changes: &mut Changes) {
        for name in std::mem::take(&mut self.dirty) {
            let object = objects.tables.get::<ExternalServiceObject>(&name);
            let now = object.map(|object| ExternalService {
                is_mesh_wide: name.namespace == objects.mesh_namespace,
                ..object.service.clone()
            });
            self.published.set(&name, now, changes);
        }
    }
}
