//! Ports that carry HTTP alone: what was understood passes, and the rest is refused, so that
//! nothing gets past the rules about requests.

use weft_model::detect::protocol::DetectedProtocol;

use super::version::HttpVersion;
use crate::detect::{DetectError, PrefixedStream, begins_http2, read_protocol};
use crate::settings::HeadLimits;

/// Something other than HTTP on a port that carries HTTP alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum NotHttp {
    /// The client began with TLS.
    #[error(
        "the client speaks TLS on a port that is declared as HTTP or has an HTTPRoute or GRPCRoute; declare it as `https` or `tls`"
    )]
    Tls,
    /// The client began with what is no request.
    #[error(
        "the client speaks something other than HTTP on a port that is declared as HTTP or has an HTTPRoute or GRPCRoute; declare it as `tcp`"
    )]
    Client,
    /// The server greeted a client that had said nothing.
    #[error(
        "the server speaks first, so not HTTP, on a port that is declared as HTTP or has an HTTPRoute or GRPCRoute; declare it as `tcp`"
    )]
    Server,
}

/// A client's beginning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ClientOpening {
    /// Requests follow.
    Http(HttpVersion),
    /// It ended without a byte, such as a check that the port is open.
    Ended,
}

/// The beginning of a server whose client has said nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ServerOpening {
    /// It may still be waiting for a request: SETTINGS of HTTP/2 may come ahead of the client's
    /// preface (RFC 9113 section 3.4).
    Waits,
    /// It has ended, or says why it will, as with 408: nothing that a client says now is
    /// meant to be heard.
    Ends,
}

/// Waits for a client's beginning, however long that takes; once it has begun, as long as a head
/// may. Cancel-safe.
///
/// # Errors
/// When the connection breaks, or the client doesn't go on.
pub(crate) async fn read_client(
    stream: &mut PrefixedStream,
    heads: HeadLimits,
) -> Result<Result<ClientOpening, NotHttp>, DetectError> {
    Ok(match read_protocol(stream, heads.time).await? {
        None => Ok(ClientOpening::Ended),
        Some(DetectedProtocol::Http1) => Ok(ClientOpening::Http(HttpVersion::Http1)),
        Some(DetectedProtocol::Http2) => Ok(ClientOpening::Http(HttpVersion::Http2)),
        Some(DetectedProtocol::Tls) => Err(NotHttp::Tls),
        Some(DetectedProtocol::Opaque) => Err(NotHttp::Client),
    })
}

/// The meaning of a server's first bytes to a silent client; of none, when it has ended.
///
/// # Errors
/// When it speaks something other than HTTP.
pub(crate) fn server_opening(first: &[u8]) -> Result<ServerOpening, NotHttp> {
    const RESPONSE: &[u8] = b"HTTP/1.";
    let length = first.len().min(RESPONSE.len());
    match first {
        _ if begins_http2(first) => Ok(ServerOpening::Waits),
        _ if first[..length] == RESPONSE[..length] => Ok(ServerOpening::Ends),
        _ => Err(NotHttp::Server),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_speaks_first_is_told_from_one_that_gives_up() {
        for (first, expected) in [
            (&b""[..], Ok(ServerOpening::Ends)),
            (b"HTTP/1.1 408 Request Timeout\r\n", Ok(ServerOpening::Ends)),
            (b"HTT", Ok(ServerOpening::Ends)),
            (&[0, 0, 18, 4, 0, 0, 0, 0, 0], Ok(ServerOpening::Waits)),
            (b"220 ready", Err(NotHttp::Server)),
            (b"HELLO", Err(NotHttp::Server)),
        ] {
            assert_eq!(server_opening(first), expected, "{first:?}");
        }
    }
}
