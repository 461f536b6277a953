//! The part of all resources that one stream is told. Pure.

use std::borrow::Cow;
use std::sync::Arc;

use weft_model::mesh::Change;
use weft_model::workload::WorkloadUid;
use weft_proto::v1::{self, NodeAccess, Resource, ResourceKind, resource};

use super::audience::Proxy;
use super::resources::{ResourceKey, Resources, Versioned};

/// The part of all resources that one stream is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum View {
    /// A node's agent: everything, but of AuthorizationPolicies those of its own pods.
    Agent {
        /// The node.
        node: Arc<str>,
    },
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
    pub(super) fn includes(
        &self,
        key: &ResourceKey,
        resource: &Versioned,
        resources: &Resources,
    ) -> bool {
        match (self, &resource.change) {
            (_, Change::AuthorizationPolicy(policy)) => {
                resources.is_for(&policy.key, &self.proxy())
            }
            (Self::Sidecar { namespace, .. }, Change::ExternalService(service)) => {
                service.is_mesh_wide || *service.key.namespace == **namespace
            }
            _ => self.includes_name(key),
        }
    }

    /// The proxy that the stream is of.
    fn proxy(&self) -> Proxy {
        match self {
            Self::Agent { node } => Proxy::Node(Arc::clone(node)),
            Self::Sidecar { pod, .. } => Proxy::Pod(pod.clone()),
        }
    }

    /// The resource, as the stream is told it.
    pub(super) fn message<'a>(&self, resource: &'a Resource) -> Cow<'a, Resource> {
        let Some(resource::Resource::Workload(workload)) = &resource.resource else {
            return Cow::Borrowed(resource);
        };
        let mut other = match self {
            Self::Agent { node } => {
                let is_own = *workload.node == **node && !workload.sidecar;
                let is_plain = workload.authorization.is_none() && workload.access_log.is_none();
                if is_own || is_plain {
                    return Cow::Borrowed(resource);
                }
                workload.clone()
            }
            Self::Sidecar { pod, .. } if workload.uid == pod.as_str() => {
                return Cow::Borrowed(resource);
            }
            Self::Sidecar { .. } => v1::Workload {
                exclusions: None,
                network_namespace: String::new(),
                idle_limits: None,
                node_access: Some(NodeAccess::default()),
                ..workload.clone()
            },
        };
        // What only its own proxy asks for. A filter for the whole mesh would come once for each pod.
        (other.authorization, other.access_log) = (None, None);
        Cow::Owned(Resource {
            name: resource.name.clone(),
            version: resource.version.clone(),
            resource: Some(resource::Resource::Workload(other)),
        })
    }
}
