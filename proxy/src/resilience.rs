//! What TrafficPolicies do while connections and requests are served. The decisions are
//! the model's; here is what they are made from, and how long that is remembered.
//!
//! * [`client`]: what one pod has under way to one Service: its limits, circuit breaker,
//!   rate and retries
//! * [`endpoints`]: what is known of a Service's endpoints, by all pods of the node
//!   together: who is ejected, who is new
//! * [`loads`]: what endpoints cost
//!
//! State belongs to a Service, not to its policy: a policy that changes finds everything
//! that was counted under the earlier one.

mod client;
mod endpoints;
mod loads;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use weft_model::balance::locality::Location;
use weft_model::balance::power_of_two_choices;
use weft_model::hash::stable_hash;
use weft_model::mesh::Candidate;
use weft_model::traffic::fault::draw_faults;
use weft_model::traffic::{
    Balancer, HashKey, InjectedFault, LocalityPreference, OutlierDetection, TrafficPolicy,
};
use weft_model::workload::Workload;
use weft_model::{Mesh, NamespacedName};

use self::client::Client;
pub(crate) use self::client::Permit;
use self::endpoints::Endpoints;
use self::loads::{EndpointLoad, InFlight, Loads};
use crate::metrics::{Metrics, PodLabels};

/// How long the state of a Service that nobody uses is remembered. Longer than any
/// sensible ejection, so that an endpoint doesn't come back by being forgotten.
const REMEMBERED: Duration = Duration::from_secs(900);

/// Why something wasn't sent, which the client can't be blamed for by its content.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Refused {
    /// The circuit breaker is open.
    #[error("the service's circuit breaker is open: too many requests to it have failed")]
    CircuitOpen {
        /// When it is worth asking again.
        retry_after: Option<Duration>,
    },
    /// As many connections as `limits.connections` allows.
    #[error("the workload has as many connections to the service as its policy allows")]
    TooManyConnections,
    /// As many requests as `limits.requests` allows.
    #[error("the workload has as many requests to the service under way as its policy allows")]
    TooManyRequests,
    /// As many waiting requests as `limits.pendingRequests` allows.
    #[error("as many requests of the workload wait for the service as its policy allows")]
    TooManyPending,
    /// More often than `rateLimit.local` allows.
    #[error("the workload asks the service more often than its policy allows")]
    RateLimited {
        /// When it is worth asking again.
        retry_after: Duration,
    },
    /// More retries than `retryBudget` allows.
    #[error("more of the workload's requests would be retries than the service's budget allows")]
    RetryBudget,
}

impl Refused {
    /// Every word that [`Refused::reason`] gives.
    pub(crate) const REASONS: [&'static str; 6] = [
        "CIRCUIT_OPEN",
        "TOO_MANY_CONNECTIONS",
        "TOO_MANY_REQUESTS",
        "TOO_MANY_PENDING",
        "RATE_LIMITED",
        "RETRY_BUDGET",
    ];

    /// The short word for metrics, the access log and the header `x-weft-reason`.
    pub fn reason(self) -> &'static str {
        let [circuit, connections, requests, pending, rate, budget] = Self::REASONS;
        match self {
            Self::CircuitOpen { .. } => circuit,
            Self::TooManyConnections => connections,
            Self::TooManyRequests => requests,
            Self::TooManyPending => pending,
            Self::RateLimited { .. } => rate,
            Self::RetryBudget => budget,
        }
    }

    /// When it is worth asking again, where that is known.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::CircuitOpen { retry_after } => retry_after,
            Self::RateLimited { retry_after } => Some(retry_after),
            Self::TooManyConnections
            | Self::TooManyRequests
            | Self::TooManyPending
            | Self::RetryBudget => None,
        }
    }
}

/// What the pods of a node know together.
#[derive(Debug)]
pub(crate) struct Resilience {
    loads: Arc<Loads>,
    endpoints: Mutex<HashMap<(NamespacedName, u16), Arc<Endpoints>>>,
    metrics: Arc<Metrics>,
}

/// What one pod knows of the Services that it uses.
#[derive(Debug)]
pub(crate) struct Clients {
    pod: Arc<Workload>,
    labels: PodLabels,
    place: Location,
    services: Mutex<HashMap<NamespacedName, Arc<Client>>>,
}

