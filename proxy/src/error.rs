//! Why connections fail: one enum per boundary.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use weft_model::authorization::{PlaintextDenied, TunnelDenied};
use weft_model::mesh::Unroutable;

use crate::hbone::InvalidTunnelRequest;
pub use crate::hbone::client::TunnelError;
use crate::resilience::Refused;
pub use crate::sniff::SniffError;
pub use crate::tls::originate::OriginationError;
use crate::tls::{InvalidPeer, handshake_failure};

/// Why an outbound connection failed before its first byte.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// It was made to the proxy's own port, not captured.
    #[error("no original destination: the connection was made to the proxy's port itself ({0})")]
    NotCaptured(io::Error),
    /// The mesh knows the destination, but there is nowhere to go.
    #[error(transparent)]
    Unroutable(#[from] Unroutable),
    /// Where it goes depends on what its client says first, and that can't be told.
    #[error(transparent)]
    Sniff(#[from] SniffError),
    /// Nobody has registered the destination, and the workload may reach no such.
    #[error(
        "{0} is no service, no pod and no ExternalService, and this namespace reaches nothing else (egress mode RegisteredOnly)"
    )]
    EgressDenied(SocketAddr),
    /// Nobody knows where the external service is.
    #[error("looking up the external service `{0}`: {1}")]
    Resolve(Arc<str>, io::Error),
    /// The external service didn't prove who it is.
    #[error(transparent)]
    Origination(#[from] OriginationError),
    /// The service's policy lets nothing more through now.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The destination did not take the connection.
    #[error("connecting to the destination: {0}")]
    Connect(io::Error),
    /// The tunnel to the destination could not be opened.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// HTTP could not be begun on the connection.
    #[error("HTTP with the destination: {0}")]
    Http(#[from] hyper::Error),
    /// The peer is on this node, and its inbound side refused.
    #[error(transparent)]
    SameNode(#[from] InboundError),
}

/// Why an inbound connection failed before its first byte.
#[derive(Debug, thiserror::Error)]
pub enum InboundError {
    /// Plaintext to a strict workload.
    #[error(transparent)]
    Plaintext(#[from] PlaintextDenied),
    /// The handshake failed.
    #[error("TLS with the client: {}", handshake_failure(.0))]
    Tls(io::Error),
    /// The handshake took too long.
    #[error("the client did not finish its TLS handshake in time")]
    TlsTimeout,
    /// Our own certificate is not there yet, or can't be used.
    #[error("no usable certificate for this workload; see the agent's log")]
    NoCertificate,
    /// The client's certificate says nothing that we understand.
    #[error(transparent)]
    Peer(#[from] InvalidPeer),
    /// The client broke HTTP/2.
    #[error("HTTP/2 with the client: {0}")]
    Http2(#[from] h2::Error),
    /// A request that opens no tunnel.
    #[error(transparent)]
    Request(#[from] InvalidTunnelRequest),
    /// A tunnel that may not be opened.
    #[error(transparent)]
    Tunnel(#[from] TunnelDenied),
    /// The application did not take the connection.
    #[error("connecting to the application: {0}")]
    Connect(io::Error),
    /// The application did not take it in time.
    #[error("the application did not accept the connection in time")]
    ConnectTimeout,
    /// The pod has all the connections that it may have.
    #[error("the pod has reached its limit of connections through the proxy")]
    TooMany,
}

/// The short word for metrics and the access log.
pub(crate) fn unroutable_flag(error: &Unroutable) -> &'static str {
    match error {
        Unroutable::NoSuchPort { .. } => "NO_ROUTE",
        Unroutable::NoEndpoints { .. } => "NO_ENDPOINT",
        Unroutable::NotCapturedYet { .. } => "PEER_NOT_CAPTURED",
        Unroutable::NoRule { .. } => "NO_MATCHING_SNI",
        Unroutable::InvalidBackend { .. } => "NO_BACKEND",
    }
}

impl OutboundError {
    /// Whether the endpoint is to blame: whether another might do better, and whether
    /// this one is to be avoided.
    pub(crate) fn is_of_endpoint(&self) -> bool {
        match self {
            Self::NotCaptured(_)
            | Self::Unroutable(_)
            | Self::Refused(_)
            | Self::Sniff(_)
            | Self::EgressDenied(_)
            | Self::Resolve(..) => false,
            Self::Origination(error) => matches!(
                error,
                OriginationError::Handshake { .. } | OriginationError::Timeout(_)
            ),
            Self::Connect(_) | Self::Http(_) => true,
            Self::Tunnel(error) => match error {
                TunnelError::NoCertificate
                | TunnelError::Certificate(_)
                | TunnelError::Request(_) => false,
                // Refused for who the client is.
                TunnelError::Refused(status) => !matches!(status.as_u16(), 401 | 403),
                TunnelError::Connect(_)
                | TunnelError::Tls(_)
                | TunnelError::Http2(_)
                | TunnelError::Timeout => true,
            },
            Self::SameNode(error) => matches!(
                error,
                InboundError::Connect(_) | InboundError::ConnectTimeout | InboundError::TooMany
            ),
        }
    }

    /// The short word for metrics and the access log.
    pub fn flag(&self) -> &'static str {
        match self {
            Self::NotCaptured(_) => "NOT_CAPTURED",
            Self::Unroutable(error) => unroutable_flag(error),
            Self::Sniff(SniffError::ClientHello(_)) => "BAD_CLIENT_HELLO",
            Self::Sniff(SniffError::Timeout) => "CLIENT_HELLO_TIMEOUT",
            Self::Sniff(SniffError::Ended | SniffError::Io(_)) => "DOWNSTREAM_RESET",
            Self::EgressDenied(_) => "EGRESS_DENIED",
            Self::Resolve(..) => "DNS_FAILURE",
            Self::Origination(_) => "TLS_FAILURE",
            Self::Refused(refused) => refused.reason(),
            Self::Connect(_) | Self::Http(_) => "CONNECT",
            Self::Tunnel(error) => match error {
                TunnelError::Tls(_) => "TLS_FAILURE",
                TunnelError::Http2(_) => "H2_HANDSHAKE_FAILURE",
                TunnelError::NoCertificate | TunnelError::Certificate(_) => "IDENTITY_ERROR",
                TunnelError::Refused(status) if status.as_u16() == 401 => "DENY",
                TunnelError::Connect(_)
                | TunnelError::Refused(_)
                | TunnelError::Request(_)
                | TunnelError::Timeout => "CONNECT",
            },
            Self::SameNode(error) => error.flag(),
        }
    }
}

impl InboundError {
    /// The short word for metrics and the access log.
    pub fn flag(&self) -> &'static str {
        match self {
            Self::Plaintext(_) | Self::Tunnel(_) => "DENY",
            Self::Tls(_) | Self::TlsTimeout => "TLS_FAILURE",
            Self::NoCertificate | Self::Peer(_) => "IDENTITY_ERROR",
            Self::Http2(_) => "H2_HANDSHAKE_FAILURE",
            Self::Request(_) => "BAD_REQUEST",
            Self::Connect(_) | Self::ConnectTimeout => "CONNECT",
            Self::TooMany => "LIMIT",
        }
    }
}
