//! Metrics of requests. Their labels are many and the same again and again, so what
//! they lead to is kept by what makes them different.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use weft_model::NamespacedName;
use weft_model::workload::WorkloadUid;

use super::labels::RequestLabels;
use crate::record::{Connection, RequestRecord};

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

/// What is counted of requests.
#[derive(Debug)]
pub(super) struct Requests {
    total: Family<RequestLabels, Counter>,
    duration: Family<RequestLabels, Histogram, Buckets>,
    request_bytes: Family<RequestLabels, Histogram, Buckets>,
    response_bytes: Family<RequestLabels, Histogram, Buckets>,
    series: Mutex<HashMap<WorkloadUid, HashMap<Seen, Arc<Series>>>>,
}

/// What makes the labels of two requests of one pod different.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Seen {
    peer: Option<WorkloadUid>,
    service: Option<NamespacedName>,
    status: u16,
    grpc: bool,
    grpc_status: Option<u16>,
    flag: &'static str,
    identified: bool,
}

#[derive(Debug)]
struct Series {
    labels: RequestLabels,
    total: Counter,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

impl Default for Requests {
    fn default() -> Self {
        let histogram = |buckets| Family::new_with_constructor(Buckets(buckets));
        Self {
            total: Family::default(),
            duration: histogram(&MILLISECONDS),
            request_bytes: histogram(&BYTES),
            response_bytes: histogram(&BYTES),
            series: Mutex::default(),
        }
    }
}

impl Requests {
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

    pub(super) fn record(
        &self,
        pod: &WorkloadUid,
        connection: &Connection,
        request: &RequestRecord<'_>,
    ) {
        let series = self.series_of(pod, connection, request);
        series.total.inc();
        series
            .duration
            .observe(request.duration.as_secs_f64() * 1000.0);
        // Histograms know no other type.
        series.request_bytes.observe(request.sent as f64);
        series.response_bytes.observe(request.received as f64);
    }

    /// Drops the series that a pod has caused.
    pub(super) fn forget(&self, pod: &WorkloadUid) {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        for series in all.remove(pod).unwrap_or_default().values() {
            self.total.remove(&series.labels);
            self.duration.remove(&series.labels);
            self.request_bytes.remove(&series.labels);
            self.response_bytes.remove(&series.labels);
        }
    }

    fn series_of(
        &self,
        pod: &WorkloadUid,
        connection: &Connection,
        request: &RequestRecord<'_>,
    ) -> Arc<Series> {
        let peer = connection.destination.workload.as_ref();
        let seen = Seen {
            peer: peer.map(|workload| workload.uid.clone()),
            service: connection.service.clone(),
            status: request.status.map_or(0, |status| status.as_u16()),
            grpc: request.grpc,
            grpc_status: request.grpc_status,
            flag: request.flag,
            identified: connection.destination.identity.is_some(),
        };
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = all.get(pod).and_then(|series| series.get(&seen)) {
            return Arc::clone(series);
        }
        let labels = RequestLabels::new(connection, request);
        let series = Arc::new(Series {
            total: self.total.get_or_create_owned(&labels),
            duration: self.duration.get_or_create_owned(&labels),
            request_bytes: self.request_bytes.get_or_create_owned(&labels),
            response_bytes: self.response_bytes.get_or_create_owned(&labels),
            labels,
        });
        let of_pod = all.entry(pod.clone()).or_default();
        of_pod.insert(seen, Arc::clone(&series));
        series
    }
}
