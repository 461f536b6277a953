//! Why a tunnel could not be opened or served.

use std::io;

use http::StatusCode;

use crate::tls::{InvalidPeer, handshake_failure};

/// Why a tunnel could not be opened or served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelError {
    /// No TCP connection to the peer's proxy.
    #[error("connecting to the peer's proxy: {0}")]
    Connect(#[source] io::Error),
    /// The pod has all the descriptors that it may have.
    #[error("the pod has as many connections as open files are left for it")]
    NoDescriptor,
    /// The handshake failed, or the peer is not who it should be.
    #[error("TLS with the peer's proxy: {}", handshake_failure(.0))]
    Tls(#[source] io::Error),
    /// The peer's certificate is revoked, or nobody can say whether it is.
    #[error(transparent)]
    Peer(#[from] InvalidPeer),
    /// Our own certificate is not there yet.
    #[error(
        "no certificate for this workload yet; see the agent's log for why it could not be obtained"
    )]
    NoCertificate,
    /// Our own certificate can't be used.
    #[error("this workload's certificate can't be used: {0}")]
    Certificate(#[from] rustls::Error),
    /// The peer broke the protocol or the connection.
    #[error("HTTP/2 with the peer's proxy: {0}")]
    Http2(#[from] h2::Error),
    /// The request could not be built.
    #[error("the tunnel request: {0}")]
    Request(#[from] http::Error),
    /// The peer's proxy answered, but would not open the tunnel.
    #[error("the peer's proxy refused the tunnel with status {0}")]
    Refused(StatusCode),
    /// The peer's proxy allows no stream on a connection that was just made.
    #[error("the peer's proxy allows no tunnels on a new connection")]
    NoStreams,
    /// It took too long.
    #[error("the peer's proxy did not answer in time")]
    Timeout,
}

impl TunnelError {
    /// Whether the peer certainly did nothing with the request, so that it may be sent
    /// again: the connection was on its way out (GOAWAY, REFUSED_STREAM; RFC 9113
    /// section 8.7) or broke before an answer.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Http2(error) => {
                error.is_go_away()
                    || error.is_io()
                    || error.reason() == Some(h2::Reason::REFUSED_STREAM)
            }
            _ => false,
        }
    }
}
