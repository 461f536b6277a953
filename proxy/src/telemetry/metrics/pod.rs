//! The part of the metrics that one pod counts in.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use weft_model::NamespacedName;
use weft_model::traffic::InjectedFault;
use weft_model::traffic::circuit_breaker::CircuitState;
use weft_model::workload::Workload;

use super::budget::{NodeSeries, SeriesBudget};
use super::connections::{ConnectionSeries, PodConnectionSeries};
use super::families::Families;
use super::labels::{HttpConnectionLabels, PodLabels};
use super::policies::{ClientLabels, PodPolicySeries};
use super::requests::PodRequestSeries;
use super::verdicts::{PodVerdictSeries, VerdictSubject};
use crate::telemetry::authorization::AuthorizationNote;
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

#[derive(Debug)]
struct PodSeries {
    budget: SeriesBudget,
    connections: PodConnectionSeries,
    requests: PodRequestSeries,
    policies: PodPolicySeries,
    verdicts: PodVerdictSeries,
    /// `None` until they were counted.
    tunnels: Option<Gauge>,
    held_memory: Gauge,
    /// `None` until one was dropped.
    dropped_lines: Option<Counter>,
}

impl PodSeries {
    /// Drops what the pod has not used for long, where it needs the room.
    fn make_room(&mut self, families: &Families) {
        if !self.budget.is_sweep_due(Instant::now) {
            return;
        }
        let budget = &mut self.budget;
        self.connections.sweep(&families.connections, budget);
        self.requests.sweep(&families.requests, budget);
        self.policies.sweep(&families.policies, budget);
        self.verdicts.sweep(&families.verdicts, budget);
        budget.note_sweep(Instant::now());
    }
}

impl fmt::Debug for PodMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodMetrics")
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

impl PodMetrics {
    /// The part of a pod, which may have so many series for each direction.
    pub(super) fn new(
        families: Arc<Families>,
        workload: &Workload,
        node: Arc<NodeSeries>,
        most: usize,
    ) -> Self {
        let labels = PodLabels::new(workload);
        let overflowed = families.overflowed.acquire(labels.clone());
        let (namespace, now) = (workload.namespace(), Instant::now());
        let series = PodSeries {
            budget: SeriesBudget::new(namespace, node, most, overflowed, now),
            connections: PodConnectionSeries::default(),
            requests: PodRequestSeries::default(),
            policies: PodPolicySeries::default(),
            verdicts: PodVerdictSeries::default(),
            tunnels: None,
            held_memory: families.held_memory.acquire(labels.clone()),
            dropped_lines: None,
        };
        Self {
            families,
            labels,
            series: Mutex::new(Some(series)),
        }
    }

    /// Drops the series that no other pod uses. Nothing is counted from now on.
    pub(super) fn retire(&self) {
        let series = self.lock().take();
        if let Some(series) = series {
            series.connections.release(&self.families.connections);
            series.requests.release(&self.families.requests);
            series.policies.release(&self.families.policies);
            series.verdicts.release(&self.families.verdicts);
            self.families.overflowed.release(&self.labels);
            self.families.held_memory.release(&self.labels);
            if series.dropped_lines.is_some() {
                self.families.dropped_lines.release(&self.labels);
            }
            if series.tunnels.is_some() {
                self.families.tunnels.release(&self.labels);
            }
        }
    }

    /// The counters of a connection that is carried as it is; counters that nobody reads
    /// where the pod is gone.
    pub(crate) fn connection(&self, info: &Arc<ConnectionInfo>) -> Arc<ConnectionSeries> {
        let all = &self.families.connections;
        let of_connection =
            |pod: &mut PodSeries| pod.connections.of_connection(all, &mut pod.budget, info);
        self.with_series(of_connection).unwrap_or_default()
    }

    /// Counts a connection that ended otherwise than in order.
    pub(crate) fn count_broken_connection(&self, info: &Arc<ConnectionInfo>, flag: ResponseFlag) {
        let all = &self.families.connections;
        self.count(|pod| {
            pod.connections
                .count_broken(all, &mut pod.budget, info, flag)
        });
    }

    /// Counts a connection that failed before its first byte.
    pub(crate) fn count_failed_connection(&self, info: &Arc<ConnectionInfo>, flag: ResponseFlag) {
        let all = &self.families.connections;
        self.count(|pod| {
            pod.connections
                .count_failed(all, &mut pod.budget, info, flag)
        });
    }

