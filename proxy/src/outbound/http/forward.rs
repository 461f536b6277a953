//! Sending a request: endpoint after endpoint, attempt after attempt, as far as it is safe
//! and wanted.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use http::Response;
use hyper::body::Incoming;
use weft_model::mesh::Candidate;
use weft_model::route::Retry;

use super::attempt::{Attempted, attempt};
use super::exchange::Exchange;
use super::plan::PlannedRequest;
use super::policy::RequestPolicies;
use super::retry::{AttemptBudget, AttemptError, RetryDecision, backoff};
use super::route::Destination;
use super::session::Cookie;
use crate::http::body::{Completion, RequestBodySource};
use crate::http::local_reply::{LocalReply, is_for_pending_keys};
use crate::telemetry::ResponseFlag;
use crate::traffic::{EndpointAttempt, OutcomeReport, PolicyRefusal, RequestPermits};
use crate::upstream::ErrorSource;

/// A response that began.
#[derive(Debug)]
pub(super) struct Forwarded {
    pub(super) response: Response<Incoming>,
    /// The endpoint that answered.
    pub(super) candidate: Candidate,
    /// The cookie that brings the client back to it.
    pub(super) cookie: Option<Cookie>,
    /// When all of the response has to be there.
    pub(super) deadline: Option<Instant>,
    /// What ends together with the response.
    pub(super) completion: Completion,
}

/// What happens instead of a response.
#[derive(Debug)]
pub(super) enum NoResponse {
    /// The client gets this reply.
    Reply(LocalReply),
    /// The client's side had ended, and the server broke off: nobody waits any more, or sees
    /// the connection end as without a proxy.
    ClientLeft,
}

impl From<LocalReply> for NoResponse {
    fn from(reply: LocalReply) -> Self {
        Self::Reply(reply)
    }
}

/// Sends a request until there is a response that counts.
///
/// # Errors
/// When there is none.
pub(super) async fn forward(
    exchange: &mut Exchange,
    request: &PlannedRequest<'_>,
    body: &mut RequestBodySource,
    mut permits: RequestPermits,
) -> Result<Forwarded, NoResponse> {
    let (policies, destination) = (request.policies, request.destination);
    let connect_attempts = exchange.connection.pod.node.settings.connect_attempts;
    let mut budget = AttemptBudget::new(request.attempts.retry, connect_attempts);
    let (key, cookie) = policies.hash_key(exchange, request.outgoing);
    let mut tried = Vec::new();
    loop {
        let chosen = choose_endpoint(exchange, policies, destination, key, &tried);
        let candidate = chosen.ok_or(LocalReply::ConnectFailed(ResponseFlag::Connect))?;
        let info = exchange
            .connection
            .info(&exchange.mesh, Some(candidate), &destination.service);
        exchange.record.attempt_started(info);
        let began = Instant::now();
        let deadline = request.attempts.attempt_deadline(began);
        let at_endpoint = policies.endpoints().begin_attempt(candidate.address, began);
        let reuse = budget.reuse(body.is_kept());
        let result = within(
            deadline,
            pin!(attempt(exchange, request, candidate, body, reuse)),
        )
        .await;
        let decision = match result {
            Ok(attempted) if is_final(&attempted, request.attempts.retry, &budget, body) => {
                let (candidate, grpc) = (candidate.clone(), exchange.info.grpc);
                let (response, mut completion) = accept(attempted, permits, at_endpoint, grpc);
                completion.client = exchange.client_end().cloned();
                completion.response_break = exchange.response_break().cloned();
                return Ok(Forwarded {
                    response,
                    candidate,
                    cookie,
                    deadline,
                    completion,
                });
            }
            Ok(attempted) => {
                let success = !attempted.response.status().is_server_error();
                at_endpoint.record_result(success, Instant::now());
                attempted.discard();
                RetryDecision::IfAllowed(LocalReply::UpstreamReset)
            }
            Err(AttemptError::ClientLeft) => return Err(NoResponse::ClientLeft),
            Err(error) => {
                if error.error_source() == ErrorSource::Upstream {
                    at_endpoint.record_result(false, Instant::now());
                }
                tracing::debug!(?error, to = %candidate.address, "an attempt failed");
                budget.after(&error, &request.outgoing.method, body.is_whole())
            }
        };
        drop(at_endpoint);
        tried.push(candidate.address);
        before_next_attempt(decision, request, &mut budget, body, &mut permits).await?;
    }
}

