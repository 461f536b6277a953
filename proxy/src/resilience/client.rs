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

use super::{REMEMBERED, Refused, lock};
use crate::metrics::{ClientLabels, Metrics, PodLabels};

/// What one pod has under way to one Service, and how that went lately.
#[derive(Debug)]
pub(super) struct Client {
    pod: WorkloadUid,
    service: NamespacedName,
    labels: ClientLabels,
    metrics: Arc<Metrics>,
    connections: AtomicU32,
    requests: AtomicU32,
    pending: AtomicU32,
    lately: Mutex<Lately>,
}

#[derive(Debug)]
struct Lately {
    breaker: CircuitBreakerState,
    bucket: TokenBucket,
    budget: RetryBudgetState,
    used: Instant,
}

/// What a permit is for.
#[derive(Clone, Copy, Debug)]
enum For {
    Connection,
    Request,
    Pending,
}

/// A place among what may be under way; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Option<Held>);

#[derive(Debug)]
struct Held {
    client: Arc<Client>,
    whose: For,
    /// What the circuit breaker wants to be told, and by which policy.
    probe: Option<(CircuitPermit, Arc<TrafficPolicy>)>,
}

impl Client {
    pub(super) fn new(
        pod: WorkloadUid,
        labels: PodLabels,
        service: &NamespacedName,
        metrics: Arc<Metrics>,
        now: Instant,
    ) -> Self {
        Self {
            pod,
            labels: ClientLabels::new(labels, service),
            service: service.clone(),
            metrics,
            connections: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            lately: Mutex::new(Lately {
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
        now.saturating_duration_since(lock(&self.lately).used) > REMEMBERED
    }

    pub(super) fn admit_request(
        self: &Arc<Self>,
        policy: Option<&Arc<TrafficPolicy>>,
        now: Instant,
    ) -> Result<Permit, Refused> {
        let limit = policy.and_then(|policy| policy.limits.requests);
        let admitted = self
            .place(For::Request, limit)
            .and_then(|permit| self.pass(permit, policy, now))
            .and_then(|permit| self.count_request(permit, policy, now));
        admitted.inspect_err(|refused| self.count(*refused))
    }

    pub(super) fn admit_connection(
        self: &Arc<Self>,
        policy: Option<&Arc<TrafficPolicy>>,
        now: Instant,
    ) -> Result<Permit, Refused> {
        let limit = policy.and_then(|policy| policy.limits.connections);
        let admitted = self
            .place(For::Connection, limit)
            .and_then(|permit| self.pass(permit, policy, now));
        admitted.inspect_err(|refused| self.count(*refused))
    }

    pub(super) fn admit_pending(
        self: &Arc<Self>,
        policy: Option<&TrafficPolicy>,
    ) -> Result<Permit, Refused> {
        let limit = policy.and_then(|policy| policy.limits.pending_requests);
        let admitted = self.place(For::Pending, limit);
        admitted.inspect_err(|refused| self.count(*refused))
    }

    pub(super) fn retry_allowed(&self, policy: Option<&TrafficPolicy>, now: Instant) -> bool {
        let budget = policy.and_then(|policy| policy.retry_budget);
        let allowed = lock(&self.lately)
            .budget
            .try_retry(&budget.unwrap_or_default(), now);
        if !allowed {
            self.count(Refused::RetryBudget);
        }
        allowed
    }

    pub(super) fn count_faults(&self, injected: InjectedFault) {
        let policies = &self.metrics.policies;
        if injected.delay.is_some() {
            policies.fault(&self.pod, &self.labels, "delay");
        }
        if injected.abort.is_some() {
            policies.fault(&self.pod, &self.labels, "abort");
        }
    }

    /// A place under a limit.
    fn place(self: &Arc<Self>, whose: For, limit: Option<u32>) -> Result<Permit, Refused> {
        let more = |taken: u32| match limit {
            Some(limit) if taken >= limit => None,
            _ => Some(taken.saturating_add(1)),
        };
        let counter = self.counter(whose);
        match counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) {
            Ok(_) => Ok(Permit(Some(Held {
                client: Arc::clone(self),
                whose,
                probe: None,
            }))),
            Err(_) => Err(match whose {
                For::Connection => Refused::TooManyConnections,
                For::Request => Refused::TooManyRequests,
                For::Pending => Refused::TooManyPending,
            }),
        }
    }

    /// Past the circuit breaker.
    fn pass(
        &self,
        mut permit: Permit,
        policy: Option<&Arc<TrafficPolicy>>,
        now: Instant,
    ) -> Result<Permit, Refused> {
        let mut lately = lock(&self.lately);
        lately.used = now;
        let of_policy = policy.and_then(|policy| Some((policy, policy.circuit_breaker?)));
        let Some((policy, circuit_breaker)) = of_policy else {
            return Ok(permit);
        };
        let before = lately.breaker.state();
        let admitted = lately.breaker.admit(&circuit_breaker, now);
        let after = lately.breaker.state();
        // A permit that is dropped below locks this itself.
        drop(lately);
        if before != after {
            self.breaker_is(after);
        }
        match (admitted, &mut permit.0) {
            (Ok(ticket), Some(held)) => held.probe = Some((ticket, Arc::clone(policy))),
            (Ok(_), None) => {}
            (Err(CircuitOpen { remaining }), _) => {
                let retry_after = remaining;
                return Err(Refused::CircuitOpen { retry_after });
            }
        }
        Ok(permit)
    }

    /// Within the rate, and counted for the retry budget.
    fn count_request(
        &self,
        permit: Permit,
        policy: Option<&Arc<TrafficPolicy>>,
        now: Instant,
    ) -> Result<Permit, Refused> {
        let mut lately = lock(&self.lately);
        let taken = match policy.and_then(|policy| policy.local_rate_limit) {
            Some(limit) => lately.bucket.try_acquire(&limit, now),
            None => Ok(()),
        };
        if taken.is_ok() {
            let budget = policy.and_then(|policy| policy.retry_budget);
            lately
                .budget
                .record_request(&budget.unwrap_or_default(), now);
        }
        // A permit that is dropped locks this itself.
        drop(lately);
        match taken {
            Ok(()) => Ok(permit),
            Err(retry_after) => Err(Refused::RateLimited { retry_after }),
        }
    }

    fn counter(&self, whose: For) -> &AtomicU32 {
        match whose {
            For::Connection => &self.connections,
            For::Request => &self.requests,
            For::Pending => &self.pending,
        }
    }

    fn count(&self, refused: Refused) {
        let policies = &self.metrics.policies;
        policies.refused(&self.pod, &self.labels, refused.reason());
    }

    fn breaker_is(&self, phase: CircuitState) {
        tracing::info!(pod = %self.pod, service = %self.service, ?phase, "circuit breaker");
        let policies = &self.metrics.policies;
        policies.breaker(&self.pod, &self.labels, phase);
    }
}

impl Permit {
    /// Of what isn't limited.
    pub(super) fn unlimited() -> Self {
        Self(None)
    }

    /// How it went, once: what a client that left would have got isn't told. The place is
    /// kept.
    pub(crate) fn settle(&mut self, success: bool, now: Instant) {
        let Some(held) = &mut self.0 else { return };
        let Some((ticket, policy)) = held.probe.take() else {
            return;
        };
        let client = &held.client;
        let mut lately = lock(&client.lately);
        let changed = match &policy.circuit_breaker {
            Some(policy) => lately.breaker.record_outcome(policy, ticket, success, now),
            None => None,
        };
        drop(lately);
        if let Some(phase) = changed {
            client.breaker_is(phase);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((ticket, _)) = self.probe.take() {
            lock(&self.client.lately).breaker.abandon(ticket);
        }
        let counter = self.client.counter(self.whose);
        counter.fetch_sub(1, Ordering::AcqRel);
    }
}
