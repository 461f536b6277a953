//! How sending a request fails, as far as that says whether it may be sent again.

use http::Request;

use crate::http::body::RequestBody;
use crate::http::http1_sender::NoResponse;
use crate::telemetry::ResponseFlag;

/// How a request failed that a connection was given.
#[derive(Debug)]
pub(crate) enum SendError {
    /// No part of it was sent; here it is again.
    Unsent(Box<Request<RequestBody>>),
    /// The server certainly did nothing with it: it may be sent again, whatever it asks for
    /// (RFC 9110 section 9.2.2, RFC 9113 section 8.7).
    Unprocessed,
    /// It may have been read.
    Broken(BrokenConnection),
}

/// How a connection ended on which a request was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct BrokenConnection {
    /// Why there is no response.
    pub(crate) flag: ResponseFlag,
    /// It was used before, and ended without a byte of a response: its end and the request may
    /// have crossed.
    pub(crate) was_idle: bool,
    /// The other end has ended it as if no request were there, and not broken it off.
    pub(crate) between_requests: bool,
}

/// An error by what is left of its request.
pub(super) fn classify(
    no_response: NoResponse,
    sent: impl FnOnce(&hyper::Error) -> SendError,
) -> SendError {
    let NoResponse { error, unsent } = no_response;
    match unsent {
        Some(unsent) => SendError::Unsent(Box::new(unsent)),
        None => {
            tracing::debug!(%error, "no response");
            sent(&error)
        }
    }
}
