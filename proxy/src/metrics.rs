//! Prometheus metrics, under the names that dashboards of this field already read,
//! plus `weft_*` for what is ours. Series of a pod go when the pod goes.

mod labels;
mod policies;
mod requests;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use weft_model::workload::WorkloadUid;

use crate::record::{Connection, Outcome, RequestRecord};
use crate::telemetry::flag::ResponseFlag;
pub(crate) use labels::PodLabels;
use labels::{ConnectionLabels, FailureLabels};
pub(crate) use policies::{ClientLabels, PolicyMetrics};

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    opened: Family<ConnectionLabels, Counter>,
    closed: Family<ConnectionLabels, Counter>,
    sent: Family<ConnectionLabels, Counter>,
    received: Family<ConnectionLabels, Counter>,
    failed: Family<FailureLabels, Counter>,
    requests: requests::Requests,
    pub(crate) tunnel_connections: Family<PodLabels, Gauge>,
    pub(crate) policies: PolicyMetrics,
    series: Mutex<HashMap<WorkloadUid, Series>>,
}

/// The series that a pod has caused.
#[derive(Debug, Default)]
struct Series {
    connections: HashSet<ConnectionLabels>,
    failures: HashSet<FailureLabels>,
    pods: HashSet<PodLabels>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics of the data path, at zero.
    pub fn new() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::default()),
            opened: Family::default(),
            closed: Family::default(),
            sent: Family::default(),
            received: Family::default(),
            failed: Family::default(),
            requests: requests::Requests::default(),
            tunnel_connections: Family::default(),
            policies: PolicyMetrics::default(),
            series: Mutex::default(),
        };
        metrics.register(|registry| {
            let tcp = [
                ("opened", "Connections opened", &metrics.opened),
                ("closed", "Connections closed", &metrics.closed),
            ];
            for (name, help, family) in tcp {
                registry.register(
                    format!("istio_tcp_connections_{name}"),
                    help,
                    family.clone(),
                );
            }
            let (sent, received) = (metrics.sent.clone(), metrics.received.clone());
            registry.register(
                "istio_tcp_sent_bytes",
                "Bytes sent to the destination",
                sent,
            );
            let help = "Bytes received from the destination";
            registry.register("istio_tcp_received_bytes", help, received);
            let help = "Connections that failed before their first byte";
            registry.register("istio_tcp_connections_failed", help, metrics.failed.clone());
            metrics.requests.register(registry);
            let help = "HBONE connections that a pod has open to its peers";
            registry.register(
                "weft_tunnel_connections",
                help,
                metrics.tunnel_connections.clone(),
            );
            metrics.policies.register(registry);
        });
        metrics
    }

    /// Adds metrics of other parts of the process.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Everything in the OpenMetrics text format.
    ///
    /// # Errors
    /// Never for the metrics here; the type is the encoder's.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(
            &mut text,
            &self.registry.lock().unwrap_or_else(PoisonError::into_inner),
        )?;
        Ok(text)
    }

    /// Drops the series that a pod has caused.
    pub(crate) fn forget(&self, pod: &WorkloadUid) {
        self.requests.forget(pod);
        let series = self
            .series
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(pod);
        let Series {
            connections,
            failures,
            pods,
        } = series.unwrap_or_default();
        for labels in &connections {
            self.opened.remove(labels);
            self.closed.remove(labels);
            self.sent.remove(labels);
            self.received.remove(labels);
        }
        failures.iter().for_each(|labels| {
            self.failed.remove(labels);
        });
        pods.iter().for_each(|labels| {
            self.tunnel_connections.remove(labels);
        });
        self.policies.forget(pod);
    }

    pub(crate) fn opened(&self, pod: &WorkloadUid, connection: &Connection) {
        let labels = ConnectionLabels::new(connection, ResponseFlag::None);
        self.opened.get_or_create(&labels).inc();
        self.remember(pod, |series| series.connections.insert(labels));
    }

    pub(crate) fn closed(
        &self,
        pod: &WorkloadUid,
        connection: &Connection,
        outcome: &Outcome,
        sent: u64,
        received: u64,
    ) {
        if outcome.connect.is_none() {
            let labels = FailureLabels::new(connection, outcome.flag);
            self.failed.get_or_create(&labels).inc();
            self.remember(pod, |series| series.failures.insert(labels));
            return;
        }
        let labels = ConnectionLabels::new(connection, outcome.flag);
        self.closed.get_or_create(&labels).inc();
        self.sent.get_or_create(&labels).inc_by(sent);
        self.received.get_or_create(&labels).inc_by(received);
        self.remember(pod, |series| series.connections.insert(labels));
    }

    pub(crate) fn requested(
        &self,
        pod: &WorkloadUid,
        connection: &Connection,
        request: &RequestRecord<'_>,
    ) {
        self.requests.record(pod, connection, request);
    }

    /// Sets how many tunnel connections a pod has open.
    pub(crate) fn set_tunnel_connections(&self, pod: &WorkloadUid, labels: PodLabels, open: usize) {
        self.tunnel_connections
            .get_or_create(&labels)
            .set(i64::try_from(open).unwrap_or(i64::MAX));
        self.remember(pod, |series| series.pods.insert(labels));
    }

    fn remember(&self, pod: &WorkloadUid, insert: impl FnOnce(&mut Series) -> bool) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        match series.get_mut(pod) {
            Some(series) => {
                insert(series);
            }
            None => {
                insert(series.entry(pod.clone()).or_default());
            }
        }
    }
}
