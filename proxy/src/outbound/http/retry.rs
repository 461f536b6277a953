//! What follows from a failed attempt: decisions, and how long to wait. Pure.

use std::time::{Duration, Instant};

use http::Method;
use weft_model::request_authentication::TokenRefusal;
use weft_model::route::{Retry, Rule, Timeouts};

use super::policy::RequestPolicies;
use crate::http::local_reply::LocalReply;
use crate::http::pool::{LeaseError, Reuse};
use crate::telemetry::ResponseFlag;
use crate::traffic::PolicyRefusal;
use crate::upstream::ErrorSource;

/// Longest wait between two attempts.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// Attempts on connections that turn out to be closed, which cost nothing.
const STALE_CONNECTIONS: u32 = 2;

/// How long a request may take and when it is tried again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AttemptPolicy<'a> {
    /// When the whole response has to be there.
    pub(super) deadline: Option<Instant>,
    /// How long one attempt may take.
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) retry: Option<&'a Retry>,
}

impl<'a> AttemptPolicy<'a> {
    /// What the rule says counts, then what the policies say.
    pub(super) fn decide(
        began: Instant,
        rule: Option<&'a Rule>,
        policies: &'a RequestPolicies,
    ) -> Self {
        let of_rule = rule.map(|rule| rule.timeouts).unwrap_or_default();
        let Timeouts {
            request,
            backend_request,
        } = of_rule.limits_or(policies.timeouts());
        let retry = rule.and_then(|rule| rule.retry.as_ref());
        Self {
            deadline: request.map(|limit| began + limit),
            attempt_timeout: backend_request,
            retry: retry.or_else(|| policies.retry()),
        }
    }

    /// When an attempt that begins now has to be over.
    pub(super) fn attempt_deadline(&self, now: Instant) -> Option<Instant> {
        let attempt = self.attempt_timeout.map(|limit| now + limit);
        match (attempt, self.deadline) {
            (Some(attempt), Some(all)) => Some(attempt.min(all)),
            (attempt, all) => attempt.or(all),
        }
    }
}

/// How an attempt failed.
#[derive(Debug)]
pub(super) enum AttemptError {
    /// There was no connection; nothing was sent.
    Connect(LeaseError),
    /// The pooled connection was closed before anything was sent.
    Unsent,
    /// The server certainly did nothing with the request, though something of it was sent.
    Unprocessed,
    /// The connection broke after something was sent.
    Reset {
        /// It was used before, and broke without a byte of a response.
        was_idle: bool,
    },
    /// The head of the response can't be read, for that reason.
    BadResponse(ResponseFlag),
    /// It took too long.
    Timeout,
    /// As many requests wait for a connection as may.
    Refused(PolicyRefusal),
    /// The receiving pod's policies deny the request; nothing was sent.
    Denied,
    /// The receiving pod refuses the request's token; nothing was sent.
    InvalidToken(TokenRefusal),
    /// The connection broke after the client's side had ended.
    ClientLeft,
}

impl AttemptError {
    /// Whose failure it is.
    pub(super) fn error_source(&self) -> ErrorSource {
        match self {
            Self::Connect(LeaseError::Dial(error)) => error.error_source(),
            Self::Connect(LeaseError::Handshake(_) | LeaseError::Closed)
            | Self::BadResponse(_)
            | Self::Timeout => ErrorSource::Upstream,
            // A connection that waited may be closed by either end at any moment.
            Self::Reset { was_idle: false } => ErrorSource::Upstream,
            Self::Reset { was_idle: true }
            | Self::Unsent
            | Self::Unprocessed
            | Self::Refused(_)
            | Self::Denied
            | Self::InvalidToken(_)
            | Self::ClientLeft => ErrorSource::Local,
        }
    }
}

/// What follows a failed attempt.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RetryDecision {
    /// Another attempt, which costs nothing.
    AtOnce,
    /// Another attempt where one is left and within the budget, else this reply.
    IfAllowed(LocalReply),
    /// This reply.
    Never(LocalReply),
}

/// Attempts that are left for a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttemptBudget {
    /// Retries that the route or the policy asks for.
    pub(super) retries: u32,
    /// Attempts to connect: while nothing was sent, another endpoint is always safe.
    connects: usize,
    /// Attempts on connections that turn out to be closed.
    stale: u32,
}

