//! What is asked of objects that aren't there yet, and of nodes and namespaces.

use std::collections::BTreeSet;

use kube::api::DynamicObject;

use super::Cluster;
use crate::index::AdmittedPod;
use crate::kinds::{EnrolledNamespaces, FieldError, Kind};

impl Cluster {
    /// Whether the pods of a namespace are in the mesh unless they say otherwise.
    pub(crate) fn is_enrolled(&self, namespace: &str) -> bool {
        self.lock().index.is_enrolled(namespace)
    }

    /// The wishes of an object that isn't there yet that would have no effect.
    pub(crate) fn refused_by_floor(
        &self,
        kind: Kind,
        namespace: &str,
        object: &DynamicObject,
    ) -> Vec<FieldError> {
        let known = self.lock();
        known.index.refused_by_floor(kind, namespace, object)
    }

    /// The rules of an AuthorizationPolicy that isn't there yet on ports that carry no HTTP.
    pub(crate) fn refused_http_rules(&self, kind: Kind, object: &DynamicObject) -> Vec<FieldError> {
        self.lock().index.refused_http_rules(kind, object)
    }

    /// A pod that isn't there yet is to be in the mesh, and to be ready no sooner. The API server
    /// may have seen that its namespace is in.
    pub(crate) fn needs_gate(
        &self,
        namespace: &str,
        pod: &DynamicObject,
        is_namespace_in: bool,
    ) -> bool {
        let known = self.lock();
        known.index.needs_gate(namespace, pod, is_namespace_in)
    }

    /// A pod that isn't there yet, where it is to be in the mesh. The API server may have seen that
    /// its namespace is in.
    pub(crate) fn admitted_pod(
        &self,
        namespace: &str,
        pod: &DynamicObject,
        is_namespace_in: bool,
    ) -> Option<AdmittedPod> {
        let known = self.lock();
        known.index.admitted_pod(namespace, pod, is_namespace_in)
    }

    /// A node's label says that its agent can capture, or can't; none where it has none.
    pub(crate) fn can_capture(&self, node: &str) -> Option<bool> {
        self.lock().index.can_capture(node)
    }

    /// The namespace is known.
    pub(crate) fn knows_namespace(&self, namespace: &str) -> bool {
        self.lock().index.knows_namespace(namespace)
    }

    /// Namespaces that the floor enrols.
    pub(crate) fn enrolled_by_floor(&self) -> Vec<EnrolledNamespaces> {
        self.lock().index.enrolled_by_floor()
    }

    /// Namespaces in which pods have a sidecar.
    pub(crate) fn sidecar_namespaces(&self) -> BTreeSet<String> {
        let known = self.lock();
        let names = known.index.sidecar_namespaces().into_iter();
        names.map(str::to_owned).collect()
    }
}
