//! Why a client's first bytes tell nothing.

use std::io;

use weft_model::detect::client_hello::InvalidClientHello;

/// Why a client's first bytes tell nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DetectError {
    /// They are no TLS.
    #[error(transparent)]
    ClientHello(#[from] InvalidClientHello),
    /// They don't come.
    #[error("the client sent no complete first message in time")]
    Timeout,
    /// They may become a request, and don't.
    #[error(
        "the client began with what may become a request, and sent no more of it in time \
         (--http-head-time)"
    )]
    HeadTimeout,
    /// They don't come any more.
    #[error("the client ended the connection within its first message")]
    Ended,
    /// The connection broke.
    #[error("reading the client's first bytes: {0}")]
    Io(#[from] io::Error),
}
