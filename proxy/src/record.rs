//! The one place where connections end: what they were, and how it went, for
//! metrics and the access log.

use std::time::{Duration, Instant};

use weft_model::route::table::TableRule;
use weft_model::workload::WorkloadUid;

use crate::metrics::Metrics;
use crate::relay::{End, Progress};
use crate::telemetry::flag::ResponseFlag;
use crate::telemetry::progress::ByteCount;

pub use crate::telemetry::info::{
    ConnectionInfo as Connection, Direction, Hop as Path, Peer as Party, Security,
};

/// How a connection went.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What became of it, as one word.
    pub(crate) flag: ResponseFlag,
    /// The error in words.
    pub(crate) error: Option<String>,
    /// Time until the destination was connected.
    pub(crate) connect: Option<Duration>,
}

impl Outcome {
    /// It carried bytes and ended like this.
    pub(crate) fn ended(end: End, connect: Duration) -> Self {
        Self {
            flag: end.flag(),
            error: None,
            connect: Some(connect),
        }
    }

    /// It was cut because policy changed.
    pub(crate) fn cut(connect: Duration) -> Self {
        let error = Some("cut: the connection is not allowed any more".to_owned());
        Self {
            flag: ResponseFlag::PolicyChanged,
            error,
            connect: Some(connect),
        }
    }

    /// It never carried a byte.
    pub(crate) fn failed(flag: ResponseFlag, error: &dyn std::error::Error) -> Self {
        Self {
            flag,
            error: Some(error.to_string()),
            connect: None,
        }
    }
}

/// How a request went.
#[derive(Debug)]
pub(crate) struct RequestRecord<'a> {
    pub(crate) method: &'a http::Method,
    /// Without query.
    pub(crate) path: &'a str,
    pub(crate) authority: &'a str,
    /// The rule that took it.
    pub(crate) rule: Option<&'a TableRule>,
    pub(crate) grpc: bool,
    /// `None` when the client got no answer.
    pub(crate) status: Option<http::StatusCode>,
    pub(crate) grpc_status: Option<u16>,
    /// What became of it, as one word.
    pub(crate) flag: ResponseFlag,
    pub(crate) attempts: u32,
    /// Bytes of the request's body.
    pub(crate) sent: u64,
    /// Bytes of the response's body.
    pub(crate) received: u64,
    pub(crate) duration: Duration,
}

/// Records a request's end. Every request that a proxy read passes here exactly once.
pub(crate) fn requested(
    metrics: &Metrics,
    pod: &WorkloadUid,
    connection: &Connection,
    request: &RequestRecord<'_>,
) {
    metrics.requested(pod, connection, request);
    crate::access_log::write_request(connection, request);
}

/// Records a connection's start. Every one that carries bytes passes here once.
pub(crate) fn opened(metrics: &Metrics, pod: &WorkloadUid, connection: &Connection) {
    metrics.opened(pod, connection);
}

/// Records a connection's end. Every accepted connection passes here exactly once.
pub(crate) fn closed(
    metrics: &Metrics,
    pod: &WorkloadUid,
    connection: &Connection,
    progress: &Progress,
    outcome: &Outcome,
    began: Instant,
) {
    let ByteCount { sent, received } = progress.bytes();
    metrics.closed(pod, connection, outcome, sent, received);
    crate::access_log::write(connection, outcome, sent, received, began.elapsed());
}
