//! The part of all resources that one stream is told. Pure.

use std::borrow::Cow;

use weft_model::mesh::Change;
use weft_model::workload::WorkloadUid;
use weft_proto::v1::{NodeAccess, Resource, ResourceKind, resource};

use super::resources::{ResourceKey, Versioned};

/// The part of all resources that one stream is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum View {
    /// A node's agent: everything.
    Agent,
    /// A pod's sidecar: what that one pod needs. Of other pods it is told what their peers have to
    /// know, and of policies and external services those of its namespace.
    Sidecar {
        /// The pod.
        pod: WorkloadUid,
        /// Its namespace.
        namespace: String,
    },
}

impl View {
    /// The stream may be told that there is such a resource.
    pub(super) fn includes_name(&self, (kind, name): &ResourceKey) -> bool {
        match (self, kind) {
            (Self::Sidecar { namespace, .. }, ResourceKind::NetworkPolicy) => {
                let of = name.split_once('/').map(|(of, _)| of);
                of == Some(namespace.as_str())
            }
            _ => true,
        }
    }

    /// The stream is told that resource.
    pub(super) fn includes(&self, key: &ResourceKey, resource: &Versioned) -> bool {
        match (self, &resource.change) {
            (Self::Sidecar { namespace, .. }, Change::ExternalService(service)) => {
                service.is_mesh_wide || *service.key.namespace == **namespace
            }
            _ => self.includes_name(key),
        }
    }

    /// The resource, as the stream is told it.
    pub(super) fn message<'a>(&self, resource: &'a Resource) -> Cow<'a, Resource> {
        let (Self::Sidecar { pod, .. }, Some(resource::Resource::Workload(other))) =
            (self, &resource.resource)
        else {
            return Cow::Borrowed(resource);
        };
        if other.uid == pod.as_str() {
            return Cow::Borrowed(resource);
        }
        let mut other = other.clone();
        // What only its own proxy asks for.
        other.exclusions = None;
        other.network_namespace = String::new();
        other.idle_limits = None;
        other.node_access = Some(NodeAccess::default());
        Cow::Owned(Resource {
            name: resource.name.clone(),
            version: resource.version.clone(),
            resource: Some(resource::Resource::Workload(other)),
        })
    }
}
