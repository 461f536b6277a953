//! A call of gRPC whose response breaks off behind its head. Without a proxy its client would see
//! the connection end, and take that for a server that is not available: most try the call again.
//! The reset of a stream would say that something else went wrong (gRPC's PROTOCOL-HTTP2), so the
//! response ends with a status instead.

use std::error::Error;

use http::{HeaderMap, HeaderValue};

use super::unprocessed::is_stream_reset;
use crate::telemetry::ResponseFlag;

/// The trailers that a client of gRPC gets in place of the rest of its response, for that reason;
/// `None` where the server has reset the stream itself, which is passed on.
pub(crate) fn trailers_of_break(
    error: &(dyn Error + 'static),
    flag: ResponseFlag,
) -> Option<HeaderMap> {
    if is_stream_reset(error) {
        return None;
    }
    let (status, message) = match flag {
        ResponseFlag::Timeout => ("4", "weft: the response took longer than its route allows"),
        _ => ("14", "weft: the endpoint broke its response off"),
    };
    Some(HeaderMap::from_iter([
        (
            http::HeaderName::from_static("grpc-status"),
            HeaderValue::from_static(status),
        ),
        (
            http::HeaderName::from_static("grpc-message"),
            HeaderValue::from_static(message),
        ),
    ]))
}
