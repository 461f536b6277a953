//! Metrics of TrafficPolicies: `weft_*` counters of each pod and Service.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use weft_model::NamespacedName;
use weft_model::traffic::InjectedFault;
use weft_model::traffic::circuit_breaker::CircuitState;

use super::labels::{PodLabels, ServiceLabels};
use super::shared_series::{AllLabels, SeriesCache, SharedSeries};
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

/// All metrics of TrafficPolicies.
#[derive(Debug, Default)]
pub(super) struct PolicyMetrics {
    refused: SharedSeries<Family<RefusedLabels, Counter>>,
    breakers: SharedSeries<Family<BreakerLabels, Counter>>,
    faults: SharedSeries<Family<FaultLabels, Counter>>,
    /// By Service: all pods of the node learn about endpoints together.
    ejections: Family<ServiceLabels, Counter>,
}

impl PolicyMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "weft_refused",
            "Requests, connections and retries that a TrafficPolicy refused",
            self.refused.families().clone(),
        );
        registry.register(
            "weft_circuit_breaker_changes",
            "Changes of circuit breakers, by what they turned to",
            self.breakers.families().clone(),
        );
        registry.register(
            "weft_faults_injected",
            "Requests that were delayed or aborted on purpose",
            self.faults.families().clone(),
        );
        registry.register(
            "weft_endpoint_ejections",
            "Endpoints that get nothing for a while because they failed",
            self.ejections.clone(),
        );
    }

    /// Counts an ejection of an endpoint of a Service.
    pub(super) fn count_ejection(&self, service: &NamespacedName) {
        let labels = ServiceLabels::new(service);
        self.ejections.get_or_create(&labels).inc();
    }

    /// Drops the series of a Service's endpoints.
    pub(super) fn forget_service(&self, service: &NamespacedName) {
        self.ejections.remove(&ServiceLabels::new(service));
    }
}

/// Series of TrafficPolicies that one pod uses.
#[derive(Debug, Default)]
pub(super) struct PodPolicySeries {
    refused: SeriesCache<AllLabels<RefusedLabels>, Counter>,
    breakers: SeriesCache<AllLabels<BreakerLabels>, Counter>,
    faults: SeriesCache<AllLabels<FaultLabels>, Counter>,
}

impl PodPolicySeries {
    /// Counts what a policy refused.
    pub(super) fn count_refused(
        &mut self,
        all: &PolicyMetrics,
        client: ClientLabels,
        reason: ResponseFlag,
    ) {
        let labels = RefusedLabels { client, reason };
        self.refused
            .get_or_acquire(AllLabels(labels), &all.refused)
            .inc();
    }

    /// Counts a circuit breaker's turn to another state.
    pub(super) fn count_breaker(
        &mut self,
        all: &PolicyMetrics,
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
            .get_or_acquire(AllLabels(labels), &all.breakers)
            .inc();
    }

    /// Counts the faults that were injected into one request.
    pub(super) fn count_faults(
        &mut self,
        all: &PolicyMetrics,
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
                .get_or_acquire(AllLabels(labels), &all.faults)
                .inc();
        }
    }

    /// The pod is gone.
    pub(super) fn release(self, all: &PolicyMetrics) {
        self.refused.release_all(&all.refused);
        self.breakers.release_all(&all.breakers);
        self.faults.release_all(&all.faults);
    }
}