/// Whether a response counts: it isn't one that is worth another attempt, or there is none.
fn is_final(
    attempted: &Attempted,
    retry: Option<&Retry>,
    budget: &AttemptBudget,
    body: &RequestBodySource,
) -> bool {
    let status = attempted.response.status();
    let retried = retry.is_some_and(|retry| retry.codes.contains(&status));
    !retried || budget.retries == 0 || !body.is_whole()
}

/// The response that counts, with what ends together with it.
fn accept(
    attempted: Attempted,
    permits: RequestPermits,
    at_endpoint: EndpointAttempt,
    grpc: bool,
) -> (Response<Incoming>, Completion) {
    let Attempted {
        response,
        mut lease,
        receiving,
        under_way,
        gate,
    } = attempted;
    let mut outcome = OutcomeReport::new(permits, at_endpoint, grpc);
    match is_for_pending_keys(response.headers()) {
        // Whoever sends such tokens would have endpoints ejected for the whole node.
        true => outcome.succeeded(),
        false => outcome.response_started(response.status(), response.headers()),
    }
    let completion = Completion {
        response_end: lease.take_response_end(),
        lease: Some(lease),
        outcome: Some(outcome),
        receiving,
        under_way,
        client: None,
        response_break: None,
        gate,
        // The lease has it.
        memory: None,
    };
    (response, completion)
}

/// Waits before the next attempt, where there is to be one.
///
/// # Errors
/// The reply to the client, where there is none: the request has failed.
async fn before_next_attempt(
    decision: RetryDecision,
    request: &PlannedRequest<'_>,
    budget: &mut AttemptBudget,
    body: &RequestBodySource,
    permits: &mut RequestPermits,
) -> Result<(), LocalReply> {
    let retried = match decision {
        RetryDecision::AtOnce => return Ok(()),
        RetryDecision::Never(reply) => return Err(reply),
        RetryDecision::IfAllowed(reply) if budget.retries == 0 || !body.is_whole() => Err(reply),
        RetryDecision::IfAllowed(_) => before_retry(request, budget).await,
    };
    retried.inspect_err(|_| permits.record_failure())
}

/// Takes one retry from the budgets and waits as long as it asks for.
async fn before_retry(
    request: &PlannedRequest<'_>,
    budget: &mut AttemptBudget,
) -> Result<(), LocalReply> {
    if !request.policies.retry_allowed() {
        return Err(LocalReply::PolicyRefused(PolicyRefusal::RetryBudget));
    }
    budget.retries -= 1;
    let (shortest, attempts) = match request.attempts.retry {
        Some(retry) => (retry.backoff, retry.attempts),
        None => (Duration::ZERO, 0),
    };
    let wait = backoff(shortest, attempts - budget.retries, fastrand::f64());
    let deadline = request.attempts.deadline;
    if deadline.is_some_and(|deadline| Instant::now() + wait >= deadline) {
        return Err(LocalReply::Timeout);
    }
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    Ok(())
}

/// The endpoint that the client has logged in to, or that of the session, else the one that
/// the policy chooses.
fn choose_endpoint<'a>(
    exchange: &Exchange,
    policies: &RequestPolicies,
    destination: &'a Destination,
    key: Option<u64>,
    tried: &[SocketAddr],
) -> Option<&'a Candidate> {
    let (endpoints, now) = (policies.endpoints(), Instant::now());
    let candidates = &destination.candidates;
    let logged_in = exchange.bound().and_then(|bound| {
        let mut addresses = candidates.iter().map(|candidate| candidate.address);
        addresses.find(|address| bound.any(|own| own.address() == *address))
    });
    let bound = logged_in
        .or(destination.session_endpoint)
        .filter(|address| !tried.contains(address) && !endpoints.is_ejected(*address, now));
    if let Some(bound) = bound {
        return candidates.iter().find(|c| c.address == bound);
    }
    candidates.get(endpoints.choose(candidates, key, tried, now)?)
}

/// The attempt stays where it is: it is large, and would be copied.
async fn within<T>(
    deadline: Option<Instant>,
    attempt: Pin<&mut impl Future<Output = Result<T, AttemptError>>>,
) -> Result<T, AttemptError> {
    match deadline {
        None => attempt.await,
        Some(deadline) => tokio::time::timeout_at(deadline.into(), attempt)
            .await
            .unwrap_or(Err(AttemptError::Timeout)),
    }
}
