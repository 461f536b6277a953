//! Objects that can't take effect because of others.

use std::sync::Arc;

use weft_model::NamespacedName;
use weft_model::identity::InvalidIdentity;
use weft_model::route::RouteKey;
use weft_model::workload::WorkloadUid;

use crate::kinds::{FieldError, KindObject, ObjectKey, PodObject};
use crate::notices::Notice;

/// An object that can't take effect because of others.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Conflict {
    /// Two objects with the same name.
    #[error("{origin}: {object} is also in {first}; the one in {first} counts")]
    Duplicate {
        /// Kind, namespace and name.
        object: String,
        /// The file that is ignored for it.
        origin: String,
        /// The file that counts.
        first: String,
    },
    /// Two pods with the same address.
    #[error(
        "{}Pod {pod} has the address {address} of Pod {first}; Pod {pod} is not reached by it",
        prefix(origin)
    )]
    Address {
        /// The pod that is not reached by it.
        pod: NamespacedName,
        /// Its file.
        origin: String,
        /// The address.
        address: String,
        /// The pod that has it.
        first: NamespacedName,
    },
    /// Two pods with the same UID.
    #[error(
        "{}Pod {pod} has the UID {uid} of Pod {first}; Pod {pod} is left out",
        prefix(origin)
    )]
    Uid {
        /// The pod that is left out.
        pod: NamespacedName,
        /// Its file.
        origin: String,
        /// The UID.
        uid: String,
        /// The pod that has it.
        first: NamespacedName,
    },
    /// A pod that nobody vouches for.
    #[error("{}Pod {pod} is not taken in: {}", prefix(origin), NO_IDENTITY)]
    NoIdentity {
        /// The pod.
        pod: NamespacedName,
        /// Its UID.
        uid: WorkloadUid,
        /// Its file.
        origin: String,
    },
    /// A wish of a pod or namespace below the MeshConfig's floor.
    #[error("{}{object}: {problem}", prefix(origin))]
    Floor {
        /// The pod or namespace.
        object: ObjectKey,
        /// Its UID, where it has one.
        uid: Option<String>,
        /// Its file.
        origin: String,
        /// The label or annotation, and why it has no effect.
        problem: FieldError,
    },
    /// A probe of a pod of the mesh by which kubelet asks somebody else in its name.
    #[error("{}Pod {pod}: {problem}; {}", prefix(origin), FOREIGN_PROBE)]
    ForeignProbe {
        /// The pod.
        pod: NamespacedName,
        /// Its UID.
        uid: WorkloadUid,
        /// Its file.
        origin: String,
        /// The probe's field.
        problem: FieldError,
    },
    /// A namespace or service account that can't be part of an identity.
    #[error("{}Pod {pod}: {error}", prefix(origin))]
    Identity {
        /// The pod that is left out.
        pod: NamespacedName,
        /// Its file.
        origin: String,
        /// The reason.
        error: InvalidIdentity,
    },
    /// A TrafficPolicy that its Service doesn't follow.
    #[error("{}TrafficPolicy {policy}: {message}", prefix(origin))]
    Policy {
        /// The policy.
        policy: NamespacedName,
        /// Its file.
        origin: String,
        /// The reason.
        message: String,
    },
    /// An AuthorizationPolicy that isn't followed as its author means it.
    #[error("{}{object}: {message}", prefix(origin))]
    Authorization {
        /// The policy, or the RequestAuthentication.
        object: ObjectKey,
        /// Its file.
        origin: String,
        /// The reason.
        message: String,
    },
    /// NetworkPolicies of one namespace that name too many different pods as peers.
    #[error(
        "NetworkPolicies of namespace {namespace}: together they have more than \
         {most} different peers that are pods, so that the last ones of the newest \
         policies admit nothing: of {policies}"
    )]
    PeerSelectors {
        /// The namespace.
        namespace: Arc<str>,
        /// How many count.
        most: usize,
        /// Names of the policies of which some don't count.
        policies: String,
    },
    /// A route that isn't in force where it should be, or sends to what isn't there.
    #[error("{}{} {}: {message}", prefix(origin), route.kind, route.name)]
    Route {
        /// The route.
        route: RouteKey,
        /// Its file.
        origin: String,
        /// The part of it that has no effect, and the reason.
        message: String,
    },
}

/// The reason for which nobody vouches for a pod.
const NO_IDENTITY: &str = "it is a mirror pod or has no ServiceAccount, so the cluster doesn't \
                           vouch for an identity of it, and it gets none";

/// What becomes of such a probe.
const FOREIGN_PROBE: &str = "kubelet asks there in this pod's name, which says nothing of this \
                             pod, and a strict pod there refuses it unless its own probes are the \
                             same";

impl Conflict {
    /// What whoever looks at the object should know, where the object has no status of ours.
    pub(crate) fn notice(&self) -> Option<Notice> {
        match self {
            Self::NoIdentity { pod, uid, .. } => Some(Notice {
                object: ObjectKey {
                    kind: PodObject::KIND,
                    name: pod.clone(),
                },
                uid: Some(uid.to_string()),
                is_warning: true,
                reason: "NoIdentity",
                note: NO_IDENTITY.to_owned(),
            }),
            Self::ForeignProbe {
                pod, uid, problem, ..
            } => Some(Notice {
                object: ObjectKey {
                    kind: PodObject::KIND,
                    name: pod.clone(),
                },
                uid: Some(uid.to_string()),
                is_warning: true,
                reason: "ForeignProbe",
                note: format!("{problem}; {FOREIGN_PROBE}"),
            }),
            Self::Floor {
                object,
                uid,
                problem,
                ..
            } => Some(Notice {
                object: object.clone(),
                uid: uid.clone(),
                is_warning: true,
                reason: "BelowFloor",
                note: problem.to_string(),
            }),
            _ => None,
        }
    }
}

/// An API server's objects have no file.
fn prefix(origin: &str) -> String {
    if origin.is_empty() {
        String::new()
    } else {
        format!("{origin}: ")
    }
}
