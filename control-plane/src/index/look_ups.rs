//! What is asked of objects one at a time, and told of sidecars.

use std::collections::BTreeSet;

use kube::api::DynamicObject;
use weft_model::NamespacedName;
use weft_model::workload::{Workload, WorkloadUid};

use super::key_sets::{self, FetchedKeys, KeySources};
use super::objects::Objects;
use super::sidecars::MeshSidecars;
use super::{Index, admission};
use crate::kinds::{EnrolledNamespaces, FieldError, KeySource, Kind, NodeObject, PodObject};

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

    /// The pod of that UID, as agents are told of it.
    pub(crate) fn workload(&self, uid: &WorkloadUid) -> Option<&Workload> {
        self.workloads.get(uid)
    }

    /// The rules of an AuthorizationPolicy that isn't there yet, or the ports of a
    /// RequestAuthentication, that carry no HTTP.
    pub(crate) fn refused_http_rules(&self, kind: Kind, object: &DynamicObject) -> Vec<FieldError> {
        admission::refused_http_rules(&self.objects, kind, object)
    }

    /// Where all key sets are that somebody asks for.
    pub(crate) fn key_sources(&self) -> KeySources {
        let budget = &self.objects.authorization_budget;
        key_sets::sources(&self.objects.tables, |policy| !budget.is_beyond(policy))
    }

    /// Takes in what became of fetching a key set.
    pub(crate) fn set_keys(&mut self, source: &KeySource, fetched: FetchedKeys) {
        let wanted = self.key_sources();
        let Objects {
            tables, key_sets, ..
        } = &mut self.objects;
        for policy in key_sets.set(source, fetched, &wanted, tables) {
            self.authorization_policies.mark_dirty(&policy);
        }
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
