//! The pods that this node should have against those that have a task: a pure function.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_model::workload::{Workload, WorkloadUid};

use super::state::Desired;

/// A pod that has a task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TrackedPod {
    /// The wish that its task was last told.
    pub(crate) desired: Desired,
    /// Its task is over.
    pub(crate) has_ended: bool,
}

/// An action of the controller.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Forget a pod whose task is over.
    Forget(WorkloadUid),
    /// Tell a pod's task the wish as it is now.
    SetDesired(WorkloadUid, Desired),
    /// Start a task for a pod that has none.
    Start(Arc<Workload>),
}

/// The pods of a node, among those of the mesh.
pub(crate) fn pods_of_node<'a>(
    workloads: impl Iterator<Item = &'a Arc<Workload>>,
    node: &str,
) -> BTreeMap<WorkloadUid, Arc<Workload>> {
    workloads
        .filter(|workload| *workload.node == *node)
        .map(|workload| (workload.uid.clone(), Arc::clone(workload)))
        .collect()
}

/// The actions that make the tasks follow the node's pods, in the order in which they are to
/// be done: a pod that came back after its task had ended is forgotten, then started anew.
pub(crate) fn reconcile(
    wanted: &BTreeMap<WorkloadUid, Arc<Workload>>,
    tracked: &BTreeMap<WorkloadUid, TrackedPod>,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut running = BTreeSet::new();
    for (uid, pod) in tracked {
        if pod.has_ended {
            actions.push(Action::Forget(uid.clone()));
            continue;
        }
        running.insert(uid);
        let desired = wanted.get(uid).map_or(Desired::Gone, Desired::for_workload);
        if desired != pod.desired {
            actions.push(Action::SetDesired(uid.clone(), desired));
        }
    }
    let new = wanted.iter().filter(|(uid, _)| !running.contains(uid));
    actions.extend(new.map(|(_, workload)| Action::Start(Arc::clone(workload))));
    actions
}

#[cfg(test)]
mod tests;
