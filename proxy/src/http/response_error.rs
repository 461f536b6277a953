//! Why a server's response did not come: it broke off, or what it sent is none.

use crate::telemetry::ResponseFlag;

/// The flag of a request that was sent and got no response.
pub(crate) fn no_response_flag(error: &hyper::Error) -> ResponseFlag {
    if error.is_parse_too_large() {
        ResponseFlag::ResponseTooLarge
    } else if error.is_parse() {
        ResponseFlag::ResponseSyntax
    } else {
        ResponseFlag::UpstreamReset
    }
}