impl AttemptBudget {
    /// The attempts of a request that was not sent yet.
    pub(super) fn new(retry: Option<&Retry>, connect_attempts: usize) -> Self {
        Self {
            retries: retry.map_or(0, |retry| retry.attempts),
            connects: connect_attempts.max(1),
            stale: STALE_CONNECTIONS,
        }
    }

    /// The connections that the next attempt may use again; `is_kept` says that the request's
    /// body could be sent once more after it.
    pub(super) fn reuse(&self, is_kept: bool) -> Reuse {
        match (self.stale < STALE_CONNECTIONS, is_kept) {
            (true, _) => Reuse::None,
            (false, true) => Reuse::Any,
            (false, false) => Reuse::JustUsed,
        }
    }

    /// Decides what follows a failed attempt of a request with that method; `is_whole` says
    /// that its body could be sent once more.
    pub(super) fn after(
        &mut self,
        error: &AttemptError,
        method: &Method,
        is_whole: bool,
    ) -> RetryDecision {
        match error {
            AttemptError::Connect(error) => {
                self.connects = self.connects.saturating_sub(1);
                match (self.connects, connect_flag(error)) {
                    (1.., _) => RetryDecision::AtOnce,
                    (0, flag @ ResponseFlag::AuthorizationDenied) => {
                        RetryDecision::Never(LocalReply::ConnectFailed(flag))
                    }
                    (0, flag) => RetryDecision::IfAllowed(LocalReply::ConnectFailed(flag)),
                }
            }
            AttemptError::Unsent if self.stale > 0 => {
                self.stale -= 1;
                RetryDecision::AtOnce
            }
            AttemptError::Unprocessed if self.stale > 0 && is_whole => {
                self.stale -= 1;
                RetryDecision::AtOnce
            }
            // The other end may have closed an idle connection just as the request was sent;
            // what is the same however often it is done may be sent again (RFC 9110 section
            // 9.2.2).
            AttemptError::Reset { was_idle: true }
                if self.stale > 0 && is_whole && method.is_idempotent() =>
            {
                self.stale -= 1;
                RetryDecision::AtOnce
            }
            AttemptError::Unsent
            | AttemptError::Unprocessed
            | AttemptError::Reset { .. }
            | AttemptError::ClientLeft => RetryDecision::IfAllowed(LocalReply::UpstreamReset),
            AttemptError::BadResponse(flag) => {
                RetryDecision::IfAllowed(LocalReply::BadResponse(*flag))
            }
            AttemptError::Timeout => RetryDecision::IfAllowed(LocalReply::Timeout),
            AttemptError::Refused(refusal) => RetryDecision::Never((*refusal).into()),
            AttemptError::Denied => RetryDecision::Never(LocalReply::AuthorizationDenied),
            AttemptError::InvalidToken(refusal) => {
                RetryDecision::Never(LocalReply::InvalidToken(*refusal))
            }
        }
    }
}

fn connect_flag(error: &LeaseError) -> ResponseFlag {
    match error {
        LeaseError::Dial(error) => error.flag(),
        LeaseError::Handshake(_) | LeaseError::Closed => ResponseFlag::Connect,
    }
}