impl Resilience {
    /// Nothing is known yet.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            loads: Arc::default(),
            endpoints: Mutex::default(),
            metrics,
        }
    }

    /// Forgets Services that no pod has used for long, and their series.
    pub(crate) fn forget_unused(&self, now: Instant) {
        let mut endpoints = lock(&self.endpoints);
        let before: Vec<_> = endpoints
            .keys()
            .map(|(service, _)| service.clone())
            .collect();
        endpoints.retain(|_, known| Arc::strong_count(known) > 1 || !known.is_unused(now));
        for service in before {
            if !endpoints.keys().any(|(left, _)| *left == service) {
                self.metrics.policies.forget_service(&service);
            }
        }
    }

    /// What is known of the endpoints of a port of a Service.
    fn endpoints(&self, service: &NamespacedName, port: u16, now: Instant) -> Arc<Endpoints> {
        let mut endpoints = lock(&self.endpoints);
        let known = endpoints.entry((service.clone(), port));
        let new = || {
            let metrics = Arc::clone(&self.metrics);
            Arc::new(Endpoints::new(service.clone(), metrics, now))
        };
        Arc::clone(known.or_insert_with(new))
    }
}

impl Clients {
    /// Of a pod that has used nothing yet.
    pub(crate) fn new(pod: Arc<Workload>) -> Self {
        Self {
            labels: PodLabels::new(&pod),
            place: Location::from(&*pod),
            pod,
            services: Mutex::default(),
        }
    }

    /// The way to a port of a Service, or to a destination that is none, as the mesh says
    /// now. To be asked for anew for each connection and each request.
    pub(crate) fn upstream(
        &self,
        node: &Resilience,
        mesh: &Mesh,
        service: Option<(&NamespacedName, u16)>,
        now: Instant,
    ) -> Upstream {
        let to = service.map(|(key, port)| To {
            client: self.client(node, key, now),
            endpoints: node.endpoints(key, port, now),
        });
        Upstream {
            policy: service.and_then(|(key, _)| mesh.traffic_policy(key).map(Arc::clone)),
            to,
            place: self.place.clone(),
            loads: Arc::clone(&node.loads),
        }
    }

    /// Forgets Services that the pod has not used for long.
    pub(crate) fn forget_unused(&self, now: Instant) {
        let used = |client: &Arc<Client>| Arc::strong_count(client) > 1 || !client.is_unused(now);
        lock(&self.services).retain(|_, client| used(client));
    }

    /// What the pod has under way to a Service.
    fn client(&self, node: &Resilience, service: &NamespacedName, now: Instant) -> Arc<Client> {
        let mut services = lock(&self.services);
        if let Some(client) = services.get(service) {
            return Arc::clone(client);
        }
        let (uid, metrics) = (self.pod.uid.clone(), Arc::clone(&node.metrics));
        let client = Client::new(uid, self.labels.clone(), service, metrics, now);
        let client = Arc::new(client);
        services.insert(service.clone(), Arc::clone(&client));
        client
    }
}

/// The way of one pod's connection or request to a Service: whether it may go, and where.
#[derive(Debug)]
pub(crate) struct Upstream {
    policy: Option<Arc<TrafficPolicy>>,
    /// `None` for a destination that is no Service: nothing is limited there.
    to: Option<To>,
    place: Location,
    loads: Arc<Loads>,
}

#[derive(Debug)]
struct To {
    client: Arc<Client>,
    endpoints: Arc<Endpoints>,
}

/// One connection or request on its way to one endpoint; over when dropped.
#[derive(Debug)]
pub(crate) struct Attempt {
    address: SocketAddr,
    load: Arc<EndpointLoad>,
    _in_flight: InFlight,
    endpoints: Option<Arc<Endpoints>>,
    outliers: Option<OutlierDetection>,
    began: Instant,
}

impl Upstream {
    /// The Service's policy, `None` where it has none.
    pub(crate) fn policy(&self) -> Option<&TrafficPolicy> {
        self.policy.as_deref()
    }

    /// A place for one request, until it is dropped. How the request went is told by
    /// [`Permit::settle`].
    ///
    /// # Errors
    /// When the policy lets no more through now.
    pub(crate) fn admit_request(&self, now: Instant) -> Result<Permit, Refused> {
        match &self.to {
            None => Ok(Permit::unlimited()),
            Some(to) => to.client.admit_request(self.policy.as_ref(), now),
        }
    }

    /// The same for a connection whose requests, if it has any, aren't looked at.
    ///
    /// # Errors
    /// When the policy lets no more through now.
    pub(crate) fn admit_connection(&self, now: Instant) -> Result<Permit, Refused> {
        match &self.to {
            None => Ok(Permit::unlimited()),
            Some(to) => to.client.admit_connection(self.policy.as_ref(), now),
        }
    }

