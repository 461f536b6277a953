//! The one place where connections end: what they were, and how it went, for
//! metrics and the access log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Serialize;
use weft_model::route::table::CompiledRule;
use weft_model::service::Service;
use weft_model::workload::{Workload, WorkloadUid};
use weft_model::{NamespacedName, SpiffeId};

use crate::metrics::Metrics;
use crate::relay::{End, Progress};

/// Which side of a pod a connection is on.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The pod's application opened it.
    Outbound,
    /// It came to the pod.
    Inbound,
}

/// Where a connection goes, seen from the node.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// Both ends are in the mesh, on different nodes.
    CrossNode,
    /// Both ends are in the mesh, on this node.
    SameNode,
    /// One end is outside the mesh.
    Outside,
}

/// What protects a connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// Mutual TLS between the proxies.
    MutualTls,
    /// Nothing on a wire: handed over inside this process, both identities known.
    SameNode,
    /// TLS to an external service that has proven its name.
    Tls,
    /// Nothing.
    Plaintext,
}

/// One end of a connection, as far as it is known.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Party {
    /// Its address.
    pub address: Option<SocketAddr>,
    /// The identity that it proved, or that this process vouches for.
    #[serde(serialize_with = "as_text")]
    pub identity: Option<SpiffeId>,
    /// The pod.
    #[serde(skip)]
    pub workload: Option<Arc<Workload>>,
    /// The pod's name.
    pub pod: Option<Arc<str>>,
    /// The pod's namespace.
    pub namespace: Option<String>,
}

impl Party {
    /// An end that is a pod.
    pub(crate) fn workload(workload: &Arc<Workload>, address: Option<SocketAddr>) -> Self {
        Self {
            address,
            identity: None,
            pod: Some(Arc::clone(&workload.name)),
            namespace: Some(workload.namespace().to_owned()),
            workload: Some(Arc::clone(workload)),
        }
    }

    /// An end that may be a pod.
    pub(crate) fn known(workload: Option<&Arc<Workload>>, address: SocketAddr) -> Self {
        match workload {
            Some(workload) => Self::workload(workload, Some(address)),
            None => Self {
                address: Some(address),
                ..Self::default()
            },
        }
    }

    /// The same, with its proven identity.
    #[must_use]
    pub(crate) fn proven(self, identity: SpiffeId) -> Self {
        Self {
            identity: Some(identity),
            ..self
        }
    }
}

/// What a connection is: decided before its first byte.
#[derive(Clone, Debug, Serialize)]
pub struct Connection {
    /// Which side of the local pod.
    pub direction: Direction,
    /// Where to.
    pub path: Path,
    /// What protects it.
    pub security: Security,
    /// Who opened it.
    pub source: Party,
    /// Who serves it.
    pub destination: Party,
    /// The service that was asked for.
    #[serde(serialize_with = "as_text")]
    pub service: Option<NamespacedName>,
    /// Its DNS name.
    pub service_hostname: Option<Arc<str>>,
    /// What the application dialled.
    pub original_destination: Option<SocketAddr>,
}

impl Connection {
    /// The same for a service.
    #[must_use]
    pub(crate) fn of_service(self, service: Option<&Service>) -> Self {
        let key = service.map(|service| service.key.clone());
        let hostname = service.map(|service| Arc::clone(&service.hostname));
        Self {
            service: key,
            service_hostname: hostname,
            ..self
        }
    }
}

/// How a connection went.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// `-`, or a short word for what went wrong.
    pub(crate) flag: &'static str,
    /// The error in words.
    pub(crate) error: Option<String>,
    /// Time until the destination was connected.
    pub(crate) connect: Option<Duration>,
}

impl Outcome {
    /// It carried bytes and ended like this.
    pub(crate) fn ended(end: End, connect: Duration) -> Self {
        let flag = match end {
            End::Finished => "-",
            End::DownstreamReset => "DOWNSTREAM_RESET",
            End::UpstreamReset => "UPSTREAM_RESET",
            End::Idle => "IDLE_TIMEOUT",
        };
        Self {
            flag,
            error: None,
            connect: Some(connect),
        }
    }

    /// It was cut because policy changed.
    pub(crate) fn cut(connect: Duration) -> Self {
        let error = Some("cut: the connection is not allowed any more".to_owned());
        Self {
            flag: "POLICY_CHANGED",
            error,
            connect: Some(connect),
        }
    }

    /// It never carried a byte.
    pub(crate) fn failed(flag: &'static str, error: &dyn std::error::Error) -> Self {
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
    pub(crate) rule: Option<&'a CompiledRule>,
    pub(crate) grpc: bool,
    /// `None` when the client got no answer.
    pub(crate) status: Option<http::StatusCode>,
    pub(crate) grpc_status: Option<u16>,
    /// `-`, or a short word for what went wrong.
    pub(crate) flag: &'static str,
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
    let sent = progress.sent.load(Ordering::Relaxed);
    let received = progress.received.load(Ordering::Relaxed);
    metrics.closed(pod, connection, outcome, sent, received);
    crate::access_log::write(connection, outcome, sent, received, began.elapsed());
}

fn as_text<T: std::fmt::Display, S: serde::Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}
