//! Pods that are captured, as the agents of their nodes report. It outlives this process,
//! so that a restart never has peers send plaintext to a captured pod.
//!
//! * [`report`]: an agent's words
//! * [`store`]: where it is kept, as everybody else sees it
//! * [`file`]: the store of a state directory
//! * [`gates`]: readiness gates that no agent opens
//! * [`pod_status`]: the store of a cluster, the pods' own status
//! * [`node_labels`]: the nodes' labels, which say whether they can capture

mod file;
pub(crate) mod gates;
mod node_labels;
mod pod_status;
mod report;
mod store;

use std::sync::Arc;

pub(crate) use file::{CaptureFile, CaptureFileError};
pub(crate) use pod_status::PodStatusStore;
pub(crate) use report::{CaptureReport, PodCaptureState};
pub(crate) use store::CaptureStore;
use weft_model::workload::WorkloadUid;

use crate::cluster::Cluster;

/// Takes agents' reports: nobody reports the pods of others.
#[derive(Debug)]
pub(crate) struct Captures {
    store: Box<dyn CaptureStore>,
    cluster: Arc<Cluster>,
}

/// A report that was taken, and what was left out of it.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// The part of it that was kept.
    pub(crate) report: CaptureReport,
    /// Pods of others, which were left out.
    pub(crate) foreign: Vec<WorkloadUid>,
}

impl Captures {
    /// Reports go to that store.
    pub(crate) fn new(store: impl CaptureStore + 'static, cluster: Arc<Cluster>) -> Self {
        Self {
            store: Box::new(store),
            cluster,
        }
    }

    /// A node's agent has opened a stream.
    pub(crate) fn stream_opened(&self, node: &str) {
        self.store.stream_opened(node);
    }

    /// A node's agent says whether the node's kernel lets it capture.
    pub(crate) fn node_tried(&self, node: &str, can_capture: bool) {
        self.store.node_tried(node, can_capture);
    }

    /// A pod's sidecar has opened a stream.
    pub(crate) fn sidecar_stream_opened(&self, node: &str, pod: &WorkloadUid) {
        self.store.sidecar_stream_opened(node, pod);
    }

    /// Keeps what a pod's sidecar reports of that pod; of others it reports nothing.
    pub(crate) fn record_sidecar(&self, pod: &WorkloadUid, mut report: CaptureReport) -> Recorded {
        let foreign = report.pods.extract_if(.., |(uid, _)| uid != pod);
        let foreign = foreign.map(|(uid, _)| uid).collect();
        // What it has captured are not all pods of its node.
        report.complete = None;
        self.store.record(&report);
        Recorded { report, foreign }
    }

    /// Keeps what an agent's report says of the node's own pods, but for those that have a
    /// sidecar, which says itself how that is. A pod that isn't known (yet) may
    /// be anybody's: it counts once it turns out to be the node's. Stores look at that
    /// again where they use a report, as a pod may become known meanwhile.
    pub(crate) fn record(&self, mut report: CaptureReport) -> Recorded {
        let node = report.node.as_str();
        let is_foreign = |uid: &WorkloadUid| {
            let at = self.cluster.node_of(uid);
            at.is_some_and(|at| *at != *node) || self.cluster.is_sidecar(uid)
        };
        let foreign = report.pods.extract_if(.., |(uid, _)| is_foreign(uid));
        let foreign = foreign.map(|(uid, _)| uid).collect();
        self.store.record(&report);
        Recorded { report, foreign }
    }
}

#[cfg(test)]
mod tests;
