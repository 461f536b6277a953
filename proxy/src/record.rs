//! The one place where connections end: what they were, and how it went, for
//! metrics and the access log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_model::workload::WorkloadUid;

use crate::relay::{End, Progress};
use crate::telemetry::flag::ResponseFlag;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::outcome::RequestOutcome;
use crate::telemetry::{self, access_log};

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

/// Records a request's end. Every request that a proxy read passes here exactly once.
pub(crate) fn requested(
    metrics: &Metrics,
    pod: &WorkloadUid,
    connection: &Arc<Connection>,
    request: &RequestOutcome<'_>,
) {
    if let Some(metrics) = metrics.pod(pod) {
        metrics.count_request(connection, request);
    }
    access_log::write_request(connection, request);
}

/// Records a connection's start. Every one that carries bytes passes here once.
pub(crate) fn opened(metrics: &Metrics, pod: &WorkloadUid, connection: &Arc<Connection>) {
    if let Some(metrics) = metrics.pod(pod) {
        metrics.connection(connection).opened();
    }
}

/// Records a connection's end. Every accepted connection passes here exactly once.
pub(crate) fn closed(
    metrics: &Metrics,
    pod: &WorkloadUid,
    connection: &Arc<Connection>,
    progress: &Progress,
    outcome: &Outcome,
    began: Instant,
) {
    let bytes = progress.bytes();
    if let Some(metrics) = metrics.pod(pod) {
        match (outcome.connect, outcome.flag) {
            (None, flag) => metrics.count_failed_connection(connection, flag),
            (Some(_), flag) => {
                let series = metrics.connection(connection);
                series.carried(bytes);
                match flag {
                    ResponseFlag::None => series.closed(),
                    flag => metrics.count_broken_connection(connection, flag),
                }
            }
        }
    }
    let ended = telemetry::outcome::Outcome {
        flag: outcome.flag,
        error: outcome.error.clone(),
    };
    access_log::write_connection(connection, &ended, bytes, outcome.connect, began.elapsed());
}
