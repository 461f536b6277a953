//! What the TrafficPolicies of a request's Services say of it: that of the Service that
//! the client asked for, and that of the backend that a route chose for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, StatusCode};
use weft_model::Mesh;
use weft_model::hash::stable_hash;
use weft_model::route::{Retry, Timeouts};
use weft_model::traffic::rate_limit::RequestAttributes;
use weft_model::traffic::{GlobalRateLimit, HashKey, InjectedAbort, InjectedFault};

use super::answer::{Answer, TooOften};
use super::exchange::Destination;
use super::filters::Outgoing;
use super::{Downstream, connect, session};
use crate::net::Net;
use crate::rate_limit::{Passed, Verdict};
use crate::resilience::{Attempt, Permit, Upstream};

/// Statuses of gRPC that say that the server failed, not that the call was wrong:
/// UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const FAILURES: [u16; 5] = [2, 4, 13, 14, 15];

/// The policies of one request.
#[derive(Debug)]
pub(super) struct Policies {
    /// Of the Service that was asked for.
    asked: Upstream,
    /// Of the backend, where that is another.
    backend: Option<Upstream>,
}

impl Policies {
    /// As the mesh knows them now.
    pub(super) fn new<N: Net>(
        downstream: &Downstream<N>,
        mesh: &Mesh,
        destination: &Destination,
    ) -> Self {
        let Downstream { shared, pod, .. } = downstream;
        let now = Instant::now();
        let port = downstream.original.address().port();
        let (asked, backend) = (&downstream.service.key, &destination.service);
        let is_same = asked == backend && port == destination.port;
        let to_backend = || pod.upstream(shared, mesh, Some((backend, destination.port)), now);
        Self {
            asked: pod.upstream(shared, mesh, Some((asked, port)), now),
            backend: (!is_same).then(to_backend),
        }
    }

    /// What chooses the endpoint.
    pub(super) fn endpoints(&self) -> &Upstream {
        self.backend.as_ref().unwrap_or(&self.asked)
    }

    fn all(&self) -> impl Iterator<Item = &Upstream> {
        std::iter::once(&self.asked).chain(&self.backend)
    }

    /// What happens to the request on purpose; waits for it.
    ///
    /// # Errors
    /// The answer, where it is answered on purpose.
    pub(super) async fn inject_faults(&self) -> Result<(), Answer> {
        for way in self.all() {
            let InjectedFault { delay, abort } = way.inject();
            if let Some(delay) = delay {
                tokio::time::sleep(delay).await;
            }
            match abort {
                Some(InjectedAbort::Http(status)) => return Err(Answer::Fault(status)),
                Some(InjectedAbort::Grpc(status)) => return Err(Answer::GrpcFault(status)),
                None => {}
            }
        }
        Ok(())
    }

    /// A place under every limit.
    ///
    /// # Errors
    /// The answer, where there is none.
    pub(super) fn admit(&self) -> Result<Permits, Answer> {
        let now = Instant::now();
        let mut permits = Vec::with_capacity(2);
        for way in self.all() {
            permits.push(way.admit_request(now).map_err(Answer::from)?);
        }
        Ok(Permits(permits))
    }

    /// Whether one more retry is within every budget.
    pub(super) fn retry_allowed(&self) -> bool {
        let now = Instant::now();
        self.all().all(|way| way.retry_allowed(now))
    }

    /// How long it may take where no route says so.
    pub(super) fn timeouts(&self) -> Timeouts {
        let mut policies = self.all().filter_map(Upstream::policy);
        let said = |timeouts: &Timeouts| *timeouts != Timeouts::default();
        let timeouts = policies.find(|policy| said(&policy.timeouts));
        timeouts.map(|policy| policy.timeouts).unwrap_or_default()
    }

    /// When it is tried again where no route says so.
    pub(super) fn retry(&self) -> Option<&Retry> {
        let mut policies = self.all().filter_map(Upstream::policy);
        policies.find_map(|policy| policy.retry.as_ref())
    }

    /// Asks the rate limit services of the policies.
    ///
    /// # Errors
    /// The answer, where one of them says that it is too much.
    pub(super) async fn limit_rate<N: Net>(
        &self,
        downstream: &Arc<Downstream<N>>,
        mesh: &Arc<Mesh>,
        outgoing: &mut Outgoing,
    ) -> Result<HeaderMap, Answer> {
        let mut told = HeaderMap::new();
        for way in self.all() {
            let limit = way.policy().and_then(|p| p.global_rate_limit.as_ref());
            let Some(limit) = limit else { continue };
            let passed = ask(downstream, mesh, limit, outgoing).await?;
            outgoing.headers.extend(passed.request_headers);
            told.extend(passed.response_headers);
        }
        Ok(told)
    }