/// The wait before the retry of that number, the first being 1: twice as long each time,
/// and not all at once. `jitter` is drawn from 0 up to 1.
pub(super) fn backoff(shortest: Duration, retry: u32, jitter: f64) -> Duration {
    let doubled = shortest.saturating_mul(1 << retry.saturating_sub(1).min(16));
    let longest = doubled.min(LONGEST_BACKOFF.max(shortest));
    longest.mul_f64(0.75 + jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use proptest::prelude::*;

    use super::*;
    use crate::upstream::DialError;

    fn retry(attempts: u32) -> Retry {
        Retry {
            codes: Vec::new(),
            attempts,
            backoff: Duration::from_millis(10),
        }
    }

    fn refused() -> AttemptError {
        let error = DialError::Connect(ErrorKind::ConnectionRefused.into());
        AttemptError::Connect(error.into())
    }

    #[test]
    fn another_endpoint_is_tried_at_once_while_none_was_connected() {
        let mut budget = AttemptBudget::new(None, 3);
        let after = |budget: &mut AttemptBudget| budget.after(&refused(), &Method::POST, true);
        assert_eq!(after(&mut budget), RetryDecision::AtOnce);
        assert_eq!(after(&mut budget), RetryDecision::AtOnce);
        let last = LocalReply::ConnectFailed(ResponseFlag::Connect);
        assert_eq!(after(&mut budget), RetryDecision::IfAllowed(last));
    }

    #[test]
    fn a_connection_that_was_closed_meanwhile_costs_nothing_as_often_as_that_happens() {
        let mut budget = AttemptBudget::new(None, 3);
        for _ in 0..STALE_CONNECTIONS {
            let decision = budget.after(&AttemptError::Unsent, &Method::POST, true);
            assert_eq!(decision, RetryDecision::AtOnce);
        }
        let decision = budget.after(&AttemptError::Unsent, &Method::POST, true);
        assert_eq!(
            decision,
            RetryDecision::IfAllowed(LocalReply::UpstreamReset)
        );
    }

    #[test]
    fn only_what_may_be_done_twice_or_was_not_done_is_sent_again_unasked() {
        let reset = |was_idle| AttemptError::Reset { was_idle };
        for (error, method, is_whole, at_once) in [
            (reset(true), Method::GET, true, true),
            (reset(true), Method::PUT, true, true),
            (reset(true), Method::PUT, false, false),
            (reset(true), Method::POST, true, false),
            (reset(false), Method::GET, true, false),
            (AttemptError::Unprocessed, Method::POST, true, true),
            (AttemptError::Unprocessed, Method::POST, false, false),
        ] {
            let decision = AttemptBudget::new(None, 3).after(&error, &method, is_whole);
            assert_eq!(
                decision == RetryDecision::AtOnce,
                at_once,
                "{error:?} {method}"
            );
        }
    }

    #[test]
    fn a_request_meets_the_end_of_an_idle_connection_once() {
        let mut budget = AttemptBudget::new(None, 3);
        assert_eq!(budget.reuse(true), Reuse::Any);
        assert_eq!(budget.reuse(false), Reuse::JustUsed);
        budget.after(&AttemptError::Unprocessed, &Method::POST, true);
        assert_eq!(budget.reuse(true), Reuse::None);
    }

    #[test]
    fn what_a_limit_refuses_is_not_tried_again() {
        let error = AttemptError::Refused(PolicyRefusal::TooManyPending);
        let decision = AttemptBudget::new(Some(&retry(5)), 3).after(&error, &Method::GET, false);
        assert!(matches!(decision, RetryDecision::Never(_)));
    }

    #[test]
    fn what_policies_deny_is_not_tried_again_and_no_endpoint_is_to_blame() {
        let refusal = TokenRefusal::Expired;
        for (denied, reply) in [
            (AttemptError::Denied, LocalReply::AuthorizationDenied),
            (
                AttemptError::InvalidToken(refusal),
                LocalReply::InvalidToken(refusal),
            ),
        ] {
            assert_eq!(denied.error_source(), ErrorSource::Local);
            let mut budget = AttemptBudget::new(Some(&retry(5)), 3);
            let decision = budget.after(&denied, &Method::GET, true);
            assert_eq!(decision, RetryDecision::Never(reply));
        }
    }

    #[test]
    fn an_attempt_ends_with_the_request_at_the_latest() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let policy = AttemptPolicy {
            deadline: Some(now + second),
            attempt_timeout: Some(second * 5),
            retry: None,
        };
        assert_eq!(policy.attempt_deadline(now), Some(now + second));
        assert_eq!(AttemptPolicy::default().attempt_deadline(now), None);
    }

    proptest! {
        #[test]
        fn waits_double_up_to_a_bound(millis in 0u64..60_000, number in 1u32..100, jitter in 0.0f64..1.0) {
            let shortest = Duration::from_millis(millis);
            let wait = backoff(shortest, number, jitter);
            let most = LONGEST_BACKOFF.max(shortest).mul_f64(1.25);
            prop_assert!(wait >= shortest.mul_f64(0.75) && wait <= most);
            prop_assert!(backoff(shortest, number + 1, jitter) >= wait);
        }
    }
}
