//! Timeouts and retries of requests, by a route or by a TrafficPolicy.

use std::time::Duration;

use http::StatusCode;

/// Timeouts of a request (GEP-1742): `None` where nothing is said, zero for no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Timeouts {
    /// Time from the request's beginning to the response's end, all attempts together.
    pub request: Option<Duration>,
    /// The same for one attempt.
    pub backend_request: Option<Duration>,
}

impl Timeouts {
    /// The limits of a request whose route says these and whose policy says others: a route
    /// that says one says both.
    ///
    /// ```
    /// use std::time::Duration;
    /// use weft_model::route::Timeouts;
    ///
    /// let request = |limit| Timeouts { request: Some(limit), backend_request: None };
    /// let policy = request(Duration::from_secs(2));
    /// assert_eq!(request(Duration::ZERO).limits_or(policy), Timeouts::default());
    /// assert_eq!(Timeouts::default().limits_or(policy), policy);
    /// ```
    #[must_use]
    pub fn limits_or(self, policy: Self) -> Self {
        let said = match self == Self::default() {
            true => policy,
            false => self,
        };
        let limit = |limit: Option<Duration>| limit.filter(|limit| !limit.is_zero());
        Self {
            request: limit(said.request),
            backend_request: limit(said.backend_request),
        }
    }
}

/// Retries of a request (GEP-1731).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Retry {
    /// Response statuses that are worth another attempt.
    pub codes: Vec<StatusCode>,
    /// Attempts after the first.
    pub attempts: u32,
    /// Shortest wait between two attempts.
    pub backoff: Duration,
}
