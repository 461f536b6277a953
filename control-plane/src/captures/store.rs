//! The seam between agents' reports and where they are kept.

use std::fmt::Debug;

use weft_model::workload::WorkloadUid;

use super::report::CaptureReport;

/// Keeps which pods are captured over a restart, and lets the cluster know.
pub(crate) trait CaptureStore: Debug + Send + Sync {
    /// A node's agent has opened a stream. What it reported over an earlier one may have
    /// been overtaken by what it told another replica since.
    fn stream_opened(&self, node: &str);

    /// The same of a pod's sidecar, of that pod.
    fn sidecar_stream_opened(&self, _node: &str, _pod: &WorkloadUid) {}

    /// A node's agent says whether the node's kernel lets it capture. Where nothing injects sidecars
    /// nobody has to know.
    fn node_tried(&self, _node: &str, _can_capture: bool) {}

    /// Keeps what a node reports of its own pods. Never waits for the network.
    fn record(&self, report: &CaptureReport);
}