    /// The hash of what decides about the endpoint. A client without its cookie gets one,
    /// which the second part is.
    pub(super) fn key<N>(
        &self,
        downstream: &Downstream<N>,
        outgoing: &Outgoing,
    ) -> (Option<u64>, Option<session::Cookie>) {
        let way = self.endpoints();
        match way.hash_key() {
            None => (None, None),
            Some(HashKey::Source) => (way.key_of_source(downstream.client.ip()), None),
            Some(HashKey::Header(name)) => {
                let value = outgoing.headers.get(name);
                (value.map(|value| stable_hash(value.as_bytes())), None)
            }
            Some(HashKey::Cookie { name, lifetime }) => {
                match session::cookie(&outgoing.headers, name) {
                    Some(value) => (Some(stable_hash(value.as_bytes())), None),
                    None => {
                        let value = format!("{:016x}", fastrand::u64(..));
                        let key = stable_hash(value.as_bytes());
                        let (name, lifetime) = (Arc::clone(name), *lifetime);
                        let cookie = session::Cookie {
                            name,
                            value,
                            lifetime,
                        };
                        (Some(key), Some(cookie))
                    }
                }
            }
        }
    }
}

async fn ask<N: Net>(
    downstream: &Arc<Downstream<N>>,
    mesh: &Arc<Mesh>,
    limit: &GlobalRateLimit,
    outgoing: &Outgoing,
) -> Result<Passed, Answer> {
    let Downstream { shared, pod, .. } = &**downstream;
    let is_ipv4 = downstream.original.address().is_ipv4();
    let endpoints = &pod.http.endpoints;
    let servers = limit.server.as_ref().and_then(|(service, port)| {
        let servers = endpoints.candidates(mesh, &shared.node, (service, *port), is_ipv4);
        servers.ok()
    });
    let facts = RequestAttributes {
        source: Some(&pod.started_as.identity),
        method: &outgoing.method,
        path: outgoing.target.path(),
        headers: &outgoing.headers,
    };
    // Asked by the pod's proxy, for whichever of its connections.
    let client = SocketAddr::new(downstream.client.ip(), 0);
    let of_pod = (Arc::clone(shared), Arc::clone(pod));
    let connector = move |candidate| {
        let (shared, pod) = of_pod.clone();
        async move {
            let connected = connect::connect(&shared, &pod, &candidate, client).await;
            connected
                .map(|(stream, _)| stream)
                .map_err(std::io::Error::other)
        }
    };
    let servers = servers.as_deref().unwrap_or_default();
    let rate_limits = &pod.http.rate_limits;
    match rate_limits.check(limit, &facts, servers, connector).await {
        Verdict::Allowed(passed) => Ok(passed),
        Verdict::Limited(limited) => Err(Answer::RateLimited(Box::new(TooOften {
            retry_after: limited.retry_after,
            headers: limited.headers,
            body: limited.body,
        }))),
        Verdict::Unavailable(error) => {
            tracing::debug!(%error, fail_open = limit.fail_open, "rate limit not asked");
            match limit.fail_open {
                true => Ok(Passed::default()),
                false => Err(Answer::RateLimitUnavailable),
            }
        }
    }
}

/// A request's places under the limits; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permits(Vec<Permit>);

/// How a request and its last attempt went, told once to whoever learns from it. A
/// client that leaves first tells nothing.
#[derive(Debug)]
pub(crate) struct Outcome {
    permits: Permits,
    attempt: Attempt,
    grpc: bool,
    told: bool,
}

impl Outcome {
    /// Of a request whose response begins.
    pub(super) fn new(permits: Permits, attempt: Attempt, grpc: bool) -> Self {
        Self {
            permits,
            attempt,
            grpc,
            told: false,
        }
    }

    /// The response's head; of gRPC it tells only a failure of HTTP, or the whole response
    /// where that is nothing but a head.
    pub(super) fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        if self.grpc && status.is_success() {
            self.trailers(headers);
        } else {
            self.tell(!status.is_server_error());
        }
    }

    /// The response's trailers.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(status) = trailers.get("grpc-status") {
            let status = status
                .to_str()
                .ok()
                .and_then(|status| status.parse::<u16>().ok());
            self.tell(!status.is_none_or(|status| FAILURES.contains(&status)));
        }
    }

    /// The response broke.
    pub(crate) fn broke(&mut self) {
        self.tell(false);
    }

    fn tell(&mut self, success: bool) {
        if self.told {
            return;
        }
        self.told = true;
        let now = Instant::now();
        self.attempt.answered(success, now);
        self.permits.settle(success, now);
    }
}

impl Permits {
    /// The request failed before there was a response.
    pub(super) fn failed(&mut self) {
        self.settle(false, Instant::now());
    }

    fn settle(&mut self, success: bool, now: Instant) {
        for permit in &mut self.0 {
            permit.settle(success, now);
        }
    }
}
