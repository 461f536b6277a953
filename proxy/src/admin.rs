//! The pages of a proxy: `/healthz`, `/readyz`, `/metrics`, `/config`, `/connections`.

use std::sync::Arc;

use weft_admin::Answer;
pub use weft_admin::{Endpoint, Limits, Pages, Readiness, serve, serve_apart};

use crate::telemetry::Telemetry;

/// What a proxy shows to whoever reaches its node: nothing about traffic.
pub fn monitoring(readiness: Arc<Readiness>, telemetry: &Telemetry) -> Pages {
    let telemetry = telemetry.clone();
    Pages::new(readiness).with_metrics("/metrics", move |text| telemetry.write(text))
}

/// Everything, for the operator on the node. `config` is asked at each request.
pub fn all(
    monitoring: Pages,
    telemetry: &Telemetry,
    config: impl Fn() -> serde_json::Value + Send + Sync + 'static,
) -> Pages {
    let telemetry = telemetry.clone();
    monitoring
        .with("/config", move || Answer::json(&config()))
        .with("/connections", move || {
            Answer::json(&telemetry.connections().list())
        })
}
