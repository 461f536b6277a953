//! Sending a request: endpoint after endpoint, attempt after attempt, as far as it is
//! safe and wanted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use hyper::body::Incoming;
use weft_model::mesh::Candidate;

use super::Downstream;
use super::answer::Answer;
use super::body::OutgoingBody;
use super::exchange::{Destination, Patience};
use super::filters::Outgoing;
use super::message::{self, Asked};
use super::policy::{Outcome, Permits, Policies};
use super::pool::{Lease, Target};
use super::recorder::Recorder;
use super::session;
use crate::error::OutboundError;
use crate::net::Net;
use crate::resilience::{Refused, Upstream};
use crate::telemetry::flag::ResponseFlag;

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
    /// What the client is to send from now on, so that it comes to the same endpoint.
    pub(super) cookie: Option<session::Cookie>,
    /// Tells the policies how it goes on.
    pub(super) outcome: Outcome,
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
    /// As many wait for a connection as may.
    Refused(Refused),
}

/// Sends a request until there is a response that counts.
///
/// # Errors
/// The answer that the client gets instead.
#[allow(
    clippy::too_many_arguments,
    reason = "what was decided about one request, each thing by its name"
)]
pub(super) async fn forward<N: Net>(
    downstream: &Arc<Downstream<N>>,
    asked: &Asked,
    outgoing: &Outgoing,
    destination: &Destination,
    patience: &Patience<'_>,
    policies: &Policies,
    body: &mut OutgoingBody,
    mut permits: Permits,
    recorder: &mut Recorder,
) -> Result<Forwarded, Answer> {
    let mut left = Left {
        retries: patience.retry.map_or(0, |retry| retry.attempts),
        connects: downstream.shared.settings.attempts.max(1),
        stale: 2,
    };
    let (key, cookie) = policies.key(downstream, outgoing);
    let mut tried = Vec::new();
    loop {
        let chosen = choose_endpoint(policies, destination, key, &tried);
        let candidate = chosen.ok_or(Answer::Unreachable {
            flag: ResponseFlag::Connect,
        })?;
        recorder.connection = downstream.describe(Some(candidate), &destination.service);
        recorder.attempts += 1;
        let deadline = attempt_deadline(patience);
        let way = policies.endpoints();
        let now = way.attempt(candidate.address, Instant::now());
        let sent = attempt(
            downstream,
            asked,
            outgoing,
            destination,
            candidate,
            way,
            body,
        );
        let again = match within(deadline, sent).await {
            Ok((response, lease)) => {
                let status = response.status();
                let mut retried = patience.retry.into_iter();
                let wanted = retried.any(|retry| retry.codes.contains(&status));
                if !wanted || left.retries == 0 || !body.is_whole() {
                    let mut outcome = Outcome::new(permits, now, asked.grpc);
                    outcome.head(status, response.headers());
                    return Ok(Forwarded {
                        response,
                        candidate: candidate.clone(),
                        lease,
                        deadline,
                        cookie,
                        outcome,
                    });
                }
                now.answered(!status.is_server_error(), Instant::now());
                Again::Retry(Answer::Broken)
            }
            Err(failed) => {
                if failed.is_of_endpoint() {
                    now.answered(false, Instant::now());
                }
                left.after(failed, &outgoing.method, body)
            }
        };
        drop(now);
        tried.push(candidate.address);
        match again {
            Again::AtOnce => {}
            Again::Never(answer) => return Err(answer),
            Again::Retry(answer) if left.retries == 0 || !body.is_whole() => {
                permits.failed();
                return Err(answer);
            }
            Again::Retry(_) => {
                if !policies.retry_allowed() {
                    permits.failed();
                    return Err(Answer::Refused(Refused::RetryBudget));
                }
                left.retries -= 1;
                let retried = patience.retry.map_or(0, |retry| retry.attempts) - left.retries;
                let backoff = patience.retry.map_or(Duration::ZERO, |retry| retry.backoff);
                wait(backoff, retried, patience.deadline).await?;
            }
        }
    }
}

/// What follows a failed attempt.
enum Again {
    /// Another attempt, which costs nothing.
    AtOnce,
    /// Another attempt where one is left and within the budget, else this answer.
    Retry(Answer),
    /// This answer.
    Never(Answer),
}

/// Attempts that are left.
struct Left {
    /// That the route or the policy asks for.
    retries: u32,
    /// Of which nothing was sent: another endpoint is always safe.
    connects: usize,
    /// Pooled connections may be closed by the other end at any moment.
    stale: u32,
}

impl Left {
    fn after(&mut self, failed: Failed, method: &Method, body: &OutgoingBody) -> Again {
        match failed {
            Failed::Connect(error) => {
                tracing::debug!(%error, "trying another endpoint");
                self.connects = self.connects.saturating_sub(1);
                match self.connects {
                    0 => Again::Retry(Answer::Unreachable { flag: error.flag() }),
                    _ => Again::AtOnce,
                }
            }
            Failed::Unsent if self.stale > 0 => {
                self.stale -= 1;
                Again::AtOnce
            }
            // The other end closed an idle connection just as the request was sent; what
            // doesn't change anything may be sent again (RFC 9110 section 9.2.2).
            Failed::Broken { reused: true }
                if self.stale > 0 && method.is_safe() && matches!(body, OutgoingBody::Empty) =>
            {
                self.stale -= 1;
                Again::AtOnce
            }
            Failed::Unsent | Failed::Broken { .. } => Again::Retry(Answer::Broken),
            Failed::Timeout => Again::Retry(Answer::Timeout),
            Failed::Refused(refused) => Again::Never(refused.into()),
        }
    }
}

impl Failed {
    fn is_of_endpoint(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_of_endpoint(),
            Self::Broken { reused } => !reused,
            Self::Timeout => true,
            Self::Unsent | Self::Refused(_) => false,
        }
    }
}

/// The endpoint of the session, else the one that the policy chooses.
fn choose_endpoint<'a>(
    policies: &Policies,
    destination: &'a Destination,
    key: Option<u64>,
    tried: &[SocketAddr],
) -> Option<&'a Candidate> {
    let (way, now) = (policies.endpoints(), Instant::now());
    let candidates = &destination.candidates;
    let bound = destination
        .bound
        .filter(|address| !tried.contains(address) && !way.is_ejected(*address, now));
    if let Some(bound) = bound {
        return candidates.iter().find(|c| c.address == bound);
    }
    candidates.get(way.choose(candidates, key, tried, now)?)
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
    way: &Upstream,
    body: &mut OutgoingBody,
) -> Result<(Response<Incoming>, Lease), Failed> {
    let Downstream {
        shared,
        pod,
        client,
        ..
    } = &**downstream;
    let target = Target {
        service: &destination.service,
        port: destination.port,
        candidate,
        http2: destination.http2,
    };
    let pool = &pod.http.pool;
    let mut lease = match pool.waiting(target) {
        Some(lease) => lease,
        None => {
            let _pending = way.admit_pending().map_err(Failed::Refused)?;
            let leased = pool.lease(shared, pod, target, *client).await;
            leased.map_err(Failed::Connect)?
        }
    };
    let reused = lease.is_reused();
    let body_now = body.take().ok_or(Failed::Broken { reused: false })?;
    let request = request(asked, outgoing, destination.http2, body_now);
    let request = request.map_err(|_| Failed::Broken { reused: false })?;
    match lease.send(request).await {
        Ok(response) => Ok((response, lease)),
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
