//! The part of the metrics that one pod counts in.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use weft_model::NamespacedName;
use weft_model::traffic::InjectedFault;
use weft_model::traffic::circuit_breaker::CircuitState;
use weft_model::workload::Workload;

use super::connections::{ConnectionSeries, PodConnectionSeries};
use super::families::Families;
use super::labels::{HttpConnectionLabels, PodLabels};
use super::policies::{ClientLabels, PodPolicySeries};
use super::requests::PodRequestSeries;
use super::shared_series::{AllLabels, SeriesCache};
use crate::telemetry::flag::ResponseFlag;
use crate::telemetry::info::{ConnectionInfo, Direction};
use crate::telemetry::outcome::RequestOutcome;

/// The series of one pod. Once it is retired it counts nothing any more, so that what ends
/// late brings no series back.
pub(crate) struct PodMetrics {
    families: Arc<Families>,
    labels: PodLabels,
    /// `None` once the pod is gone.
    series: Mutex<Option<PodSeries>>,
}

#[derive(Debug, Default)]
struct PodSeries {
    connections: PodConnectionSeries,
    requests: PodRequestSeries,
    policies: PodPolicySeries,
    tunnels: SeriesCache<AllLabels<PodLabels>, Gauge>,
}

impl fmt::Debug for PodMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodMetrics")
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

impl PodMetrics {
    pub(super) fn new(families: Arc<Families>, workload: &Workload) -> Self {
        Self {
            families,
            labels: PodLabels::new(workload),
            series: Mutex::new(Some(PodSeries::default())),
        }
    }

    /// Drops the series that no other pod uses. Nothing is counted from now on.
    pub(super) fn retire(&self) {
        let series = self.lock().take();
        if let Some(series) = series {
            series.connections.release(&self.families.connections);
            series.requests.release(&self.families.requests);
            series.policies.release(&self.families.policies);
            series.tunnels.release_all(&self.families.tunnels);
        }
    }

    /// The counters of a connection that is carried as it is; counters that nobody reads
    /// where the pod is gone.
    pub(crate) fn connection(&self, info: &Arc<ConnectionInfo>) -> Arc<ConnectionSeries> {
        let all = &self.families.connections;
        let mut series = self.lock();
        let series = series.as_mut();
        series.map_or_else(Arc::default, |pod| pod.connections.of_connection(all, info))
    }

    /// Counts a connection that ended otherwise than in order.
    pub(crate) fn count_broken_connection(&self, info: &Arc<ConnectionInfo>, flag: ResponseFlag) {
        let all = &self.families.connections;
        self.count(|pod| pod.connections.count_broken(all, info, flag));
    }

    /// Counts a connection that failed before its first byte.
    pub(crate) fn count_failed_connection(&self, info: &Arc<ConnectionInfo>, flag: ResponseFlag) {
        let all = &self.families.connections;
        self.count(|pod| pod.connections.count_failed(all, info, flag));
    }

    /// Counts a connection for requests that was opened.
    pub(crate) fn count_http_connection_opened(&self, direction: Direction) {
        let all = &self.families.connections;
        let labels = HttpConnectionLabels::new(&self.labels, direction, ResponseFlag::None);
        self.count(|pod| pod.connections.count_http_opened(all, labels));
    }

    /// Counts a connection for requests that ended.
    pub(crate) fn count_http_connection_closed(&self, direction: Direction, flag: ResponseFlag) {
        let all = &self.families.connections;
        let labels = HttpConnectionLabels::new(&self.labels, direction, flag);
        self.count(|pod| pod.connections.count_http_closed(all, labels));
    }

    /// Counts a request that was sent, or answered here, for such a connection.
    pub(crate) fn count_request(&self, info: &Arc<ConnectionInfo>, request: &RequestOutcome<'_>) {
        let all = &self.families.requests;
        let series = {
            let mut series = self.lock();
            let Some(pod) = series.as_mut() else { return };
            pod.requests.get_or_acquire(all, info, request)
        };
        series.record(request);
    }

    /// Counts what the policy of a Service refused.
    pub(crate) fn count_refused(&self, service: &NamespacedName, reason: ResponseFlag) {
        let (all, client) = (&self.families.policies, self.client_of(service));
        self.count(|pod| pod.policies.count_refused(all, client, reason));
    }

    /// Counts a circuit breaker's turn to another state.
    pub(crate) fn count_circuit_breaker_change(&self, service: &NamespacedName, to: CircuitState) {
        let (all, client) = (&self.families.policies, self.client_of(service));
        self.count(|pod| pod.policies.count_breaker(all, client, to));
    }

    /// Counts the faults that were injected into one request.
    pub(crate) fn count_faults(&self, service: &NamespacedName, injected: InjectedFault) {
        let (all, client) = (&self.families.policies, self.client_of(service));
        self.count(|pod| pod.policies.count_faults(all, &client, injected));
    }

    /// Sets how many tunnel connections the pod has open.
    pub(crate) fn set_tunnel_connections(&self, open: usize) {
        let (all, labels) = (&self.families.tunnels, AllLabels(self.labels.clone()));
        let open = i64::try_from(open).unwrap_or(i64::MAX);
        self.count(|pod| {
            pod.tunnels.get_or_acquire(labels, all).set(open);
        });
    }

    fn client_of(&self, service: &NamespacedName) -> ClientLabels {
        ClientLabels::new(&self.labels, service)
    }

    fn count(&self, count: impl FnOnce(&mut PodSeries)) {
        if let Some(series) = self.lock().as_mut() {
            count(series);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<PodSeries>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
