//! What is asked of nodes and namespaces, and told of sidecars.

use std::collections::BTreeSet;

use weft_model::NamespacedName;

use super::Index;
use super::sidecars::MeshSidecars;
use crate::kinds::{EnrolledNamespaces, NodeObject, PodObject};

impl Index {
    /// The sidecars that this mesh injects, and has injected.
    pub(crate) fn set_sidecars(&mut self, sidecars: MeshSidecars) {
        if self.objects.sidecars != sidecars {
            self.objects.sidecars = sidecars;
            let has_sidecar = |pod: &PodObject| pod.sidecar.is_there();
            self.workloads.mark_pods_dirty(&self.objects, has_sidecar);
        }
    }

    /// A node's label says that its agent can capture, or can't.
    pub(crate) fn can_capture(&self, node: &str) -> Option<bool> {
        let name = NamespacedName::new("", node);
        self.objects.tables.get::<NodeObject>(&name)?.can_capture
    }

    /// The namespace is known.
    pub(crate) fn knows_namespace(&self, namespace: &str) -> bool {
        self.objects.namespace(namespace).is_some()
    }

    /// Namespaces that the floor enrols.
    pub(crate) fn enrolled_by_floor(&self) -> Vec<EnrolledNamespaces> {
        let config = self.objects.mesh_config();
        config
            .map(|config| config.floor.enrolled())
            .unwrap_or_default()
    }

    /// Namespaces in which pods have a sidecar.
    pub(crate) fn sidecar_namespaces(&self) -> BTreeSet<&str> {
        let pods = self.objects.tables.all::<PodObject>();
        let pods = pods.filter(|(_, pod)| pod.sidecar.is_there() && !pod.ended);
        pods.map(|(name, _)| &*name.namespace).collect()
    }
}
