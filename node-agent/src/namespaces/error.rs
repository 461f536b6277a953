//! Errors of using a network namespace for a pod.

use weft_model::workload::WorkloadUid;

use super::location::NamespaceLocation;
use super::network_namespace::{NAMED_NAMESPACES, NamespaceError};

/// A reason that a network namespace can't be used for a pod.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodNamespaceError {
    #[error(
        "`{0}` is no name of a network namespace; use the name of a file in {NAMED_NAMESPACES}"
    )]
    Name(String),
    #[error("{0} is the agent's own network namespace, not a pod's")]
    Own(NamespaceLocation),
    #[error("{location} is still used for pod {pod}")]
    Taken {
        location: NamespaceLocation,
        pod: WorkloadUid,
    },
    #[error("{0} changed while it was being opened")]
    Changed(NamespaceLocation),
    #[error("the process by which {0} was found has ended; another one is looked for")]
    LookedFor(NamespaceLocation),
    #[error("the pod's earlier proxy is just ending")]
    Ending,
    #[error(transparent)]
    Open(#[from] NamespaceError),
}
