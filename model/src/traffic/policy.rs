//! TrafficPolicies: how requests to a Service are balanced, limited, retried and made to fail.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use crate::idle::ServiceIdleLimits;
use crate::name::NamespacedName;
use crate::route::retry::{Retry, Timeouts};
use crate::traffic::circuit_breaker::CircuitBreaker;
use crate::traffic::fault::Fault;
use crate::traffic::outlier::OutlierDetection;
use crate::traffic::rate_limit::GlobalRateLimit;
use crate::traffic::retry_budget::RetryBudget;
use crate::traffic::token_bucket::LocalRateLimit;

/// The TrafficPolicy of one Service. By default nothing is limited, and endpoints are chosen
/// by latency and load.
#[derive(Clone, Debug, PartialEq)]
pub struct TrafficPolicy {
    /// Service that it is for; a Service has one at most.
    pub service: NamespacedName,
    /// Load balancing policy.
    pub balancer: Balancer,
    /// Preference for near endpoints; what the Service itself asks for when `None`.
    pub locality: Option<LocalityPreference>,
    /// Time that a new endpoint takes to get its whole share; at once when `None`.
    pub slow_start: Option<Duration>,
    /// Limits on what is under way, for each client workload.
    pub limits: Limits,
    /// Circuit breaker, for each client workload; none when `None`.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// Outlier detection among the endpoints; none when `None`.
    pub outlier_detection: Option<OutlierDetection>,
    /// Retry budget, for each client workload; [`RetryBudget::default`] when `None`.
    pub retry_budget: Option<RetryBudget>,
    /// Retries of requests, where no route has any.
    pub retry: Option<Retry>,
    /// Timeouts of requests, where no route has any.
    pub timeouts: Timeouts,
    /// Idle limits of connections.
    pub idle_limits: ServiceIdleLimits,
    /// Faults that are injected.
    pub faults: Vec<Fault>,
    /// Rate limit for each client workload, as its own proxy counts; with some room the proxies of the
    /// Service's workloads, too.
    pub local_rate_limit: Option<LocalRateLimit>,
    /// Rate limit for all clients of one of the Service's workloads together, as that one's proxy
    /// counts.
    pub instance_rate_limit: Option<LocalRateLimit>,
    /// Rate limit for all clients together, as a rate limit service counts.
    pub global_rate_limit: Option<GlobalRateLimit>,
}

impl TrafficPolicy {
    /// The policy of a Service that has none of its own: all defaults.
    pub fn new(service: NamespacedName) -> Self {
        Self {
            service,
            balancer: Balancer::default(),
            locality: None,
            slow_start: None,
            limits: Limits::default(),
            circuit_breaker: None,
            outlier_detection: None,
            retry_budget: None,
            retry: None,
            timeouts: Timeouts::default(),
            idle_limits: ServiceIdleLimits::default(),
            faults: Vec::new(),
            local_rate_limit: None,
            instance_rate_limit: None,
            global_rate_limit: None,
        }
    }
}

/// Load balancing policy: how an endpoint is chosen.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Balancer {
    /// The cheaper of two at random, by latency and load.
    #[default]
    Ewma,
    /// One after the other.
    RoundRobin,
    /// The less busy of two at random.
    LeastRequest,
    /// Any.
    Random,
    /// The same for the same key, as long as the endpoints are the same.
    ConsistentHash(HashKey),
}

/// Hash key: the part of a request that decides about its endpoint. A request without it
/// goes anywhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HashKey {
    /// The value of a header.
    Header(HeaderName),
    /// The value of a cookie, which the proxy sets when the client has none.
    Cookie {
        /// Name of the cookie.
        name: Arc<str>,
        /// `Max-Age` of the cookie; as long as the client runs when `None`.
        lifetime: Option<Duration>,
    },
    /// The client's address.
    Source,
}

/// Preference for near endpoints. Others are used as far as the preferred ones are missing
/// or ejected.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LocalityPreference {
    /// None: all are equal.
    #[default]
    Any,
    /// Those of the client's zone, then those of its region.
    Zone,
    /// Those of the client's node, then of its zone, then of its region.
    Node,
}

/// Limits on what is under way to a Service from one client workload; no limit where
/// `None`. What is over a limit is refused at once.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    /// Number of connections that carry no requests (TCP).
    pub connections: Option<u32>,
    /// Number of requests that were sent and not answered to the end.
    pub requests: Option<u32>,
    /// Number of requests that wait for a connection.
    pub pending_requests: Option<u32>,
}
