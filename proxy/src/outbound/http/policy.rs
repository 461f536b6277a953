//! What the TrafficPolicies of a request's Services say of it: that of the Service that
//! the client asked for, and that of the backend that a route chose for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use weft_model::hash::stable_hash;
use weft_model::route::{Retry, Timeouts};
use weft_model::traffic::rate_limit::RequestAttributes;
use weft_model::traffic::{GlobalRateLimit, HashKey, InjectedFault};

use super::exchange::Exchange;
use super::route::Destination;
use super::session::Cookie;
use crate::http::cookie_value;
use crate::http::local_reply::{LocalReply, RateLimitReply};
use crate::http::outgoing::OutgoingRequest;
use crate::http::recorded_stream::RecordedStream;
use crate::rate_limit::{RateLimitDecision, RateLimitHeaders};
use crate::traffic::{RequestPermits, UpstreamService};

/// The policies of one request.
#[derive(Debug)]
pub(super) struct RequestPolicies {
    /// Of the Service that was asked for.
    requested: UpstreamService,
    /// Of the backend, where that is another.
    backend: Option<UpstreamService>,
}

impl RequestPolicies {
    /// The policies that the request's snapshot has.
    pub(super) fn new(exchange: &Exchange, destination: &Destination) -> Self {
        let (connection, mesh, now) = (&exchange.connection, &exchange.mesh, Instant::now());
        let requested = (&connection.service.key, connection.port);
        let backend = (&destination.service, destination.port);
        let pod = &connection.pod;
        let state = |service| pod.upstream_service(mesh, Some(service), now);
        Self {
            requested: state(requested),
            backend: (requested != backend).then(|| state(backend)),
        }
    }

    /// The state of the service whose endpoint is chosen.
    pub(super) fn endpoints(&self) -> &UpstreamService {
        self.backend.as_ref().unwrap_or(&self.requested)
    }

    fn all(&self) -> impl Iterator<Item = &UpstreamService> {
        std::iter::once(&self.requested).chain(&self.backend)
    }

    /// A permit under every limit.
    ///
    /// # Errors
    /// The reply to the client, where there is none.
    pub(super) fn admit(&self) -> Result<RequestPermits, LocalReply> {
        let now = Instant::now();
        let mut permits = Vec::with_capacity(2);
        for service in self.all() {
            permits.push(service.admit_request(now)?);
        }
        Ok(RequestPermits::new(permits))
    }

    /// Asks the rate limit services of the policies. Gives back the headers that they want
    /// on the response; those that they want on the request are added.
    ///
    /// # Errors
    /// The reply to the client, where one of them says that it is too much.
    pub(super) async fn check_rate_limits(
        &self,
        exchange: &Exchange,
        outgoing: &mut OutgoingRequest,
    ) -> Result<HeaderMap, LocalReply> {
        let mut response_headers = HeaderMap::new();
        for service in self.all() {
            let policy = service.policy();
            if let Some(limit) = policy.and_then(|policy| policy.global_rate_limit.as_ref()) {
                let headers = check_rate_limit(exchange, limit, outgoing).await?;
                outgoing.headers.extend(headers.request_headers);
                response_headers.extend(headers.response_headers);
            }
        }
        Ok(response_headers)
    }

    /// Delays or aborts the request, where the policies inject faults.
    ///
    /// # Errors
    /// The reply of an abort.
    pub(super) async fn inject_faults(&self) -> Result<(), LocalReply> {
        for service in self.all() {
            let InjectedFault { delay, abort } = service.inject_fault();
            if let Some(delay) = delay {
                tokio::time::sleep(delay).await;
            }
            if let Some(abort) = abort {
                return Err(LocalReply::InjectedAbort(abort));
            }
        }
        Ok(())
    }

    /// Whether one more retry is within every budget; it is counted when it is.
    pub(super) fn retry_allowed(&self) -> bool {
        let now = Instant::now();
        self.all().all(|service| service.try_retry(now))
    }

