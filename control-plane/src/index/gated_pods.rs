//! Pods whose readiness waits for their condition.

use weft_model::NamespacedName;
use weft_model::workload::WorkloadUid;

use super::objects::Objects;
use super::workloads::Workloads;
use crate::kinds::PodObject;

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
    /// Its proxy is its sidecar.
    pub(crate) is_sidecar: bool,
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

/// All of them.
pub(super) fn all(objects: &Objects, workloads: &Workloads) -> impl Iterator<Item = GatedPod> {
    let pods = objects.tables.all::<PodObject>();
    let pods = pods.filter(|(_, pod)| pod.has_gate && !pod.ended);
    pods.map(|(name, pod)| {
        let workload = workloads.of_pod(name);
        GatedPod {
            name: name.clone(),
            uid: pod.uid.clone(),
            node: pod.node.clone(),
            created: pod.created,
            condition: pod.captured_condition,
            is_sidecar: workload.is_some_and(|workload| workload.is_sidecar),
            place: match (workload, workloads.left_out(name)) {
                (Some(workload), _) if workload.enrolment.is_enrolled() => Place::InMesh,
                (_, Some(conflict)) => Place::LeftOut(conflict.to_string()),
                _ => Place::Outside,
            },
        }
    })
}
