//! The record of a request: made when it comes, recorded when it is dropped, however it
//! ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, StatusCode};
use tracing::Span;
use weft_model::route::table::CompiledRule;

use super::access_log;
use super::authorization::AuthorizationNote;
use super::flag::ResponseFlag;
use super::info::ConnectionInfo;
use super::metrics::verdicts::VerdictSubject;
use super::node_telemetry::PodTelemetry;
use super::outcome::RequestOutcome;

/// A request as its record shows it: as the client sent it.
#[derive(Clone, Debug)]
pub(crate) struct RequestDescription {
    /// Its method.
    pub(crate) method: Method,
    /// Its path without query.
    pub(crate) path: String,
    /// Its `host` or `host:port`.
    pub(crate) authority: String,
    /// Whether it is gRPC.
    pub(crate) grpc: bool,
    /// The rule that matched it.
    pub(crate) rule: Option<Arc<CompiledRule>>,
}

/// The record of one request. It is recorded when it is dropped: with the client that
/// went away, unless an answer was sent or broke.
#[derive(Debug)]
pub(crate) struct RequestRecord {
    pod: PodTelemetry,
    info: Arc<ConnectionInfo>,
    request: RequestDescription,
    began: Instant,
    /// Bytes of the request's body.
    sent: Arc<AtomicU64>,
    /// Bytes of the response's body.
    received: u64,
    attempts: u32,
    status: Option<StatusCode>,
    grpc_status: Option<u16>,
    flag: ResponseFlag,
    authorization: AuthorizationNote,
    /// How long it took, once it is over.
    duration: Option<Duration>,
    discarded: bool,
    span: Span,
}

impl RequestRecord {
    /// A request came, over such a connection as far as that is known.
    pub(crate) fn start(
        pod: &PodTelemetry,
        info: Arc<ConnectionInfo>,
        request: RequestDescription,
    ) -> Self {
        let (method, authority) = (request.method.as_str(), request.authority.as_str());
        Self {
            span: tracing::debug_span!("request", method, authority),
            pod: pod.clone(),
            info,
            request,
            began: Instant::now(),
            sent: Arc::default(),
            received: 0,
            attempts: 0,
            status: None,
            grpc_status: None,
            // Stays when the client goes away before there is an answer.
            flag: ResponseFlag::DownstreamReset,
            authorization: AuthorizationNote::default(),
            duration: None,
            discarded: false,
        }
    }

    /// When the request came.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// The span that whatever serves the request runs in, at level debug.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// Where the request goes became known, before an endpoint was chosen.
    pub(crate) fn set_info(&mut self, info: Arc<ConnectionInfo>) {
        self.info = info;
    }

    /// AuthorizationPolicies were asked about it.
    pub(crate) fn set_authorization(&mut self, note: AuthorizationNote) {
        self.pod
            .metrics()
            .count_verdicts(&note, VerdictSubject::Request);
        self.authorization = note;
    }

    /// The request is sent to an endpoint: for the first time, or again.
    pub(crate) fn attempt_started(&mut self, info: Arc<ConnectionInfo>) {
        self.info = info;
        self.attempts += 1;
    }

    /// Shows and counts the bytes of another record, whose request is the same.
    pub(crate) fn share_request_bytes(&mut self, bytes: Arc<AtomicU64>) {
        self.sent = bytes;
    }

    /// Nothing of the request was sent: there is nothing to record.
    pub(crate) fn discard(mut self) {
        self.discarded = true;
    }

    /// The same record, which tells nobody how the request went.
    pub(crate) fn unrecorded(self) -> Self {
        let mut record = self;
        record.discarded = true;
        record
    }

    /// Bytes of the request's body, to be counted by whoever sends it.
    pub(crate) fn request_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }

    /// The response has begun.
    pub(crate) fn response_started(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        // A response of gRPC that is nothing but headers has its status there.
        if self.request.grpc {
            self.trailers(headers);
        }
    }

    /// More of the response's body was passed on.
    pub(crate) fn response_bytes(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }

    /// The response's trailers.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        let status = trailers.get("grpc-status");
        let status = status.and_then(|status| status.to_str().ok()?.parse().ok());
        self.grpc_status = status.or(self.grpc_status);
    }

    /// The proxy has answered in the application's place.
    pub(crate) fn replied_locally(
        &mut self,
        status: StatusCode,
        grpc_status: Option<u16>,
        flag: ResponseFlag,
    ) {
        self.status = Some(status);
        self.grpc_status = grpc_status;
        self.end(flag);
    }

    /// All of the response was sent.
    pub(crate) fn finish(&mut self) {
        self.end(ResponseFlag::None);
    }

    /// The response broke, or there will be none.
    pub(crate) fn fail(&mut self, flag: ResponseFlag) {
        self.end(flag);
    }

    /// What comes first counts.
    fn end(&mut self, flag: ResponseFlag) {
        if self.duration.is_none() {
            self.duration = Some(self.began.elapsed());
            self.flag = flag;
        }
    }
}

impl Drop for RequestRecord {
    /// The one exit: counts, then logs.
    fn drop(&mut self) {
        if self.discarded {
            return;
        }
        let outcome = RequestOutcome {
            method: &self.request.method,
            path: &self.request.path,
            authority: &self.request.authority,
            rule: self.request.rule.as_deref(),
            grpc: self.request.grpc,
            status: self.status,
            grpc_status: self.grpc_status,
            flag: self.flag,
            authorization: &self.authorization,
            attempts: self.attempts,
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received,
            duration: self.duration.unwrap_or_else(|| self.began.elapsed()),
        };
        self.pod.metrics().count_request(&self.info, &outcome);
        access_log::write_request(&self.pod, &self.info, &outcome);
    }
}

#[cfg(test)]
mod tests;
