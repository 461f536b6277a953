//! What a TrafficPolicy says of a Service: which endpoint a request goes to, how much
//! may be under way, and what happens when something fails.
//!
//! Mostly types; what follows from them is decided by [`crate::balance`],
//! [`crate::breaker`], [`crate::ejection`], [`crate::budget`] and [`crate::bucket`].

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, StatusCode};

use crate::route::{Retry, Timeouts};
use crate::service::NamespacedName;

/// The policy of one Service. Where nothing is said, nothing is limited, and endpoints
/// are chosen by latency and load.
#[derive(Clone, Debug, PartialEq)]
pub struct TrafficPolicy {
    /// The Service that it is of; it has one at most.
    pub service: NamespacedName,
    /// How an endpoint is chosen.
    pub balancer: Balancer,
    /// Which endpoints are preferred for where they are.
    pub locality: LocalityPreference,
    /// How long a new endpoint takes to get its whole share; at once when `None`.
    pub slow_start: Option<Duration>,
    /// How much may be under way, for each client workload.
    pub limits: Limits,
    /// When requests are refused because too many failed.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// When an endpoint gets no requests for a while.
    pub outlier_detection: Option<OutlierDetection>,
    /// How many of the requests may be retries; [`RetryBudget::default`] when `None`.
    pub retry_budget: Option<RetryBudget>,
    /// When requests are tried again where no route says so.
    pub retry: Option<Retry>,
    /// How long requests may take where no route says so.
    pub timeouts: Timeouts,
    /// What fails on purpose.
    pub faults: Vec<Fault>,
    /// How often each client workload may ask, as its own proxy counts.
    pub local_rate_limit: Option<LocalRateLimit>,
    /// How often all clients together may ask, as a rate limit service counts.
    pub global_rate_limit: Option<GlobalRateLimit>,
}

impl TrafficPolicy {
    /// A policy that says nothing.
    pub fn new(service: NamespacedName) -> Self {
        Self {
            service,
            balancer: Balancer::default(),
            locality: LocalityPreference::default(),
            slow_start: None,
            limits: Limits::default(),
            circuit_breaker: None,
            outlier_detection: None,
            retry_budget: None,
            retry: None,
            timeouts: Timeouts::default(),
            faults: Vec::new(),
            local_rate_limit: None,
            global_rate_limit: None,
        }
    }

    /// What happens on purpose to one request. `draw` gives a number from 0 up to 1 for
    /// each fault; of several of a sort the first that is drawn counts.
    pub fn draw_fault(&self, mut draw: impl FnMut() -> f64) -> InjectedFault {
        let mut injected = InjectedFault::default();
        for fault in &self.faults {
            if draw() * 100.0 >= fault.percent {
                continue;
            }
            match fault.kind {
                FaultKind::Delay(delay) => injected.delay = injected.delay.or(Some(delay)),
                FaultKind::Abort(status) => {
                    injected.abort = injected.abort.or(Some(InjectedAbort::Http(status)));
                }
                FaultKind::AbortGrpc(status) => {
                    injected.abort = injected.abort.or(Some(InjectedAbort::Grpc(status)));
                }
            }
        }
        injected
    }
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Balancer {
    /// The better of two at random, by latency and load.
    #[default]
    Ewma,
    /// One after the other.
    RoundRobin,
    /// The less busy of two at random.
    LeastRequest,
    /// Any.
    Random,
    /// Always the same for the same key, as long as the endpoints are.
    ConsistentHash(HashKey),
}

/// What of a request decides about its endpoint. A request without it goes anywhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HashKey {
    /// The value of a header.
    Header(HeaderName),
    /// The value of a cookie, which the proxy gives out when the client has none.
    Cookie {
        /// Its name.
        name: Arc<str>,
        /// Its `Max-Age`; as long as the client runs when `None`.
        lifetime: Option<Duration>,
    },
    /// The client's address.
    Source,
}

/// Which endpoints are preferred for where they are. Others are used as far as the
/// preferred ones are missing or ejected.
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

/// How much may be under way to a Service from one client workload; no limit where
/// `None`. What is over a limit is refused at once.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    /// Connections that carry no requests (TCP).
    pub connections: Option<u32>,
    /// Requests that were sent and not answered to the end.
    pub requests: Option<u32>,
    /// Requests that wait for a connection.
    pub pending_requests: Option<u32>,
}

/// When requests are refused because too many failed: closed, then open for a while,
/// then half open, when a few are let through to see.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CircuitBreaker {
    /// Failures in a row that open it; not looked at when `None`.
    pub consecutive_failures: Option<u32>,
    /// Share of failures in the window that opens it, 0 to 1; not looked at when `None`.
    pub failure_ratio: Option<f64>,
    /// Requests that a window needs before its ratio counts.
    pub minimum_requests: u32,
    /// The window of the ratio.
    pub window: Duration,
    /// How long it stays open.
    pub open_for: Duration,
    /// Requests that are let through when half open; as many successes close it.
    pub probes: u32,
}

