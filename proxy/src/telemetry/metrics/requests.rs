//! Metrics of requests. Their labels are many and the same again and again, so the series
//! they lead to are kept by what makes them different.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::key::ConnectionKey;
use super::labels::{RequestLabels, RequestResult};
use super::shared_series::{SeriesCache, SeriesGroup, SeriesKey, SharedSeries};
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

/// Makes a histogram with these buckets.
#[derive(Clone, Copy, Debug)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// Families of requests.
#[derive(Debug)]
pub(super) struct RequestFamilies {
    total: Family<RequestLabels, Counter>,
    duration: Family<RequestLabels, Histogram, Buckets>,
    request_bytes: Family<RequestLabels, Histogram, Buckets>,
    response_bytes: Family<RequestLabels, Histogram, Buckets>,
}

/// Series of the requests that have the same labels.
#[derive(Debug)]
pub(super) struct RequestSeries {
    total: Counter,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

impl Default for RequestFamilies {
    fn default() -> Self {
        let histogram = |buckets| Family::new_with_constructor(Buckets(buckets));
        Self {
            total: Family::default(),
            duration: histogram(&MILLISECONDS),
            request_bytes: histogram(&BYTES),
            response_bytes: histogram(&BYTES),
        }
    }
}

impl RequestFamilies {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("istio_requests", "Requests", self.total.clone());
        registry.register(
            "istio_request_duration_milliseconds",
            "Time from a request's first byte to its response's last",
            self.duration.clone(),
        );
        registry.register(
            "istio_request_bytes",
            "Bytes of requests' bodies",
            self.request_bytes.clone(),
        );
        registry.register(
            "istio_response_bytes",
            "Bytes of responses' bodies",
            self.response_bytes.clone(),
        );
    }
}

impl SeriesGroup for RequestFamilies {
    type Labels = RequestLabels;
    type Series = Arc<RequestSeries>;

    fn get_or_create(&self, labels: &RequestLabels) -> Arc<RequestSeries> {
        Arc::new(RequestSeries {
            total: self.total.get_or_create_owned(labels),
            duration: self.duration.get_or_create_owned(labels),
            request_bytes: self.request_bytes.get_or_create_owned(labels),
            response_bytes: self.response_bytes.get_or_create_owned(labels),
        })
    }

    fn remove(&self, labels: &RequestLabels) {
        self.total.remove(labels);
        self.duration.remove(labels);
        self.request_bytes.remove(labels);
        self.response_bytes.remove(labels);
    }
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
}

/// Series of requests that one pod uses.
#[derive(Debug, Default)]
pub(super) struct PodRequestSeries(SeriesCache<RequestKey, Arc<RequestSeries>>);

impl PodRequestSeries {
    /// The series of a request over such a connection.
    pub(super) fn get_or_acquire(
        &mut self,
        all: &SharedSeries<RequestFamilies>,
        info: &Arc<ConnectionInfo>,
        request: &RequestOutcome<'_>,
    ) -> Arc<RequestSeries> {
        let key = RequestKey {
            connection: ConnectionKey(Arc::clone(info)),
            result: RequestResult {
                response_code: request.status.map_or(0, |status| status.as_u16()),
                is_grpc: request.grpc,
                grpc_status: request.grpc_status,
                flag: request.flag,
            },
        };
        self.0.get_or_acquire(key, all)
    }

    /// The pod is gone.
    pub(super) fn release(self, all: &SharedSeries<RequestFamilies>) {
        self.0.release_all(all);
    }
}
