//! The place to look at for a pod's network namespace.

use std::fmt;

use weft_model::workload::Workload;

use super::network_namespace::NAMED_NAMESPACES;

/// The place at which a pod's network namespace is looked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum NamespaceLocation {
    /// A file in the folder of named namespaces.
    Named(String),
    /// The processes of the pod of that UID.
    OfPod(String),
}

impl NamespaceLocation {
    /// The location for a workload. Manifests name the namespace, or else it has the pod's
    /// name; their pods have no UID that kubelet gave them.
    pub(crate) fn for_workload(workload: &Workload) -> Self {
        let uid = workload.uid.as_str();
        match &*workload.network_namespace {
            "" if uid.contains('/') => Self::Named(workload.name.to_string()),
            "" => Self::OfPod(uid.to_owned()),
            name => Self::Named(name.to_owned()),
        }
    }
}

impl fmt::Display for NamespaceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(f, "{NAMED_NAMESPACES}/{name}"),
            Self::OfPod(uid) => write!(f, "the network namespace of the processes of pod {uid}"),
        }
    }
}
