//! Why an inbound connection fails before its first byte.

use std::io;

use weft_model::authorization::{PlaintextDenied, TunnelDenied};
use weft_model::network_policy::NetworkPolicyDenied;

use super::authorization_policies::AuthorizationDenied;
use crate::http::opening::NotHttp;
use crate::telemetry::{ConnectionRecord, ResponseFlag};
use crate::tls::{InvalidPeer, handshake_failure};
use crate::tunnel::TunnelError;
use crate::tunnel::hbone::request::InvalidTunnelRequest;
use crate::upstream::{ErrorSource, SameNodeRefusal};

/// Why an inbound connection failed before its first byte.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InboundError {
    /// It was made to the proxy's own port, not to one of the pod's.
    #[error("the connection was made to the proxy's port itself")]
    NotCaptured,
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
    /// The client broke the tunnel's protocol.
    #[error(transparent)]
    TunnelServer(#[from] TunnelError),
    /// A request that opens no tunnel.
    #[error(transparent)]
    Request(#[from] InvalidTunnelRequest),
    /// A tunnel that may not be opened.
    #[error(transparent)]
    Tunnel(#[from] TunnelDenied),
    /// NetworkPolicies don't admit it.
    #[error(transparent)]
    NetworkPolicy(#[from] NetworkPolicyDenied),
    /// AuthorizationPolicies deny it.
    #[error(transparent)]
    Authorization(#[from] AuthorizationDenied),
    /// It is no HTTP, on a port that carries HTTP alone.
    #[error(transparent)]
    NotHttp(#[from] NotHttp),
    /// The application did not take the connection.
    #[error("connecting to the application: {0}")]
    Connect(io::Error),
    /// The application did not take it in time.
    #[error("the application did not accept the connection in time")]
    ConnectTimeout,
    /// The pod has all the connections that it may have.
    #[error(
        "the pod has as many connections through the proxy as it may have: --connections-per-pod of \
         the agent, or the pod's share of the agent's open files"
    )]
    TooManyConnections,
    /// As many clients as may be are in their handshake.
    #[error("too many clients of the pod, or of this address, are in their TLS handshake")]
    TooManyHandshakes,
}

impl InboundError {
    /// The flag for metrics and the access log.
    pub(crate) fn flag(&self) -> ResponseFlag {
        match self {
            Self::NotCaptured => ResponseFlag::NotCaptured,
            Self::Plaintext(_) | Self::Tunnel(_) | Self::NetworkPolicy(_) => ResponseFlag::Deny,
            Self::Authorization(_) => ResponseFlag::AuthorizationDenied,
            Self::Tls(_) | Self::TlsTimeout => ResponseFlag::TlsFailure,
            Self::NoCertificate | Self::Peer(_) => ResponseFlag::IdentityError,
            Self::TunnelServer(_) => ResponseFlag::H2HandshakeFailure,
            Self::Request(_) => ResponseFlag::BadRequest,
            Self::NotHttp(_) => ResponseFlag::NotHttp,
            Self::Connect(_) | Self::ConnectTimeout => ResponseFlag::Connect,
            Self::TooManyConnections | Self::TooManyHandshakes => ResponseFlag::Limit,
        }
    }

    /// Closes the record of the connection that failed so.
    pub(super) fn record_in(&self, mut record: ConnectionRecord) {
        if let Self::Authorization(denied) = self {
            record.set_authorization(denied.note.clone());
        }
        record.fail(self.flag(), self);
    }
}

impl From<&InboundError> for SameNodeRefusal {
    fn from(error: &InboundError) -> Self {
        let error_source = match error {
            InboundError::Connect(_)
            | InboundError::ConnectTimeout
            | InboundError::TooManyConnections => ErrorSource::Upstream,
            _ => ErrorSource::Local,
        };
        Self {
            flag: error.flag(),
            error_source,
            message: error.to_string(),
        }
    }
}
