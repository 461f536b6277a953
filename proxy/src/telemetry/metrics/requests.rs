//! Metrics of requests. Their labels are many and the same again and again, so the series
//! they lead to are kept by what makes them different.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::budget::{Account, SeriesBudget};
use super::key::ConnectionKey;
use super::labels::{RequestLabels, RequestResult};
use super::shared_series::{SeriesCache, SeriesKey, SharedSeries};
use super::values::{CodeLabel, GrpcStatusLabel};
use crate::telemetry::info::ConnectionInfo;
use crate::telemetry::outcome::RequestOutcome;

/// Upper bounds of the buckets of durations, in milliseconds.
const MILLISECONDS: [f64; 14] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0,
    60_000.0,
];
/// Upper bounds of the buckets of sizes, in bytes.
const BYTES: [f64; 8] = [
    100.0,
    1000.0,
    10_000.0,
    100_000.0,
    1_000_000.0,
    10_000_000.0,
    100_000_000.0,
    1_000_000_000.0,
];

/// Series of the requests that have the same labels.
#[derive(Clone, Debug)]
pub(super) struct RequestSeries {
    total: Counter,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

impl Default for RequestSeries {
    fn default() -> Self {
        Self {
            total: Counter::default(),
            duration: Histogram::new(MILLISECONDS),
            request_bytes: Histogram::new(BYTES),
            response_bytes: Histogram::new(BYTES),
        }
    }
}

/// All series of requests.
pub(super) type AllRequestSeries = SharedSeries<RequestLabels, RequestSeries>;

pub(super) fn register(all: &AllRequestSeries, registry: &mut Registry) {
    registry.register("istio_requests", "Requests", all.view(|of| &of.total));
    registry.register(
        "istio_request_duration_milliseconds",
        "Time from a request's first byte to its response's last",
        all.view(|of| &of.duration),
    );
    registry.register(
        "istio_request_bytes",
        "Bytes of requests' bodies",
        all.view(|of| &of.request_bytes),
    );
    registry.register(
        "istio_response_bytes",
        "Bytes of responses' bodies",
        all.view(|of| &of.response_bytes),
    );
}

impl RequestSeries {
    /// Counts a request.
    pub(super) fn record(&self, request: &RequestOutcome<'_>) {
        self.total.inc();
        self.duration
            .observe(request.duration.as_secs_f64() * 1000.0);
        // Histograms know no other type.
        self.request_bytes.observe(request.sent as f64);
        self.response_bytes.observe(request.received as f64);
    }
}

/// A request, as far as it makes a difference for labels.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct RequestKey {
    connection: ConnectionKey,
    result: RequestResult,
}

impl SeriesKey for RequestKey {
    type Labels = RequestLabels;

    fn labels(&self) -> RequestLabels {
        RequestLabels::new(&self.connection.0, self.result)
    }

    fn account(&self) -> Option<Account> {
        Some(self.connection.account())
    }

    fn overflow_labels(&self) -> RequestLabels {
        RequestLabels::overflow(&self.connection.0, self.result)
    }
}

/// Series of requests that one pod uses.
#[derive(Debug, Default)]
pub(super) struct PodRequestSeries(SeriesCache<RequestKey, RequestSeries>);

impl PodRequestSeries {
    /// The series of a request over such a connection.
    pub(super) fn get_or_acquire(
        &mut self,
        all: &AllRequestSeries,
        budget: &mut SeriesBudget,
        info: &Arc<ConnectionInfo>,
        request: &RequestOutcome<'_>,
    ) -> Arc<RequestSeries> {
        let key = RequestKey {
            connection: ConnectionKey(Arc::clone(info)),
            result: RequestResult {
                response_code: CodeLabel::new(request.status),
                is_grpc: request.grpc,
                grpc_status: GrpcStatusLabel::new(request.grpc_status),
                flag: request.flag,
            },
        };
        self.0.get_or_acquire(key, budget, all)
    }

    /// Drops what was not used since the last sweep.
    pub(super) fn sweep(&mut self, all: &AllRequestSeries, budget: &mut SeriesBudget) {
        self.0.sweep(budget, all);
    }

    /// The pod is gone.
    pub(super) fn release(self, all: &AllRequestSeries) {
        self.0.release_all(all);
    }
}
