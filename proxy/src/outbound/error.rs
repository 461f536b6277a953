//! Why an outbound connection fails before its first byte.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use weft_model::mesh::Unroutable;

use crate::detect::DetectError;
use crate::http::opening::NotHttp;
use crate::telemetry::ResponseFlag;
use crate::traffic::PolicyRefusal;
use crate::upstream::DialError;

/// Why an outbound connection failed before its first byte.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboundError {
    /// It was made to the proxy's own port, not captured.
    #[error("no original destination: the connection was made to the proxy's port itself ({0})")]
    NotCaptured(io::Error),
    /// The pod has as many connections through the proxy as it may.
    #[error(
        "the pod has as many connections through the proxy as it may have: --connections-per-pod of \
         the agent, or the pod's share of the agent's open files"
    )]
    TooManyConnections,
    /// The mesh knows the destination, but there is nowhere to go.
    #[error(transparent)]
    Unroutable(#[from] Unroutable),
    /// Where it goes depends on the client's first bytes, and they don't tell.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// They are no HTTP, on a port that carries HTTP alone.
    #[error(transparent)]
    NotHttp(#[from] NotHttp),
    /// Where it goes depends on the client's first bytes, and it was not accepted yet.
    #[error("where the connection goes depends on its first bytes, which it hasn't sent yet")]
    Undecided,
    /// Nobody has registered the destination, and the workload may reach no such.
    #[error(
        "{0} is no service, no pod and no ExternalService, and this namespace reaches nothing else (egress mode RegisteredOnly)"
    )]
    EgressDenied(SocketAddr),
    /// DNS doesn't know where the external service is.
    #[error("looking up the external service `{0}`: {1}")]
    Resolve(Arc<str>, io::Error),
    /// The service's policy lets nothing more through now.
    #[error(transparent)]
    Refused(#[from] PolicyRefusal),
    /// No endpoint took the connection.
    #[error(transparent)]
    Dial(#[from] DialError),
}

impl OutboundError {
    /// The flag for metrics and the access log.
    pub(crate) fn flag(&self) -> ResponseFlag {
        match self {
            Self::NotCaptured(_) => ResponseFlag::NotCaptured,
            Self::TooManyConnections => ResponseFlag::Limit,
            Self::Unroutable(error) => error.into(),
            Self::Undecided => ResponseFlag::ClientHelloTimeout,
            Self::Detect(DetectError::ClientHello(_)) => ResponseFlag::BadClientHello,
            Self::Detect(DetectError::Timeout) => ResponseFlag::ClientHelloTimeout,
            Self::Detect(DetectError::HeadTimeout) => ResponseFlag::RequestTimeout,
            Self::Detect(DetectError::Ended | DetectError::Io(_)) => ResponseFlag::DownstreamReset,
            Self::NotHttp(_) => ResponseFlag::NotHttp,
            Self::EgressDenied(_) => ResponseFlag::EgressDenied,
            Self::Resolve(..) => ResponseFlag::DnsFailure,
            Self::Refused(refusal) => refusal.flag(),
            Self::Dial(error) => error.flag(),
        }
    }

    /// What `connect()` says of it to an application that still waits there.
    pub(crate) fn connect_error(&self) -> io::ErrorKind {
        match self {
            Self::Dial(DialError::Connect(error)) => match error.kind() {
                kind @ (io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => kind,
                // Nobody has said a word; the kernel itself would go on for two minutes.
                io::ErrorKind::TimedOut | io::ErrorKind::PermissionDenied => {
                    io::ErrorKind::HostUnreachable
                }
                _ => io::ErrorKind::ConnectionRefused,
            },
            _ => io::ErrorKind::ConnectionRefused,
        }
    }
}
