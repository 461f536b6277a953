//! Why an endpoint can't be connected to.

use std::io;

use super::tls::OriginationError;
use crate::telemetry::ResponseFlag;
use crate::tunnel::TunnelError;

/// Whose failure an error is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ErrorSource {
    /// The endpoint's: another might do better, and this one is to be avoided.
    Upstream,
    /// Ours, or the client's: no endpoint is to blame.
    Local,
}

/// Why the inbound side of a pod of this node did not take a connection.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct SameNodeRefusal {
    /// The flag for metrics and the access log.
    pub flag: ResponseFlag,
    /// Whose failure it is.
    pub error_source: ErrorSource,
    /// The inbound side's own error.
    pub message: String,
}

/// Why an endpoint can't be connected to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The destination did not take the connection.
    #[error("connecting to the destination: {0}")]
    Connect(io::Error),
    /// The pod has all the descriptors that it may have.
    #[error("the pod has as many connections as open files are left for it")]
    NoDescriptor,
    /// The tunnel to the destination could not be opened.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// The external service didn't prove who it is.
    #[error(transparent)]
    Origination(#[from] OriginationError),
    /// The destination is a pod of this node, and its inbound side refused.
    #[error(transparent)]
    SameNode(#[from] SameNodeRefusal),
}

impl DialError {
    /// Whose failure it is.
    pub(crate) fn error_source(&self) -> ErrorSource {
        match self {
            Self::Connect(_) => ErrorSource::Upstream,
            Self::NoDescriptor => ErrorSource::Local,
            Self::Tunnel(error) => match error {
                TunnelError::NoCertificate
                | TunnelError::NoDescriptor
                | TunnelError::Certificate(_)
                | TunnelError::Request(_) => ErrorSource::Local,
                // Refused for who the client is.
                TunnelError::Refused(status) if matches!(status.as_u16(), 401 | 403) => {
                    ErrorSource::Local
                }
                TunnelError::Refused(_)
                | TunnelError::NoStreams
                | TunnelError::Connect(_)
                | TunnelError::Tls(_)
                | TunnelError::Peer(_)
                | TunnelError::Http2(_)
                | TunnelError::Timeout => ErrorSource::Upstream,
            },
            Self::Origination(error) => match error {
                OriginationError::Handshake { .. } | OriginationError::Timeout(_) => {
                    ErrorSource::Upstream
                }
                OriginationError::Roots(_)
                | OriginationError::ServerName(_)
                | OriginationError::Setup(_) => ErrorSource::Local,
            },
            Self::SameNode(refusal) => refusal.error_source,
        }
    }

    /// The flag for metrics and the access log.
    pub(crate) fn flag(&self) -> ResponseFlag {
        match self {
            Self::Connect(_) => ResponseFlag::Connect,
            Self::NoDescriptor | Self::Tunnel(TunnelError::NoDescriptor) => ResponseFlag::Limit,
            Self::Tunnel(error) => match error {
                TunnelError::Tls(_) => ResponseFlag::TlsFailure,
                TunnelError::Http2(_) => ResponseFlag::H2HandshakeFailure,
                TunnelError::NoCertificate | TunnelError::Certificate(_) | TunnelError::Peer(_) => {
                    ResponseFlag::IdentityError
                }
                TunnelError::Refused(status) if status.as_u16() == 401 => ResponseFlag::Deny,
                TunnelError::Refused(status) if status.as_u16() == 403 => {
                    ResponseFlag::AuthorizationDenied
                }
                TunnelError::Connect(_)
                | TunnelError::NoDescriptor
                | TunnelError::NoStreams
                | TunnelError::Refused(_)
                | TunnelError::Request(_)
                | TunnelError::Timeout => ResponseFlag::Connect,
            },
            Self::Origination(_) => ResponseFlag::TlsFailure,
            Self::SameNode(refusal) => refusal.flag,
        }
    }
}
