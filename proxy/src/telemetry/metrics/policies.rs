//! Metrics of TrafficPolicies: `weft_*` counters of each pod and Service.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use weft_model::NamespacedName;
use weft_model::traffic::InjectedFault;
use weft_model::traffic::circuit_breaker::CircuitState;

use super::budget::{Account, SeriesBudget};
use super::labels::{PodLabels, ServiceLabels};
use super::shared_series::{SeriesCache, SeriesKey, SharedSeries};
use crate::telemetry::flag::ResponseFlag;

/// One pod as a client of one Service.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(super) struct ClientLabels {
    #[prometheus(flatten)]
    pod: PodLabels,
    #[prometheus(flatten)]
    service: ServiceLabels,
}

impl ClientLabels {
    pub(super) fn new(pod: &PodLabels, service: &NamespacedName) -> Self {
        Self {
            pod: pod.clone(),
            service: ServiceLabels::new(service),
        }
    }

    /// The same of Services that the pod has no series for any more.
    fn overflow(&self) -> Self {
        Self {
            pod: self.pod.clone(),
            service: ServiceLabels::overflow(None),
        }
    }
}

/// Labels that name a client.
trait OfClient: Clone + Eq + Hash {
    fn client(&mut self) -> &mut ClientLabels;
}

impl<L: OfClient> SeriesKey for L {
    type Labels = Self;

    fn labels(&self) -> Self {
        self.clone()
    }

    fn account(&self) -> Option<Account> {
        Some(Account::Outbound)
    }

    fn overflow_labels(&self) -> Self {
        let mut labels = self.clone();
        let client = labels.client();
        *client = client.overflow();
        labels
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RefusedLabels {
    #[prometheus(flatten)]
    client: ClientLabels,
    reason: ResponseFlag,
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

impl OfClient for RefusedLabels {
    fn client(&mut self) -> &mut ClientLabels {
        &mut self.client
    }
}

impl OfClient for BreakerLabels {
    fn client(&mut self) -> &mut ClientLabels {
        &mut self.client
    }
}

impl OfClient for FaultLabels {
    fn client(&mut self) -> &mut ClientLabels {
        &mut self.client
    }
}

/// Services of one namespace whose endpoints have series; the rest share one.
const EJECTING_SERVICES: usize = 256;

/// All metrics of TrafficPolicies.
#[derive(Debug, Default)]
pub(super) struct PolicyMetrics {
    refused: SharedSeries<RefusedLabels, Counter>,
    breakers: SharedSeries<BreakerLabels, Counter>,
    faults: SharedSeries<FaultLabels, Counter>,
    /// By Service: all pods of the node learn about endpoints together.
    ejections: SharedSeries<ServiceLabels, Counter>,
    /// Their handles, by namespace.
    ejecting: Mutex<HashMap<Arc<str>, HashMap<ServiceLabels, Counter>>>,
}

impl PolicyMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "weft_refused",
            "Requests, connections and retries that a TrafficPolicy refused",
            self.refused.view(|count| count),
        );
        registry.register(
            "weft_circuit_breaker_changes",
            "Changes of circuit breakers, by what they turned to",
            self.breakers.view(|count| count),
        );
        registry.register(
            "weft_faults_injected",
            "Requests that were delayed or aborted on purpose",
            self.faults.view(|count| count),
        );
        registry.register(
            "weft_endpoint_ejections",
            "Endpoints that get nothing for a while because they failed",
            self.ejections.view(|count| count),
        );
    }

    /// Counts an ejection of an endpoint of a Service.
    pub(super) fn count_ejection(&self, service: &NamespacedName) {
        let mut ejecting = self.lock_ejecting();
        let of_namespace = ejecting.entry(Arc::clone(&service.namespace)).or_default();
        let mut labels = ServiceLabels::new(service);
        if of_namespace.len() >= EJECTING_SERVICES && !of_namespace.contains_key(&labels) {
            labels = ServiceLabels::overflow(Some(&service.namespace));
        }
        let acquire = || self.ejections.acquire(labels.clone());
        of_namespace
            .entry(labels.clone())
            .or_insert_with(acquire)
            .inc();
    }

    /// Drops the series of a Service's endpoints.
    pub(super) fn forget_service(&self, service: &NamespacedName) {
        let mut ejecting = self.lock_ejecting();
        let Some(of_namespace) = ejecting.get_mut(&service.namespace) else {
            return;
        };
        let labels = ServiceLabels::new(service);
        if of_namespace.remove(&labels).is_some() {
            self.ejections.release(&labels);
        }
        if of_namespace.is_empty() {
            ejecting.remove(&service.namespace);
        }
    }

    fn lock_ejecting(&self) -> MutexGuard<'_, HashMap<Arc<str>, HashMap<ServiceLabels, Counter>>> {
        self.ejecting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Series of TrafficPolicies that one pod uses.
#[derive(Debug, Default)]
pub(super) struct PodPolicySeries {
    refused: SeriesCache<RefusedLabels, Counter>,
    breakers: SeriesCache<BreakerLabels, Counter>,
    faults: SeriesCache<FaultLabels, Counter>,
}

impl PodPolicySeries {
    /// Counts what a policy refused.
    pub(super) fn count_refused(
        &mut self,
        all: &PolicyMetrics,
        budget: &mut SeriesBudget,
        client: ClientLabels,
        reason: ResponseFlag,
    ) {
        let labels = RefusedLabels { client, reason };
        self.refused
            .get_or_acquire(labels, budget, &all.refused)
            .inc();
    }

    /// Counts a circuit breaker's turn to another state.
    pub(super) fn count_breaker(
        &mut self,
        all: &PolicyMetrics,
        budget: &mut SeriesBudget,
        client: ClientLabels,
        to: CircuitState,
    ) {
        let to = match to {
            CircuitState::Closed => "closed",
            CircuitState::Open => "open",
            CircuitState::HalfOpen => "half_open",
        };
        let labels = BreakerLabels { client, to };
        self.breakers
            .get_or_acquire(labels, budget, &all.breakers)
            .inc();
    }

    /// Counts the faults that were injected into one request.
    pub(super) fn count_faults(
        &mut self,
        all: &PolicyMetrics,
        budget: &mut SeriesBudget,
        client: &ClientLabels,
        injected: InjectedFault,
    ) {
        let faults = [
            ("delay", injected.delay.is_some()),
            ("abort", injected.abort.is_some()),
        ];
        for (fault, _) in faults.into_iter().filter(|(_, happened)| *happened) {
            let client = client.clone();
            let labels = FaultLabels { client, fault };
            self.faults
                .get_or_acquire(labels, budget, &all.faults)
                .inc();
        }
    }

    /// Drops what was not used since the last sweep.
    pub(super) fn sweep(&mut self, all: &PolicyMetrics, budget: &mut SeriesBudget) {
        self.refused.sweep(budget, &all.refused);
        self.breakers.sweep(budget, &all.breakers);
        self.faults.sweep(budget, &all.faults);
    }

    /// The pod is gone.
    pub(super) fn release(self, all: &PolicyMetrics) {
        self.refused.release_all(&all.refused);
        self.breakers.release_all(&all.breakers);
        self.faults.release_all(&all.faults);
    }
}