/// When an endpoint gets no requests for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierDetection {
    /// Failures in a row that eject it; not looked at when `None`.
    pub consecutive_failures: Option<u32>,
    /// Share of failures in the window that ejects it, 0 to 1; not looked at when `None`.
    pub failure_ratio: Option<f64>,
    /// Requests that a window needs before its ratio counts.
    pub minimum_requests: u32,
    /// The window of the ratio.
    pub window: Duration,
    /// How long it is ejected the first time; as much longer each further time.
    pub base_ejection: Duration,
    /// How long it is ejected at the most.
    pub max_ejection: Duration,
    /// Share of the endpoints that may be ejected at once, in percent.
    pub max_ejected_percent: u8,
}

/// How many of the requests may be retries (GEP-3388).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RetryBudget {
    /// Share of the requests of the last interval, in percent.
    pub percent: u8,
    /// The interval.
    pub interval: Duration,
    /// Retries a second that are always allowed.
    pub minimum_per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            percent: 20,
            interval: Duration::from_secs(10),
            minimum_per_second: 10,
        }
    }
}

/// Something that fails on purpose.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// To how many of the requests, 0 to 100.
    pub percent: f64,
}

/// What happens to a request on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultKind {
    /// It waits before it is sent.
    Delay(Duration),
    /// It is answered with this status.
    Abort(StatusCode),
    /// It is answered with this gRPC status.
    AbortGrpc(u16),
}

/// What happens on purpose to one request: it waits first, and is answered then.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct InjectedFault {
    /// How long it waits before anything else happens.
    pub delay: Option<Duration>,
    /// What it is answered with instead of being sent.
    pub abort: Option<InjectedAbort>,
}

/// What a request is answered with on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InjectedAbort {
    /// An HTTP status.
    Http(StatusCode),
    /// A gRPC status.
    Grpc(u16),
}

/// A token bucket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocalRateLimit {
    /// Requests in each interval.
    pub requests: u32,
    /// The interval.
    pub interval: Duration,
    /// Requests that may come at once.
    pub burst: u32,
}

/// What a rate limit service is asked before a request is sent
/// (`envoy.service.ratelimit.v3`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GlobalRateLimit {
    /// Where it is: a Service and its port; the control plane's own when `None`.
    pub server: Option<(NamespacedName, u16)>,
    /// The domain of the limits.
    pub domain: Arc<str>,
    /// One list of pairs each; the request is refused when any of them is over its limit.
    /// A request that lacks what an entry is made of isn't asked about with that list.
    pub descriptors: Vec<Vec<DescriptorEntry>>,
    /// The limit of each list where the server shall not need to know it; as the server
    /// is set up when `None`.
    pub limit: Option<LocalRateLimit>,
    /// How long the server may take.
    pub timeout: Duration,
    /// Whether requests are let through when it doesn't answer.
    pub fail_open: bool,
}

/// One pair of a descriptor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DescriptorEntry {
    /// The same for all requests.
    Generic {
        /// Key.
        key: Arc<str>,
        /// Value.
        value: Arc<str>,
    },
    /// The value of a header.
    Header {
        /// Key.
        key: Arc<str>,
        /// Whose value.
        header: HeaderName,
    },
    /// `source_identity`: the client's SPIFFE ID, so that each client has its own count.
    SourceIdentity,
    /// `path`: the request's path, without query.
    Path,
    /// `method`: the request's method.
    Method,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faulty(faults: &[(FaultKind, f64)]) -> TrafficPolicy {
        let fault = |(kind, percent): &(FaultKind, f64)| Fault {
            kind: *kind,
            percent: *percent,
        };
        TrafficPolicy {
            faults: faults.iter().map(fault).collect(),
            ..TrafficPolicy::new(NamespacedName::new("shop", "web"))
        }
    }

    #[test]
    fn a_fault_hits_its_share_of_the_requests() {
        let policy = faulty(&[(FaultKind::Abort(StatusCode::IM_A_TEAPOT), 25.0)]);
        let hit = |draw: f64| policy.draw_fault(|| draw).abort.is_some();
        assert!(hit(0.0) && hit(0.249));
        assert!(!hit(0.25) && !hit(0.99));
        let never = faulty(&[(FaultKind::AbortGrpc(14), 0.0)]);
        assert_eq!(never.draw_fault(|| 0.0), InjectedFault::default());
        let always = faulty(&[(FaultKind::AbortGrpc(14), 100.0)]);
        assert_eq!(
            always.draw_fault(|| 0.999_999).abort,
            Some(InjectedAbort::Grpc(14))
        );
    }

    #[test]
    fn a_request_may_wait_and_be_answered_then() {
        let second = Duration::from_secs(1);
        let policy = faulty(&[
            (FaultKind::Delay(second), 100.0),
            (FaultKind::Delay(second * 2), 100.0),
            (FaultKind::AbortGrpc(14), 100.0),
            (FaultKind::Abort(StatusCode::BAD_GATEWAY), 100.0),
        ]);
        let injected = policy.draw_fault(|| 0.5);
        assert_eq!(injected.delay, Some(second));
        assert_eq!(injected.abort, Some(InjectedAbort::Grpc(14)));
    }
}
