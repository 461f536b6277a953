//! Timeouts and retries of requests, by a route or by a TrafficPolicy.

use std::time::Duration;

use http::StatusCode;

/// Timeouts of a request; no limit where `None` (GEP-1742).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Timeouts {
    /// Time from the request's beginning to the response's end, all attempts together.
    pub request: Option<Duration>,
    /// The same for one attempt.
    pub backend_request: Option<Duration>,
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
