//! What one pod has under way to one Service.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use weft_model::NamespacedName;
use weft_model::traffic::circuit_breaker::{
    CircuitBreakerState, CircuitOpen, CircuitPermit, CircuitState,
};
use weft_model::traffic::retry_budget::RetryBudgetState;
use weft_model::traffic::token_bucket::TokenBucket;
use weft_model::traffic::{InjectedFault, TrafficPolicy};
use weft_model::workload::WorkloadUid;

use super::refusal::PolicyRefusal;
use super::retention::RETENTION;
use crate::sync::lock;
use crate::telemetry::metrics::pod::PodMetrics;

/// Open requests and connections of one pod to one Service, and their recent outcomes.
#[derive(Debug)]
pub(super) struct ServiceClient {
    pod: WorkloadUid,
    service: NamespacedName,
    metrics: Arc<PodMetrics>,
    connections: AtomicU32,
    requests: AtomicU32,
    pending: AtomicU32,
    history: Mutex<History>,
}

#[derive(Debug)]
struct History {
    breaker: CircuitBreakerState,
    bucket: TokenBucket,
    budget: RetryBudgetState,
    used: Instant,
}

/// What a permit is for.
#[derive(Clone, Copy, Debug)]
enum PermitKind {
    Connection,
    Request,
    Pending,
}

/// A permit among what may be under way; given back when dropped.
#[derive(Debug)]
pub(crate) struct TrafficPermit(Option<TakenPermit>);

#[derive(Debug)]
struct TakenPermit {
    client: Arc<ServiceClient>,
    kind: PermitKind,
    /// What the circuit breaker wants to be told, and by which policy.
    probe: Option<(CircuitPermit, Arc<TrafficPolicy>)>,
}

impl ServiceClient {
    pub(super) fn new(
        pod: WorkloadUid,
        service: &NamespacedName,
        metrics: Arc<PodMetrics>,
        now: Instant,
    ) -> Self {
        Self {
            pod,
            service: service.clone(),
            metrics,
            connections: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            history: Mutex::new(History {
                breaker: CircuitBreakerState::default(),
                bucket: TokenBucket::default(),
                budget: RetryBudgetState::default(),
                used: now,
            }),
        }
    }

    pub(super) fn service(&self) -> &NamespacedName {
        &self.service
    }

    pub(super) fn is_unused(&self, now: Instant) -> bool {
        now.saturating_duration_since(lock(&self.history).used) > RETENTION
    }

    pub(super) fn admit_request(
        self: &Arc<Self>,
        policy: Option<&Arc<TrafficPolicy>>,
        now: Instant,
    ) -> Result<TrafficPermit, PolicyRefusal> {
        let limit = policy.and_then(|policy| policy.limits.requests);
        let admitted = self
            .permit(PermitKind::Request, limit)
            .and_then(|permit| self.pass_breaker(permit, policy, now))
            .and_then(|permit| self.count_request(permit, policy, now));
        admitted.inspect_err(|refused| self.count_refusal(*refused))
    }

    pub(super) fn admit_connection(
        self: &Arc<Self>,
        policy: Option<&Arc<TrafficPolicy>>,
        now: Instant,
    ) -> Result<TrafficPermit, PolicyRefusal> {
        let limit = policy.and_then(|policy| policy.limits.connections);
        let admitted = self
            .permit(PermitKind::Connection, limit)
            .and_then(|permit| self.pass_breaker(permit, policy, now));
        admitted.inspect_err(|refused| self.count_refusal(*refused))
    }

    pub(super) fn admit_pending(
        self: &Arc<Self>,
        policy: Option<&TrafficPolicy>,
    ) -> Result<TrafficPermit, PolicyRefusal> {
        let limit = policy.and_then(|policy| policy.limits.pending_requests);
        let admitted = self.permit(PermitKind::Pending, limit);
        admitted.inspect_err(|refused| self.count_refusal(*refused))
    }

    pub(super) fn try_retry(&self, policy: Option<&TrafficPolicy>, now: Instant) -> bool {
        let budget = policy.and_then(|policy| policy.retry_budget);
        let allowed = lock(&self.history)
            .budget
            .try_retry(&budget.unwrap_or_default(), now);
        if !allowed {
            self.count_refusal(PolicyRefusal::RetryBudget);
        }
        allowed
    }

    pub(super) fn count_faults(&self, injected: InjectedFault) {
        self.metrics.count_faults(&self.service, injected);
    }

