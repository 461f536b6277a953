//! The one place where requests end: what they were and how it went, for metrics and
//! the access log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use weft_model::route::table::CompiledRule;
use weft_model::workload::WorkloadUid;

use crate::metrics::Metrics;
use crate::record::{Connection, RequestRecord};

/// What a request was; decided before it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    /// Its method and path, for the access log.
    pub(crate) method: http::Method,
    /// Path without query.
    pub(crate) path: String,
    /// `host` or `host:port`.
    pub(crate) authority: String,
    /// Whether it is gRPC.
    pub(crate) grpc: bool,
    /// The rule that took it.
    pub(crate) rule: Option<Arc<CompiledRule>>,
}

/// Records one request when it is dropped, however it ends.
#[derive(Debug)]
pub(crate) struct Recorder {
    metrics: Arc<Metrics>,
    pod: WorkloadUid,
    /// From whom to whom; of the last attempt.
    pub(crate) connection: Arc<Connection>,
    request: Described,
    began: Instant,
    /// Bytes of the request's body.
    pub(crate) sent: Arc<AtomicU64>,
    received: u64,
    /// Attempts that were made.
    pub(crate) attempts: u32,
    status: Option<StatusCode>,
    grpc_status: Option<u16>,
    flag: &'static str,
    finished: Option<Duration>,
}

impl Recorder {
    /// For a request that begins now.
    pub(crate) fn new(
        metrics: Arc<Metrics>,
        pod: WorkloadUid,
        connection: Arc<Connection>,
        request: Described,
    ) -> Self {
        Self {
            metrics,
            pod,
            connection,
            request,
            began: Instant::now(),
            sent: Arc::default(),
            received: 0,
            attempts: 0,
            status: None,
            grpc_status: None,
            // Stays when the client goes away before there is an answer.
            flag: "DOWNSTREAM_RESET",
            finished: None,
        }
    }

    /// When the request came.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// The response has begun.
    pub(crate) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        if self.request.grpc {
            self.trailers(headers);
        }
    }

    /// The proxy answers itself.
    pub(crate) fn answered_here(
        &mut self,
        status: StatusCode,
        grpc_status: Option<u16>,
        flag: &'static str,
    ) {
        self.status = Some(status);
        self.grpc_status = grpc_status;
        self.flag = flag;
        self.finished = Some(self.began.elapsed());
    }

    /// More of the response.
    pub(crate) fn received(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }

    /// The response's trailers, or its headers where it has nothing else.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        let status = trailers.get("grpc-status");
        let status = status.and_then(|status| status.to_str().ok()?.parse().ok());
        self.grpc_status = status.or(self.grpc_status);
    }

    /// All of the response was sent.
    pub(crate) fn finish(&mut self) {
        if self.finished.is_none() {
            self.finished = Some(self.began.elapsed());
            self.flag = "-";
        }
    }

    /// The response broke.
    pub(crate) fn fail(&mut self, flag: &'static str) {
        if self.finished.is_none() {
            self.finished = Some(self.began.elapsed());
            self.flag = flag;
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let record = RequestRecord {
            method: &self.request.method,
            path: &self.request.path,
            authority: &self.request.authority,
            rule: self.request.rule.as_deref(),
            grpc: self.request.grpc,
            status: self.status,
            grpc_status: self.grpc_status,
            flag: self.flag,
            attempts: self.attempts,
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received,
            duration: self.finished.unwrap_or_else(|| self.began.elapsed()),
        };
        crate::record::requested(&self.metrics, &self.pod, &self.connection, &record);
    }
}
