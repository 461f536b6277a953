//! One pod's state towards a port of a Service, for one connection or request: whether it
//! may go, and to which endpoint.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use weft_model::balance::locality::Location;
use weft_model::balance::power_of_two_choices;
use weft_model::hash::stable_hash;
use weft_model::mesh::Candidate;
use weft_model::traffic::fault::draw_faults;
use weft_model::traffic::{Balancer, HashKey, InjectedFault, LocalityPreference, TrafficPolicy};

use super::affinity::SessionAffinity;
use super::client::{ServiceClient, TrafficPermit};
use super::endpoint_attempt::EndpointAttempt;
use super::endpoints::{Endpoints, PickContext};
use super::loads::Loads;
use super::refusal::PolicyRefusal;

/// One pod's state towards a port of a Service, with the Service's policy as one snapshot of
/// the mesh has it.
#[derive(Debug)]
pub(crate) struct UpstreamService {
    pub(super) policy: Option<Arc<TrafficPolicy>>,
    /// `None` for a destination that is no Service: nothing is limited there.
    pub(super) target: Option<Target>,
    pub(super) location: Location,
    pub(super) loads: Arc<Loads>,
}

/// A port of a Service.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) client: Arc<ServiceClient>,
    pub(super) endpoints: Arc<Endpoints>,
    /// `None` where the Service keeps no client with its endpoint.
    pub(super) affinity: Option<SessionAffinity>,
}

impl UpstreamService {
    /// The Service's policy, `None` where it has none.
    pub(crate) fn policy(&self) -> Option<&TrafficPolicy> {
        self.policy.as_deref()
    }

    /// A permit for one request, until it is dropped. How the request went is reported by
    /// [`TrafficPermit::record_result`].
    ///
    /// # Errors
    /// When the policy lets no more through now.
    pub(crate) fn admit_request(&self, now: Instant) -> Result<TrafficPermit, PolicyRefusal> {
        match &self.target {
            None => Ok(TrafficPermit::unlimited()),
            Some(target) => target.client.admit_request(self.policy.as_ref(), now),
        }
    }

    /// The same for a connection whose requests, if it has any, aren't looked at.
    ///
    /// # Errors
    /// When the policy lets no more through now.
    pub(crate) fn admit_connection(&self, now: Instant) -> Result<TrafficPermit, PolicyRefusal> {
        match &self.target {
            None => Ok(TrafficPermit::unlimited()),
            Some(target) => target.client.admit_connection(self.policy.as_ref(), now),
        }
    }

    /// A permit for one request that waits for a connection, until it is dropped.
    ///
    /// # Errors
    /// When as many wait as may.
    pub(crate) fn admit_pending(&self) -> Result<TrafficPermit, PolicyRefusal> {
        match &self.target {
            None => Ok(TrafficPermit::unlimited()),
            Some(target) => target.client.admit_pending(self.policy()),
        }
    }

    /// Whether a request that failed may be tried once more now; counted when it may.
    pub(crate) fn try_retry(&self, now: Instant) -> bool {
        let target = self.target.as_ref();
        target.is_none_or(|target| target.client.try_retry(self.policy(), now))
    }

    /// The fault for one request, drawn; counted as having happened.
    pub(crate) fn inject_fault(&self) -> InjectedFault {
        match (&self.policy, &self.target) {
            (Some(policy), Some(target)) if !policy.faults.is_empty() => {
                let injected = draw_faults(&policy.faults, fastrand::f64);
                target.client.count_faults(injected);
                injected
            }
            _ => InjectedFault::default(),
        }
    }

    /// The part of a request whose hash decides about its endpoint, where one does.
    pub(crate) fn hash_key(&self) -> Option<&HashKey> {
        match &self.policy()?.balancer {
            Balancer::ConsistentHash(key) => Some(key),
            Balancer::Ewma | Balancer::RoundRobin | Balancer::LeastRequest | Balancer::Random => {
                None
            }
        }
    }

    /// The hash of a client's address, where that decides.
    pub(crate) fn source_hash(&self, client: IpAddr) -> Option<u64> {
        match self.hash_key()? {
            HashKey::Source => Some(stable_hash(client.to_string().as_bytes())),
            HashKey::Header(_) | HashKey::Cookie { .. } => None,
        }
    }

    /// Index of the candidate to use, `None` when there are none. `key` is the hash of what
    /// [`UpstreamService::hash_key`] names; `tried` are the addresses where this connection
    /// or request was already, which are used again only when there are no others.
    pub(crate) fn choose(
        &self,
        candidates: &[Candidate],
        key: Option<u64>,
        tried: &[SocketAddr],
        now: Instant,
    ) -> Option<usize> {
        let choose = |session| self.choose_by_policy(candidates, session, key, tried, now);
        let target = self.target.as_ref();
        match target.and_then(|target| target.affinity.as_ref()) {
            Some(affinity) => affinity.choose(candidates, now, choose),
            None => choose(None),
        }
    }

    /// The same, with the index of the candidate that has the client's session.
    fn choose_by_policy(
        &self,
        candidates: &[Candidate],
        session: Option<usize>,
        key: Option<u64>,
        tried: &[SocketAddr],
        now: Instant,
    ) -> Option<usize> {
        if let Some(target) = &self.target
            && !(tried.is_empty() && self.policy().is_none_or(decides_by_cost_alone))
        {
            let default;
            let policy = match self.policy() {
                Some(policy) => policy,
                None => {
                    default = TrafficPolicy::new(target.client.service().clone());
                    &default
                }
            };
            let context = PickContext {
                policy,
                location: &self.location,
                key,
                tried,
                session,
                now,
            };
            return target.endpoints.choose(&context, candidates, &self.loads);
        }
        if session.is_some() {
            return session;
        }
        // Two of many are looked at, not all of them.
        let cost = |index: usize| {
            let candidate: Option<&Candidate> = candidates.get(index);
            let load =
                candidate.map(|candidate| self.loads.of_endpoint(candidate.address).load(now));
            load.unwrap_or_default().cost()
        };
        power_of_two_choices(candidates.len(), cost, || fastrand::u64(..))
    }

    /// Whether an endpoint is ejected, for who means to go there whatever is chosen.
    pub(crate) fn is_ejected(&self, endpoint: SocketAddr, now: Instant) -> bool {
        let target = self.target.as_ref();
        target.is_some_and(|target| target.endpoints.is_ejected(endpoint, now))
    }

    /// Begins an attempt at an endpoint: a connection or request is on its way there.
    pub(crate) fn begin_attempt(&self, endpoint: SocketAddr, now: Instant) -> EndpointAttempt {
        let load = self.loads.of_endpoint(endpoint);
        let outliers = self.policy().and_then(|policy| policy.outlier_detection);
        EndpointAttempt {
            address: endpoint,
            _in_flight: load.begin(),
            load,
            endpoints: self
                .target
                .as_ref()
                .map(|target| Arc::clone(&target.endpoints)),
            outliers,
            began: now,
        }
    }
}

/// Whether nothing but what endpoints cost decides between them.
fn decides_by_cost_alone(policy: &TrafficPolicy) -> bool {
    policy.balancer == Balancer::Ewma
        && policy.locality.unwrap_or_default() == LocalityPreference::Any
        && policy.slow_start.is_none()
        && policy.outlier_detection.is_none()
}