    /// A permit under a limit.
    fn permit(
        self: &Arc<Self>,
        kind: PermitKind,
        limit: Option<u32>,
    ) -> Result<TrafficPermit, PolicyRefusal> {
        let more = |taken: u32| match limit {
            Some(limit) if taken >= limit => None,
            _ => Some(taken.saturating_add(1)),
        };
        let counter = self.counter(kind);
        match counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) {
            Ok(_) => Ok(TrafficPermit(Some(TakenPermit {
                client: Arc::clone(self),
                kind,
                probe: None,
            }))),
            Err(_) => Err(match kind {
                PermitKind::Connection => PolicyRefusal::TooManyConnections,
                PermitKind::Request => PolicyRefusal::TooManyRequests,
                PermitKind::Pending => PolicyRefusal::TooManyPending,
            }),
        }
    }

    /// Past the circuit breaker.
    fn pass_breaker(
        &self,
        mut permit: TrafficPermit,
        policy: Option<&Arc<TrafficPolicy>>,
        now: Instant,
    ) -> Result<TrafficPermit, PolicyRefusal> {
        let mut history = lock(&self.history);
        history.used = now;
        let of_policy = policy.and_then(|policy| Some((policy, policy.circuit_breaker?)));
        let Some((policy, circuit_breaker)) = of_policy else {
            return Ok(permit);
        };
        let before = history.breaker.state();
        let admitted = history.breaker.admit(&circuit_breaker, now);
        let after = history.breaker.state();
        // A permit that is dropped below locks this itself.
        drop(history);
        if before != after {
            self.breaker_changed(after);
        }
        match (admitted, &mut permit.0) {
            (Ok(probe), Some(held)) => held.probe = Some((probe, Arc::clone(policy))),
            (Ok(_), None) => {}
            (Err(CircuitOpen { remaining }), _) => {
                let retry_after = remaining;
                return Err(PolicyRefusal::CircuitOpen { retry_after });
            }
        }
        Ok(permit)
    }

    /// Within the rate, and counted for the retry budget.
    fn count_request(
        &self,
        permit: TrafficPermit,
        policy: Option<&Arc<TrafficPolicy>>,
        now: Instant,
    ) -> Result<TrafficPermit, PolicyRefusal> {
        let mut history = lock(&self.history);
        let taken = match policy.and_then(|policy| policy.local_rate_limit) {
            Some(limit) => history.bucket.try_acquire(&limit, now),
            None => Ok(()),
        };
        if taken.is_ok() {
            let budget = policy.and_then(|policy| policy.retry_budget);
            history
                .budget
                .record_request(&budget.unwrap_or_default(), now);
        }
        // A permit that is dropped locks this itself.
        drop(history);
        match taken {
            Ok(()) => Ok(permit),
            Err(retry_after) => Err(PolicyRefusal::RateLimited { retry_after }),
        }
    }

    fn counter(&self, kind: PermitKind) -> &AtomicU32 {
        match kind {
            PermitKind::Connection => &self.connections,
            PermitKind::Request => &self.requests,
            PermitKind::Pending => &self.pending,
        }
    }

    fn count_refusal(&self, refusal: PolicyRefusal) {
        self.metrics.count_refused(&self.service, refusal.flag());
    }

    fn breaker_changed(&self, state: CircuitState) {
        tracing::info!(pod = %self.pod, service = %self.service, ?state, "circuit breaker");
        self.metrics
            .count_circuit_breaker_change(&self.service, state);
    }
}

impl TrafficPermit {
    /// Of what isn't limited.
    pub(super) fn unlimited() -> Self {
        Self(None)
    }

    /// How it went, once: what a client that left would have got isn't told. The permit is
    /// kept.
    pub(crate) fn record_result(&mut self, success: bool, now: Instant) {
        let Some(held) = &mut self.0 else { return };
        let Some((permit, policy)) = held.probe.take() else {
            return;
        };
        let client = &held.client;
        let mut history = lock(&client.history);
        let changed = match &policy.circuit_breaker {
            Some(policy) => history.breaker.record_outcome(policy, permit, success, now),
            None => None,
        };
        drop(history);
        if let Some(phase) = changed {
            client.breaker_changed(phase);
        }
    }
}

impl Drop for TakenPermit {
    fn drop(&mut self) {
        if let Some((permit, _)) = self.probe.take() {
            lock(&self.client.history).breaker.abandon(permit);
        }
        let counter = self.client.counter(self.kind);
        counter.fetch_sub(1, Ordering::AcqRel);
    }
}
