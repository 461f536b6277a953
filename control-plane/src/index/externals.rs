//! External services, which depend on nothing but themselves.

use weft_model::external::ExternalService;
use weft_model::mesh::Change;

use super::Index;

impl Index {
    /// What became of those that were touched.
    pub(super) fn update_externals(&mut self, changes: &mut Vec<Change>, gone: &mut Vec<Change>) {
        for name in std::mem::take(&mut self.dirty_externals) {
            let Some(object) = self.objects.externals.get(&name) else {
                if self.published.externals.remove(&name).is_some() {
                    gone.push(Change::ExternalServiceRemoved(name));
                }
                continue;
            };
            let new = ExternalService {
                is_mesh_wide: name.namespace == self.mesh_namespace.0,
                ..object.service.clone()
            };
            if self.published.externals.get(&name) != Some(&new) {
                changes.push(Change::ExternalService(new.clone()));
                self.published.externals.insert(name, new);
            }
        }
    }
}
