//! What TrafficPolicies did: `weft_*` counters of each pod and Service.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use weft_model::NamespacedName;
use weft_model::traffic::circuit_breaker::CircuitState;
use weft_model::workload::WorkloadUid;

use super::PodLabels;
use crate::resilience::Refused;

/// Sorts of faults that are injected.
const FAULTS: [&str; 2] = ["delay", "abort"];
/// What circuit breakers turn to.
const PHASES: [CircuitState; 3] = [
    CircuitState::Closed,
    CircuitState::Open,
    CircuitState::HalfOpen,
];

/// One pod as a client of one Service.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct ClientLabels {
    #[prometheus(flatten)]
    pod: PodLabels,
    #[prometheus(flatten)]
    service: ServiceLabels,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ServiceLabels {
    destination_service_namespace: Arc<str>,
    destination_service_name: Arc<str>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RefusedLabels {
    #[prometheus(flatten)]
    client: ClientLabels,
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct BreakerLabels {
    #[prometheus(flatten)]
    client: ClientLabels,
    to: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct FaultLabels {
    #[prometheus(flatten)]
    client: ClientLabels,
    fault: &'static str,
}

/// What TrafficPolicies did.
#[derive(Debug, Default)]
pub(crate) struct PolicyMetrics {
    refused: Family<RefusedLabels, Counter>,
    breakers: Family<BreakerLabels, Counter>,
    faults: Family<FaultLabels, Counter>,
    ejected: Family<ServiceLabels, Counter>,
    /// What each pod has series of.
    clients: Mutex<HashMap<WorkloadUid, HashSet<ClientLabels>>>,
}

impl ClientLabels {
    pub(crate) fn new(pod: PodLabels, service: &NamespacedName) -> Self {
        let service = ServiceLabels::new(service);
        Self { pod, service }
    }
}

impl ServiceLabels {
    fn new(service: &NamespacedName) -> Self {
        Self {
            destination_service_namespace: Arc::clone(&service.namespace),
            destination_service_name: Arc::clone(&service.name),
        }
    }
}

impl PolicyMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "weft_refused",
            "Requests, connections and retries that a TrafficPolicy refused",
            self.refused.clone(),
        );
        registry.register(
            "weft_circuit_breaker_changes",
            "Changes of circuit breakers, by what they turned to",
            self.breakers.clone(),
        );
        registry.register(
            "weft_faults_injected",
            "Requests that were delayed or aborted on purpose",
            self.faults.clone(),
        );
        registry.register(
            "weft_endpoint_ejections",
            "Endpoints that get nothing for a while because they failed",
            self.ejected.clone(),
        );
    }

    /// Something of a pod was refused.
    pub(crate) fn refused(&self, pod: &WorkloadUid, client: &ClientLabels, reason: &'static str) {
        self.remember(pod, client);
        let client = client.clone();
        let labels = RefusedLabels { client, reason };
        self.refused.get_or_create(&labels).inc();
    }

    /// A circuit breaker of a pod turned to another phase.
    pub(crate) fn breaker(&self, pod: &WorkloadUid, client: &ClientLabels, to: CircuitState) {
        self.remember(pod, client);
        let (client, to) = (client.clone(), phase(to));
        let labels = BreakerLabels { client, to };
        self.breakers.get_or_create(&labels).inc();
    }

    /// A request of a pod failed on purpose.
    pub(crate) fn fault(&self, pod: &WorkloadUid, client: &ClientLabels, fault: &'static str) {
        self.remember(pod, client);
        let client = client.clone();
        let labels = FaultLabels { client, fault };
        self.faults.get_or_create(&labels).inc();
    }

    /// An endpoint of a Service was ejected.
    pub(crate) fn ejected(&self, service: &NamespacedName) {
        self.ejected
            .get_or_create(&ServiceLabels::new(service))
            .inc();
    }

    /// Drops the series of a pod.
    pub(super) fn forget(&self, pod: &WorkloadUid) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(clients) = clients.remove(pod) else {
            return;
        };
        for client in &clients {
            let client = || client.clone();
            for reason in Refused::REASONS {
                let client = client();
                self.refused.remove(&RefusedLabels { client, reason });
            }
            for to in PHASES.map(phase) {
                let client = client();
                self.breakers.remove(&BreakerLabels { client, to });
            }
            for fault in FAULTS {
                let client = client();
                self.faults.remove(&FaultLabels { client, fault });
            }
        }
    }

    /// Drops the series of a Service's endpoints.
    pub(crate) fn forget_service(&self, service: &NamespacedName) {
        self.ejected.remove(&ServiceLabels::new(service));
    }

    fn remember(&self, pod: &WorkloadUid, client: &ClientLabels) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let of_pod = clients.entry(pod.clone()).or_default();
        if !of_pod.contains(client) {
            of_pod.insert(client.clone());
        }
    }
}

fn phase(phase: CircuitState) -> &'static str {
    match phase {
        CircuitState::Closed => "closed",
        CircuitState::Open => "open",
        CircuitState::HalfOpen => "half_open",
    }
}
