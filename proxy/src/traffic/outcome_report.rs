//! How a request and its last attempt went, reported once to whoever learns from it.

use std::time::Instant;

use http::{HeaderMap, StatusCode};

use super::client::TrafficPermit;
use super::endpoint_attempt::EndpointAttempt;

/// gRPC statuses that say that the server failed, not that the call was wrong: UNKNOWN,
/// DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const GRPC_FAILURES: [u16; 5] = [2, 4, 13, 14, 15];

/// A request's permits under the limits of its policies; given back when dropped.
#[derive(Debug)]
pub(crate) struct RequestPermits(Vec<TrafficPermit>);

impl RequestPermits {
    /// The permits under each policy that holds for the request.
    pub(crate) fn new(permits: Vec<TrafficPermit>) -> Self {
        Self(permits)
    }

    /// The request failed before there was a response.
    pub(crate) fn record_failure(&mut self) {
        self.record_result(false, Instant::now());
    }

    fn record_result(&mut self, success: bool, now: Instant) {
        for permit in &mut self.0 {
            permit.record_result(success, now);
        }
    }
}

/// How a request and its last attempt went, reported once. A client that leaves first
/// reports nothing.
#[derive(Debug)]
pub(crate) struct OutcomeReport {
    permits: RequestPermits,
    attempt: EndpointAttempt,
    grpc: bool,
    reported: bool,
}

impl OutcomeReport {
    /// The outcome of a request whose response begins.
    pub(crate) fn new(permits: RequestPermits, attempt: EndpointAttempt, grpc: bool) -> Self {
        Self {
            permits,
            attempt,
            grpc,
            reported: false,
        }
    }

    /// The response's head arrived; of gRPC it tells only a failure of HTTP, or the whole
    /// response where that is nothing but a head.
    pub(crate) fn response_started(&mut self, status: StatusCode, headers: &HeaderMap) {
        if self.grpc && status.is_success() {
            self.trailers(headers);
        } else {
            self.report(!status.is_server_error());
        }
    }

    /// Whatever the response says, nothing has failed.
    pub(crate) fn succeeded(&mut self) {
        self.report(true);
    }

    /// The response's trailers arrived.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(status) = trailers.get("grpc-status") {
            let status = status
                .to_str()
                .ok()
                .and_then(|status| status.parse::<u16>().ok());
            self.report(!status.is_none_or(|status| GRPC_FAILURES.contains(&status)));
        }
    }

    /// The response broke off.
    pub(crate) fn response_broke(&mut self) {
        self.report(false);
    }

    fn report(&mut self, success: bool) {
        if self.reported {
            return;
        }
        self.reported = true;
        let now = Instant::now();
        self.attempt.record_result(success, now);
        self.permits.record_result(success, now);
    }
}
