//! Sending a request: endpoint after endpoint, attempt after attempt, as far as it is
//! safe and wanted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use hyper::body::Incoming;
use weft_model::balance::choose;
use weft_model::mesh::Candidate;

use super::Downstream;
use super::answer::Answer;
use super::exchange::{Destination, OutgoingBody, Patience};
use super::filters::Outgoing;
use super::message::{self, Asked};
use super::pool::{Lease, Target};
use super::record::Recorder;
use crate::balance::InFlight;
use crate::error::OutboundError;
use crate::net::Net;

/// Longest wait between two attempts.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// A response that began.
pub(super) struct Forwarded {
    pub(super) response: Response<Incoming>,
    /// Who answered.
    pub(super) candidate: Candidate,
    pub(super) lease: Lease,
    /// When all of it has to be there.
    pub(super) deadline: Option<Instant>,
}

/// How an attempt failed.
enum Failed {
    /// Nobody took a connection; nothing was sent.
    Connect(OutboundError),
    /// The pooled connection was closed before anything was sent.
    Unsent,
    /// The connection broke after something was sent.
    Broken {
        /// It was used before.
        reused: bool,
    },
    /// It took too long.
    Timeout,
}

/// Sends a request until there is a response that counts.
///
/// # Errors
/// The answer that the client gets instead.
pub(super) async fn forward<N: Net>(
    downstream: &Arc<Downstream<N>>,
    asked: &Asked,
    outgoing: &Outgoing,
    destination: &Destination,
    patience: &Patience<'_>,
    mut body: OutgoingBody,
    recorder: &mut Recorder,
) -> Result<Forwarded, Answer> {
    let mut retries = patience.retry.map_or(0, |retry| retry.attempts);
    // Nothing was sent: another endpoint is always safe.
    let mut connects = downstream.shared.settings.attempts.max(1);
    // A pooled connection may be closed by the other end at any moment.
    let mut stale = 2;
    let mut tried = Vec::new();
    loop {
        let chosen = choose_endpoint(downstream, destination, &tried);
        let candidate = chosen.ok_or(Answer::Unreachable { flag: "CONNECT" })?;
        recorder.connection = downstream.describe(Some(candidate), &destination.service);
        recorder.attempts += 1;
        let deadline = attempt_deadline(patience);
        let attempt = attempt(
            downstream,
            asked,
            outgoing,
            destination,
            candidate,
            &mut body,
        );
        let result = within(deadline, attempt).await;
        let again = match result {
            Ok((response, lease)) => {
                let status = response.status();
                let wanted = patience.retry.filter(|retry| retry.codes.contains(&status));
                if wanted.is_none() || retries == 0 || !body.is_whole() {
                    return Ok(Forwarded {
                        response,
                        candidate: candidate.clone(),
                        lease,
                        deadline,
                    });
                }
                Again::Retry
            }
            Err(failed) => after(failed, &outgoing.method, &body, &mut connects, &mut stale)?,
        };
        tried.push(candidate.address);
        if tried.len() >= destination.candidates.len() {
            tried.clear();
        }
        match again {
            Again::AtOnce => {}
            Again::Retry | Again::RetryOr(_) if retries > 0 && body.is_whole() => {
                retries -= 1;
                let retried = patience.retry.map_or(0, |retry| retry.attempts) - retries;
                let backoff = patience.retry.map_or(Duration::ZERO, |retry| retry.backoff);
                wait(backoff, retried, patience.deadline).await?;
            }
            Again::RetryOr(answer) => return Err(answer),
            Again::Retry => return Err(Answer::Broken),
        }
    }
}

/// What follows a failed attempt.
enum Again {
    /// Another attempt, which costs nothing.
    AtOnce,
    /// Another attempt, where there is one left.
    Retry,
    /// The same, else this answer.
    RetryOr(Answer),
}

fn after(
    failed: Failed,
    method: &Method,
    body: &OutgoingBody,
    connects: &mut usize,
    stale: &mut u32,
) -> Result<Again, Answer> {
    match failed {
        Failed::Connect(error) => {
            tracing::debug!(%error, "trying another endpoint");
            *connects -= 1;
            let answer = Answer::Unreachable { flag: error.flag() };
            match *connects {
                0 => Ok(Again::RetryOr(answer)),
                _ => Ok(Again::AtOnce),
            }
        }
        Failed::Unsent if *stale > 0 => {
            *stale -= 1;
            Ok(Again::AtOnce)
        }
        // The other end closed an idle connection just as the request was sent; what
        // doesn't change anything may be sent again (RFC 9110 section 9.2.2).
        Failed::Broken { reused: true }
            if *stale > 0 && method.is_safe() && matches!(body, OutgoingBody::Empty) =>
        {
            *stale -= 1;
            Ok(Again::AtOnce)
        }
        Failed::Unsent | Failed::Broken { .. } => Ok(Again::RetryOr(Answer::Broken)),
        Failed::Timeout => Ok(Again::RetryOr(Answer::Timeout)),
    }
}