    /// How long a request may take where no route says so.
    pub(super) fn timeouts(&self) -> Timeouts {
        let mut policies = self.all().filter_map(UpstreamService::policy);
        let said = |timeouts: &Timeouts| *timeouts != Timeouts::default();
        let timeouts = policies.find(|policy| said(&policy.timeouts));
        timeouts.map(|policy| policy.timeouts).unwrap_or_default()
    }

    /// When a request is tried again where no route says so.
    pub(super) fn retry(&self) -> Option<&Retry> {
        let mut policies = self.all().filter_map(UpstreamService::policy);
        policies.find_map(|policy| policy.retry.as_ref())
    }

    /// The hash of what keeps requests on one endpoint. A client without its cookie gets
    /// one: the second part.
    pub(super) fn hash_key(
        &self,
        exchange: &Exchange,
        outgoing: &OutgoingRequest,
    ) -> (Option<u64>, Option<Cookie>) {
        let endpoints = self.endpoints();
        match endpoints.hash_key() {
            None => (None, None),
            Some(HashKey::Source) => {
                let client = exchange.connection.client.ip();
                (endpoints.source_hash(client), None)
            }
            Some(HashKey::Header(name)) => {
                let value = outgoing.headers.get(name);
                (value.map(|value| stable_hash(value.as_bytes())), None)
            }
            Some(HashKey::Cookie { name, lifetime }) => {
                if let Some(value) = cookie_value(&outgoing.headers, name) {
                    return (Some(stable_hash(value.as_bytes())), None);
                }
                let cookie = Cookie {
                    name: Arc::clone(name),
                    value: format!("{:016x}", fastrand::u64(..)),
                    lifetime: *lifetime,
                };
                (Some(stable_hash(cookie.value.as_bytes())), Some(cookie))
            }
        }
    }
}

async fn check_rate_limit(
    exchange: &Exchange,
    limit: &GlobalRateLimit,
    outgoing: &OutgoingRequest,
) -> Result<RateLimitHeaders, LocalReply> {
    let (connection, mesh) = (&exchange.connection, &exchange.mesh);
    let pod = &connection.pod;
    let is_ipv4 = connection.original.address().is_ipv4();
    let servers = limit.server.as_ref();
    let servers = servers.and_then(|(service, port)| {
        let candidates = pod.candidates(mesh, (service, *port), is_ipv4);
        candidates.ok()
    });
    let attributes = RequestAttributes {
        source: Some(&pod.started_as.identity),
        method: &outgoing.method,
        path: outgoing.target.path(),
        path_normalization: pod.workload(mesh).path_normalization,
        headers: &outgoing.headers,
    };
    // Asked by the pod's proxy, for whichever of its connections.
    let client = SocketAddr::new(connection.client.ip(), 0);
    let (dialling, source) = (Arc::clone(pod), pod.workload(mesh));
    let connect = move |candidate| {
        let (pod, source) = (Arc::clone(&dialling), Arc::clone(&source));
        async move {
            let connected = pod.dialer.dial(&candidate, &source, client, None).await;
            connected
                .map(RecordedStream::of_connection)
                .map_err(std::io::Error::other)
        }
    };
    let servers = servers.as_deref().unwrap_or_default();
    let decision = pod.rate_limits.check(limit, &attributes, servers, connect);
    match decision.await {
        RateLimitDecision::Allowed(headers) => Ok(headers),
        RateLimitDecision::Limited(limited) => {
            Err(LocalReply::RateLimited(Box::new(RateLimitReply {
                retry_after: limited.retry_after,
                headers: limited.headers,
                body: limited.body,
            })))
        }
        RateLimitDecision::Unavailable(error) => {
            tracing::debug!(%error, fail_open = limit.fail_open, "rate limit not checked");
            match limit.fail_open {
                true => Ok(RateLimitHeaders::default()),
                false => Err(LocalReply::RateLimitUnavailable),
            }
        }
    }
}
