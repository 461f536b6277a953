//! The pages of a proxy: `/healthz`, `/readyz`, `/metrics`, `/config`, `/connections`, and
//! [`explain`]: what policies say of a connection or request.

mod explain;

use std::sync::Arc;

use weft_admin::Answer;
pub use weft_admin::{Endpoint, Limits, Pages, Readiness, serve, serve_apart, serve_apart_until};
use weft_model::workload::WorkloadUid;

use crate::node::Node;
use crate::telemetry::Telemetry;

/// What a proxy shows to whoever reaches its node: nothing about traffic.
pub fn monitoring(readiness: Arc<Readiness>, telemetry: &Telemetry) -> Pages {
    let telemetry = telemetry.clone();
    Pages::new(readiness).with_metrics("/metrics", move |text| telemetry.write(text))
}

/// Everything, for the operator on the node: of all its pods, or of the one of a sidecar. `config`
/// is asked at each request.
pub fn all(
    monitoring: Pages,
    node: &Arc<Node>,
    pod: Option<WorkloadUid>,
    config: impl Fn() -> serde_json::Value + Send + Sync + 'static,
) -> Pages {
    let (telemetry, explained) = (node.telemetry.clone(), Arc::clone(node));
    monitoring
        .with("/config", move || Answer::json(&config()))
        .with("/connections", move || {
            Answer::json(&telemetry.connections().list())
        })
        .with_query("/explain", move |query| {
            explain::explain(&explained, pod.as_ref(), query)
        })
}
