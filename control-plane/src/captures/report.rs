//! Reports of agents about the pods of their nodes.

use std::collections::HashSet;

use weft_model::workload::WorkloadUid;

/// One report of one agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CaptureReport {
    /// The node that it speaks for, as its token says.
    pub(crate) node: String,
    /// Pods that have a new state, in the order of the states.
    pub(crate) pods: Vec<(WorkloadUid, PodCaptureState)>,
    /// All pods that the node captures, in the report that completes the list.
    pub(crate) complete: Option<HashSet<WorkloadUid>>,
}

/// A pod's traffic, and its node's proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum PodCaptureState {
    /// The proxy has all of it.
    Captured,
    /// The proxy has none of it any more.
    Released,
    /// The proxy could not be put in its way, for this reason.
    Failed(String),
}