    /// Counts a connection for requests that was opened.
    pub(crate) fn count_http_connection_opened(&self, direction: Direction) {
        let all = &self.families.connections;
        let labels = HttpConnectionLabels::new(&self.labels, direction, ResponseFlag::None);
        self.count(|pod| {
            pod.connections
                .count_http_opened(all, &mut pod.budget, labels)
        });
    }

    /// Counts a connection for requests that ended.
    pub(crate) fn count_http_connection_closed(&self, direction: Direction, flag: ResponseFlag) {
        let all = &self.families.connections;
        let labels = HttpConnectionLabels::new(&self.labels, direction, flag);
        self.count(|pod| {
            pod.connections
                .count_http_closed(all, &mut pod.budget, labels)
        });
    }

    /// Counts a request that was sent, or answered here, for such a connection.
    pub(crate) fn count_request(&self, info: &Arc<ConnectionInfo>, request: &RequestOutcome<'_>) {
        let all = &self.families.requests;
        let series = self.with_series(|pod| {
            let budget = &mut pod.budget;
            pod.requests.get_or_acquire(all, budget, info, request)
        });
        if let Some(series) = series {
            series.record(request);
        }
    }

    /// Counts what AuthorizationPolicies said of a connection or request.
    pub(crate) fn count_verdicts(&self, note: &AuthorizationNote, subject: VerdictSubject) {
        if note.is_empty() {
            return;
        }
        let (all, labels) = (&self.families.verdicts, &self.labels);
        self.count(|pod| {
            pod.verdicts
                .count(all, &mut pod.budget, labels, note, subject);
        });
    }

    /// Counts what the policy of a Service refused.
    pub(crate) fn count_refused(&self, service: &NamespacedName, reason: ResponseFlag) {
        let (all, client) = (&self.families.policies, self.client_of(service));
        self.count(|pod| {
            pod.policies
                .count_refused(all, &mut pod.budget, client, reason)
        });
    }

    /// Counts a circuit breaker's turn to another state.
    pub(crate) fn count_circuit_breaker_change(&self, service: &NamespacedName, to: CircuitState) {
        let (all, client) = (&self.families.policies, self.client_of(service));
        self.count(|pod| pod.policies.count_breaker(all, &mut pod.budget, client, to));
    }

    /// Counts the faults that were injected into one request.
    pub(crate) fn count_faults(&self, service: &NamespacedName, injected: InjectedFault) {
        let (all, client) = (&self.families.policies, self.client_of(service));
        self.count(|pod| {
            pod.policies
                .count_faults(all, &mut pod.budget, &client, injected)
        });
    }

    /// Counts a line of the access log that there was no place for.
    pub(crate) fn count_dropped_line(&self) {
        let acquire = || self.families.dropped_lines.acquire(self.labels.clone());
        self.count(|pod| {
            pod.dropped_lines.get_or_insert_with(acquire).inc();
        });
    }

    /// What shows how many bytes the pod's connections hold; nobody reads it once the pod is gone.
    pub(crate) fn held_memory(&self) -> Gauge {
        self.with_series(|pod| pod.held_memory.clone())
            .unwrap_or_default()
    }

    /// Sets how many tunnel connections the pod has open.
    pub(crate) fn set_tunnel_connections(&self, open: usize) {
        let acquire = || self.families.tunnels.acquire(self.labels.clone());
        let open = i64::try_from(open).unwrap_or(i64::MAX);
        self.count(|pod| {
            pod.tunnels.get_or_insert_with(acquire).set(open);
        });
    }

    fn client_of(&self, service: &NamespacedName) -> ClientLabels {
        ClientLabels::new(&self.labels, service)
    }

    fn count(&self, count: impl FnOnce(&mut PodSeries)) {
        // Nothing is counted once the pod is gone.
        let _counted = self.with_series(count);
    }

    /// `None` once the pod is gone.
    fn with_series<T>(&self, act: impl FnOnce(&mut PodSeries) -> T) -> Option<T> {
        let mut series = self.lock();
        let pod = series.as_mut()?;
        pod.make_room(&self.families);
        Some(act(pod))
    }

    fn lock(&self) -> MutexGuard<'_, Option<PodSeries>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
