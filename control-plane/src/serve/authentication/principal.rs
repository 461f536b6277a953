//! The one that a call's token speaks for.

use std::fmt;

use weft_model::workload::WorkloadUid;
use weft_model::{NamespacedName, SpiffeId};

/// The one that a call's token speaks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Principal {
    /// A node's agent, which serves the pods of that node.
    Agent {
        /// The node.
        node: String,
    },
    /// A pod's sidecar, which serves that pod.
    Sidecar(PodPrincipal),
}

/// A pod, as its own token names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PodPrincipal {
    /// Namespace and name.
    pub(crate) name: NamespacedName,
    /// UID; join tokens say none.
    pub(crate) uid: Option<WorkloadUid>,
    /// Its ServiceAccount, in the same namespace; join tokens say none.
    pub(crate) service_account: Option<String>,
}

impl PodPrincipal {
    /// An identity that its ServiceAccount may have.
    pub(crate) fn may_be(&self, identity: &SpiffeId) -> bool {
        let account = self.service_account.as_deref();
        identity.namespace() == &*self.name.namespace
            && account.is_none_or(|account| account == identity.service_account())
    }

    /// A pod with that UID may be it.
    pub(crate) fn has_uid(&self, uid: &WorkloadUid) -> bool {
        self.uid.as_ref().is_none_or(|own| own == uid)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent { node } => write!(f, "node {node}"),
            Self::Sidecar(pod) => write!(f, "pod {}", pod.name),
        }
    }
}
