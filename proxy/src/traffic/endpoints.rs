//! What is known of the endpoints of one port of a Service, by all pods of the node
//! together.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use weft_model::NamespacedName;
use weft_model::balance::locality::{Location, distance};
use weft_model::balance::{EndpointView, choose, slow_start_weight};
use weft_model::hash::stable_hash;
use weft_model::mesh::Candidate;
use weft_model::traffic::outlier::{OutlierState, may_eject};
use weft_model::traffic::{OutlierDetection, TrafficPolicy};

use super::loads::{EndpointLoad, Loads};
use super::retention::RETENTION;
use crate::sync::lock;
use crate::telemetry::metrics::Metrics;

/// Endpoints that are gone and remembered, beside as many as there are.
const GONE: usize = 16;

/// The endpoints of one port of a Service.
#[derive(Debug)]
pub(super) struct Endpoints {
    service: NamespacedName,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    known: HashMap<SocketAddr, KnownEndpoint>,
    /// Number of the last choice.
    turn: u64,
    /// How many there were then.
    count: usize,
    used: Instant,
}

#[derive(Debug)]
struct KnownEndpoint {
    load: Arc<EndpointLoad>,
    hash: u64,
    outlier: OutlierState,
    /// When it came; `None` when it was there before anybody looked.
    came: Option<Instant>,
    /// The choice that it was won by, and the one that it was there for, the last time.
    last_chosen: u64,
    seen: u64,
}

/// What decides about the endpoint of one connection or request.
pub(super) struct PickContext<'a> {
    pub(super) policy: &'a TrafficPolicy,
    pub(super) location: &'a Location,
    pub(super) key: Option<u64>,
    pub(super) tried: &'a [SocketAddr],
    /// Index of the candidate that has the client's session.
    pub(super) session: Option<usize>,
    pub(super) now: Instant,
}

impl Endpoints {
    pub(super) fn new(service: NamespacedName, metrics: Arc<Metrics>, now: Instant) -> Self {
        Self {
            service,
            metrics,
            state: Mutex::new(State {
                known: HashMap::new(),
                turn: 0,
                count: 0,
                used: now,
            }),
        }
    }

    pub(super) fn is_unused(&self, now: Instant) -> bool {
        now.saturating_duration_since(lock(&self.state).used) > RETENTION
    }

    pub(super) fn choose(
        &self,
        context: &PickContext<'_>,
        candidates: &[Candidate],
        loads: &Loads,
    ) -> Option<usize> {
        let mut state = lock(&self.state);
        let state = &mut *state;
        state.turn += 1;
        state.count = candidates.len();
        state.used = context.now;
        let views = candidates.iter().map(|candidate| {
            let known = state.known.entry(candidate.address).or_insert_with(|| {
                let came = (state.turn > 1).then_some(context.now);
                KnownEndpoint::new(candidate.address, came, loads)
            });
            known.seen = state.turn;
            known.view(context, candidate)
        });
        let mut views: Vec<_> = views.collect();
        if let Some(view) = context.session.and_then(|index| views.get_mut(index)) {
            view.has_session = true;
        }
        let balancer = &context.policy.balancer;
        let chosen = choose(balancer, &views, context.key, || fastrand::u64(..));
        let address = chosen
            .and_then(|index| candidates.get(index))
            .map(|c| c.address);
        if let Some(known) = address.and_then(|address| state.known.get_mut(&address)) {
            known.last_chosen = state.turn;
        }
        if state.known.len() > 2 * candidates.len() + GONE {
            let (turn, now) = (state.turn, context.now);
            let stays = |known: &KnownEndpoint| known.seen == turn || known.outlier.is_ejected(now);
            state.known.retain(|_, known| stays(known));
        }
        chosen
    }

    pub(super) fn is_ejected(&self, endpoint: SocketAddr, now: Instant) -> bool {
        let state = lock(&self.state);
        let known = state.known.get(&endpoint);
        known.is_some_and(|known| known.outlier.is_ejected(now))
    }

    pub(super) fn record_result(
        &self,
        endpoint: SocketAddr,
        policy: &OutlierDetection,
        success: bool,
        now: Instant,
    ) {
        let mut state = lock(&self.state);
        let (turn, count) = (state.turn, state.count);
        let Some(known) = state.known.get_mut(&endpoint) else {
            return;
        };
        if !known.outlier.record_outcome(policy, success, now) {
            return;
        }
        // Only those that the last choice was between count: others are gone.
        let there = state.known.values().filter(|known| known.seen == turn);
        let ejected = there.filter(|known| known.outlier.is_ejected(now)).count();
        if !may_eject(policy, ejected, count) {
            return;
        }
        if let Some(known) = state.known.get_mut(&endpoint) {
            let length = known.outlier.eject(policy, now);
            drop(state);
            tracing::info!(service = %self.service, %endpoint, ?length, "endpoint ejected");
            self.metrics.count_ejection(&self.service);
        }
    }
}

impl KnownEndpoint {
    fn new(address: SocketAddr, came: Option<Instant>, loads: &Loads) -> Self {
        Self {
            load: loads.of_endpoint(address),
            hash: stable_hash(address.to_string().as_bytes()),
            outlier: OutlierState::default(),
            came,
            last_chosen: 0,
            seen: 0,
        }
    }

    fn view(&self, context: &PickContext<'_>, candidate: &Candidate) -> EndpointView {
        let location = candidate
            .workload()
            .map(|workload| Location::from(&**workload));
        // Who comes back is as cold as who is new.
        let since = self.outlier.returned_at(context.now).max(self.came);
        let weight = match (context.policy.slow_start, since) {
            (Some(window), Some(since)) => {
                slow_start_weight(window, context.now.saturating_duration_since(since))
            }
            _ => 1.0,
        };
        EndpointView {
            load: self.load.load(context.now),
            distance: distance(
                context.policy.locality.unwrap_or_default(),
                context.location,
                location.as_ref(),
            ),
            weight,
            hash: self.hash,
            last_chosen: self.last_chosen,
            ejected: context.policy.outlier_detection.is_some()
                && self.outlier.is_ejected(context.now),
            tried: context.tried.contains(&candidate.address),
            has_session: false,
        }
    }
}
