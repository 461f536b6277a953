//! The one that a discovery stream is of, and what it may subscribe to.

use tonic::Status;
use weft_model::NamespacedName;
use weft_model::workload::WorkloadUid;
use weft_proto::v1::Subscribe;

use crate::publish::View;

/// The one that a discovery stream is of.
#[derive(Clone, Debug)]
pub(super) enum Subscriber {
    /// A node's agent.
    Agent {
        /// The node.
        node: String,
    },
    /// A pod's sidecar.
    Sidecar {
        /// Namespace and name of the pod.
        pod: NamespacedName,
        /// The same as text.
        name: String,
        /// Its UID.
        uid: WorkloadUid,
        /// Its node.
        node: String,
    },
}

impl Subscriber {
    /// The sidecar of that pod.
    pub(super) fn sidecar(pod: NamespacedName, uid: WorkloadUid, node: &str) -> Self {
        Self::Sidecar {
            name: pod.to_string(),
            pod,
            uid,
            node: node.to_owned(),
        }
    }

    /// Its name among agents: no node has a slash in its name, every pod has.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Agent { node } => node,
            Self::Sidecar { name, .. } => name,
        }
    }

    /// The node that it is on.
    pub(super) fn node(&self) -> &str {
        match self {
            Self::Agent { node } | Self::Sidecar { node, .. } => node,
        }
    }

    /// What it is told.
    pub(super) fn view(&self) -> View {
        match self {
            Self::Agent { node } => View::Agent {
                node: node.as_str().into(),
            },
            Self::Sidecar { pod, uid, .. } => View::Sidecar {
                pod: uid.clone(),
                namespace: pod.namespace.to_string(),
            },
        }
    }

    /// Lets it subscribe as the one that its token is for.
    ///
    /// # Errors
    /// When it says that it is somebody else.
    pub(super) fn authorize(&self, subscribe: &Subscribe) -> Result<(), Status> {
        let wanted = &subscribe.workload_uid;
        let why = match self {
            Self::Agent { node } if !wanted.is_empty() => {
                format!("the token is for node {node}, and not for the pod {wanted}")
            }
            Self::Agent { node } if subscribe.node != *node => format!(
                "the token is for node {node}, but the agent says that it runs on {}",
                subscribe.node
            ),
            Self::Sidecar { name, .. } if wanted.is_empty() => {
                format!("the token is for the pod {name} alone, and not for a node's agent")
            }
            Self::Sidecar { name, uid, .. } if *wanted != uid.as_str() => {
                format!("the token is for the pod {name} ({uid}), but the sidecar serves {wanted}")
            }
            _ => return Ok(()),
        };
        Err(Status::permission_denied(why))
    }
}
