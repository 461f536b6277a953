//! Pods whose readiness waits for the mesh.

use weft_model::NamespacedName;
use weft_model::workload::WorkloadUid;

/// A pod whose readiness waits for its condition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GatedPod {
    pub(crate) name: NamespacedName,
    pub(crate) uid: WorkloadUid,
    pub(crate) node: String,
    /// Seconds since 1970.
    pub(crate) created: i64,
    /// The condition is True, or it isn't; none when there is none.
    pub(crate) condition: Option<bool>,
    pub(crate) place: Place,
}

/// A pod's relation to the mesh.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// It is captured, or will be.
    InMesh,
    /// It should be and can't, for this reason.
    LeftOut(String),
    /// It has nothing to do with it.
    Outside,
}
