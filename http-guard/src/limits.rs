//! How much of a request is read before it is refused for its size, and for how long.

use std::time::Duration;

/// How large the parts of a request may be. [`Limits::DEFAULT`] is what servers of
/// today commonly take, or somewhat more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of the request line, with its CRLF and empty lines before it. What is longer
    /// is answered with 414.
    pub request_line_bytes: usize,
    /// Bytes of everything before the body: request line and header section. What is
    /// longer is answered with 431.
    pub head_bytes: usize,
    /// Field lines of the header section, and of the trailer section. More in the header
    /// section are answered with 431.
    pub fields: usize,
    /// Bytes of the trailer section behind a chunked body.
    pub trailer_section_bytes: usize,
    /// Bytes of the line before a chunk's data: its size and extensions.
    pub chunk_line_bytes: usize,
    /// Bytes behind a request for an upgrade that are read before its answer is known.
    pub ahead_of_upgrade_bytes: usize,
    /// Bytes of further requests that are read while a response is under way, so that the
    /// client's end behind them is noticed.
    pub ahead_of_response_bytes: usize,
    /// How long a head may take from its first byte to its end, where there is a limit. A longer
    /// one is answered with 408. The time between two requests is not of it.
    pub head_time: Option<Duration>,
}

impl Limits {
    /// What is taken unless somebody asks for something else.
    pub const DEFAULT: Self = Self {
        request_line_bytes: 64 * 1024,
        head_bytes: 128 * 1024,
        fields: 1000,
        trailer_section_bytes: 16 * 1024,
        chunk_line_bytes: 4 * 1024,
        ahead_of_upgrade_bytes: 16 * 1024,
        ahead_of_response_bytes: 4 * 1024,
        head_time: Some(Duration::from_secs(60)),
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
