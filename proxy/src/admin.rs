//! The pages of a proxy: `/healthz`, `/readyz`, `/metrics`, `/config`, `/connections`.

use std::sync::Arc;

use http::StatusCode;
use weft_admin::Answer;
pub use weft_admin::{Pages, Readiness, serve};

use crate::connections::ConnectionTable;
use crate::telemetry::metrics::Metrics;

/// What a proxy shows to whoever reaches its node: nothing about traffic.
pub fn monitoring(readiness: Arc<Readiness>, metrics: Arc<Metrics>) -> Pages {
    Pages::new(readiness).with("/metrics", move || match metrics.encode() {
        Ok(metrics) => Answer::open_metrics(metrics),
        Err(error) => Answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    })
}

/// Everything, for the operator on the node. `config` is asked at each request.
pub fn all(
    monitoring: Pages,
    connections: Arc<ConnectionTable>,
    config: impl Fn() -> serde_json::Value + Send + Sync + 'static,
) -> Pages {
    monitoring
        .with("/config", move || Answer::json(&config()))
        .with("/connections", move || Answer::json(&connections.list()))
}
