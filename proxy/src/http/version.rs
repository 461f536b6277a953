//! The versions of HTTP that the proxy serves.

use weft_model::detect::protocol::DetectedProtocol;

/// A version of HTTP, as a client speaks it from its first byte on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HttpVersion {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 section 3.3).
    Http2,
}

impl HttpVersion {
    /// The version that was detected; `None` for what is no HTTP.
    pub(crate) fn from_detected(detected: DetectedProtocol) -> Option<Self> {
        match detected {
            DetectedProtocol::Http1 => Some(Self::Http1),
            DetectedProtocol::Http2 => Some(Self::Http2),
            DetectedProtocol::Tls | DetectedProtocol::Opaque => None,
        }
    }
}