    /// A place for one request that waits for a connection, until it is dropped.
    ///
    /// # Errors
    /// When as many wait as may.
    pub(crate) fn admit_pending(&self) -> Result<Permit, Refused> {
        match &self.to {
            None => Ok(Permit::unlimited()),
            Some(to) => to.client.admit_pending(self.policy()),
        }
    }

    /// Whether a request that failed may be tried once more now; counted when it may.
    pub(crate) fn retry_allowed(&self, now: Instant) -> bool {
        let to = self.to.as_ref();
        to.is_none_or(|to| to.client.retry_allowed(self.policy(), now))
    }

    /// What happens to one request on purpose; counted as having happened.
    pub(crate) fn inject(&self) -> InjectedFault {
        match (&self.policy, &self.to) {
            (Some(policy), Some(to)) if !policy.faults.is_empty() => {
                let injected = draw_faults(&policy.faults, fastrand::f64);
                to.client.count_faults(injected);
                injected
            }
            _ => InjectedFault::default(),
        }
    }

    /// What of a request decides about its endpoint, where that is wanted.
    pub(crate) fn hash_key(&self) -> Option<&HashKey> {
        match &self.policy()?.balancer {
            Balancer::ConsistentHash(key) => Some(key),
            Balancer::Ewma | Balancer::RoundRobin | Balancer::LeastRequest | Balancer::Random => {
                None
            }
        }
    }

    /// The key of a client's address, where that is what decides.
    pub(crate) fn key_of_source(&self, client: IpAddr) -> Option<u64> {
        match self.hash_key()? {
            HashKey::Source => Some(stable_hash(client.to_string().as_bytes())),
            HashKey::Header(_) | HashKey::Cookie { .. } => None,
        }
    }

    /// Index of the candidate to use, `None` when there are none. `key` is the hash of
    /// what [`Upstream::hash_key`] names; `tried` are the addresses where this connection
    /// or request was already, which are used again only when there are no others.
    pub(crate) fn choose(
        &self,
        candidates: &[Candidate],
        key: Option<u64>,
        tried: &[SocketAddr],
        now: Instant,
    ) -> Option<usize> {
        if let Some(to) = &self.to
            && !(tried.is_empty() && self.policy().is_none_or(is_plain))
        {
            let unspoken;
            let policy = match self.policy() {
                Some(policy) => policy,
                None => {
                    unspoken = TrafficPolicy::new(to.client.service().clone());
                    &unspoken
                }
            };
            let asked = endpoints::Asked {
                policy,
                place: &self.place,
                key,
                tried,
                now,
            };
            return to.endpoints.choose(&asked, candidates, &self.loads);
        }
        // Two of many are looked at, not all of them.
        let cost = |index: usize| {
            let candidate: Option<&Candidate> = candidates.get(index);
            let load = candidate.map(|candidate| self.loads.of(candidate.address).load(now));
            load.unwrap_or_default().cost()
        };
        power_of_two_choices(candidates.len(), cost, || fastrand::u64(..))
    }

    /// Whether an endpoint is ejected, for who means to go there whatever is chosen.
    pub(crate) fn is_ejected(&self, endpoint: SocketAddr, now: Instant) -> bool {
        let to = self.to.as_ref();
        to.is_some_and(|to| to.endpoints.is_ejected(endpoint, now))
    }

    /// A connection or request is on its way to that endpoint.
    pub(crate) fn attempt(&self, endpoint: SocketAddr, now: Instant) -> Attempt {
        let load = self.loads.of(endpoint);
        let outliers = self.policy().and_then(|policy| policy.outlier_detection);
        Attempt {
            address: endpoint,
            _in_flight: load.start(),
            load,
            endpoints: self.to.as_ref().map(|to| Arc::clone(&to.endpoints)),
            outliers,
            began: now,
        }
    }
}

impl Attempt {
    /// The endpoint took the connection or answered the request, or failed to. What is
    /// nobody's failure, such as a client that left, isn't told. Work goes on being in
    /// flight until this is dropped.
    pub(crate) fn answered(&self, success: bool, now: Instant) {
        let took = now.saturating_duration_since(self.began);
        self.load.observe(took, success, now);
        if let (Some(endpoints), Some(policy)) = (&self.endpoints, &self.outliers) {
            endpoints.observe(self.address, policy, success, now);
        }
    }
}

/// Whether nothing but what endpoints cost decides between them.
fn is_plain(policy: &TrafficPolicy) -> bool {
    policy.balancer == Balancer::Ewma
        && policy.locality == LocalityPreference::Any
        && policy.slow_start.is_none()
        && policy.outlier_detection.is_none()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