/// The endpoint of the session, else the best of those that were not tried.
fn choose_endpoint<'a, N>(
    downstream: &Downstream<N>,
    destination: &'a Destination,
    tried: &[SocketAddr],
) -> Option<&'a Candidate> {
    let candidates = &destination.candidates;
    let bound = destination.bound.filter(|address| !tried.contains(address));
    if let Some(bound) = bound {
        return candidates.iter().find(|c| c.address == bound);
    }
    let left: Vec<_> = candidates
        .iter()
        .filter(|candidate| !tried.contains(&candidate.address))
        .collect();
    let loads = &downstream.shared.loads;
    let load = |index: usize| loads.of(left[index].address).load();
    let chosen = choose(left.len(), load, |below| fastrand::usize(..below))?;
    left.get(chosen).copied()
}

fn attempt_deadline(patience: &Patience<'_>) -> Option<Instant> {
    let attempt = patience.attempt.map(|limit| Instant::now() + limit);
    match (attempt, patience.deadline) {
        (Some(attempt), Some(all)) => Some(attempt.min(all)),
        (attempt, all) => attempt.or(all),
    }
}

async fn within<T>(
    deadline: Option<Instant>,
    attempt: impl Future<Output = Result<T, Failed>>,
) -> Result<T, Failed> {
    match deadline {
        None => attempt.await,
        Some(deadline) => tokio::time::timeout_at(deadline.into(), attempt)
            .await
            .unwrap_or(Err(Failed::Timeout)),
    }
}

/// Waits before another attempt: twice as long each time, and not all at once.
async fn wait(backoff: Duration, retried: u32, deadline: Option<Instant>) -> Result<(), Answer> {
    let doubled = backoff.saturating_mul(1 << retried.saturating_sub(1).min(16));
    let longest = doubled.min(LONGEST_BACKOFF.max(backoff));
    let wait = longest.mul_f64(0.75 + fastrand::f64() / 2.0);
    if deadline.is_some_and(|deadline| Instant::now() + wait >= deadline) {
        return Err(Answer::Timeout);
    }
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    Ok(())
}

async fn attempt<N: Net>(
    downstream: &Arc<Downstream<N>>,
    asked: &Asked,
    outgoing: &Outgoing,
    destination: &Destination,
    candidate: &Candidate,
    body: &mut OutgoingBody,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let Downstream {
        shared,
        pod,
        client,
        ..
    } = &**downstream;
    let load = shared.loads.of(candidate.address);
    let (began, _in_flight): (_, InFlight) = (Instant::now(), load.start());
    let target = Target {
        service: &destination.service,
        port: destination.port,
        candidate,
        http2: destination.http2,
    };
    let leased = pod.http.pool.lease(shared, pod, target, *client).await;
    let mut lease = leased.map_err(Failed::Connect)?;
    let reused = lease.is_reused();
    let body_now = body.take().ok_or(Failed::Broken { reused: false })?;
    let request = request(asked, outgoing, destination.http2, body_now);
    let request = request.map_err(|_| Failed::Broken { reused: false })?;
    match lease.send(request).await {
        Ok(response) => {
            load.observe(began.elapsed());
            Ok((response, lease))
        }
        Err(mut error) => match error.take_message() {
            Some(unsent) => {
                body.put_back(unsent.into_body());
                Err(Failed::Unsent)
            }
            None => {
                tracing::debug!(error = %error.error(), to = %candidate.address, "no response");
                Err(Failed::Broken { reused })
            }
        },
    }
}

/// The request as the next hop's version of HTTP has it.
pub(super) fn request(
    asked: &Asked,
    outgoing: &Outgoing,
    http2: bool,
    body: super::body::RequestBody,
) -> Result<Request<super::body::RequestBody>, message::NoAuthority> {
    let mut headers = outgoing.headers.clone();
    let (target, authority) = (&outgoing.target, outgoing.authority.as_str());
    let target = message::address(target, authority, asked.connect, &mut headers, http2)?;
    if let Some(protocol) = &asked.upgrade {
        message::restore_upgrade(&mut headers, protocol);
    }
    let mut request = Request::new(body);
    *request.method_mut() = outgoing.method.clone();
    *request.uri_mut() = target;
    *request.headers_mut() = headers;
    if let Some(protocol) = outgoing.protocol.as_ref().filter(|_| http2) {
        request.extensions_mut().insert(protocol.clone());
    }
    Ok(request)
}
