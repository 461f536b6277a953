//! What the guard refuses, and how it is answered.

use http::StatusCode;

/// Why a request was refused. Each is a shape that two parsers may read differently, or one
/// that is larger than its limit; its message says what is wrong with the request.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// A line that ends with LF alone. RFC 9112 section 2.2 lets servers take it, and some
    /// do: one line for this parser, two for that.
    #[error("a line of the head ends with LF instead of CRLF")]
    BareLf,
    /// CR elsewhere than before LF (RFC 9112 section 2.2).
    #[error("a line of the head holds a CR that no LF follows")]
    BareCr,
    /// NUL in a line, where some parsers end it (RFC 9110 section 5.5).
    #[error("a line of the head holds NUL")]
    Nul,
    /// A line that begins with white space: part of the line before, or a field of its own
    /// (RFC 9112 section 5.2).
    #[error("a header field is folded over several lines")]
    ObsFold,
    /// White space between name and colon: part of the name, or none (RFC 9112 section 5.1).
    #[error("white space stands between a field's name and its colon")]
    WhitespaceBeforeColon,
    /// No name, no colon, or a name that is no token (RFC 9110 section 5.1).
    #[error("a field's name is empty or holds a character that names may not have")]
    FieldName,
    /// Not `method SP request-target SP HTTP-version` (RFC 9112 section 3).
    #[error("the request line is not `METHOD TARGET HTTP/1.1`")]
    RequestLine,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("the request line has a version other than HTTP/1.0 and HTTP/1.1")]
    Version,
    /// A target that has none of the four forms (RFC 9112 section 3.2), or not the one
    /// that its method needs.
    #[error("the request's target is none that its method may have")]
    Target,
    /// HTTP/1.1 without Host (RFC 9112 section 3.2).
    #[error("the request has no Host")]
    HostMissing,
    /// More than one Host, be they equal (RFC 9112 section 3.2).
    #[error("the request has more than one Host")]
    HostRepeated,
    /// A Host that is none, or in which the host's end can be seen at two places (RFC 9112
    /// section 3.2).
    #[error("the Host is not a host with an optional port")]
    Host,
    /// CONNECT to another host or port than Host names (RFC 9112 section 3.2.3). Of a URL the
    /// host wins (section 3.2.2), so that one is none.
    #[error("the target names another host than the Host field")]
    HostMismatch,
    /// A Content-Length that is not decimal digits, or more bytes than any body has.
    #[error("the Content-Length is not a number")]
    ContentLength,
    /// More than one Content-Length, be they equal (RFC 9112 section 6.3, point 5).
    #[error("the request has more than one Content-Length")]
    ContentLengthRepeated,
    /// Both framings (RFC 9112 section 6.3, point 3).
    #[error("the request has both Content-Length and Transfer-Encoding")]
    ContentLengthWithTransferEncoding,
    /// A Transfer-Encoding other than one `chunked` (RFC 9112 section 6.1).
    #[error("the Transfer-Encoding is not `chunked` alone")]
    TransferEncoding,
    /// Transfer-Encoding in HTTP/1.0, which doesn't know it (RFC 9112 section 6.1).
    #[error("an HTTP/1.0 request has a Transfer-Encoding")]
    TransferEncodingInHttp10,
    /// A field with the name of Content-Length or Transfer-Encoding but for the hyphen, such
    /// as `Content_Length`: another field for most servers, the same one for some.
    #[error("a field's name is that of a framing field with another character for the hyphen")]
    FramingFieldLookalike,
    /// CONNECT with a body, which has no meaning (RFC 9110 section 9.3.6).
    #[error("a CONNECT request has a body")]
    ConnectBody,
    /// A chunk's size that is none, or that no number holds (RFC 9112 section 7.1).
    #[error("a chunk's size is not a hexadecimal number of at most 64 bits")]
    ChunkSize,
    /// Chunk extensions that are not as the grammar has them (RFC 9112 section 7.1.1): some
    /// look for the end of a quoted string behind the end of the line.
    #[error("a chunk's extensions are malformed")]
    ChunkExtension,
    /// A chunk's line that ends otherwise than with CRLF.
    #[error("the line of a chunk's size does not end with CRLF")]
    ChunkLineEnd,
    /// A chunk that doesn't end where its size says.
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    /// A trailer that would change the framing or the destination (RFC 9110
    /// section 6.5.1).
    #[error("a trailer field would change the request's framing or host")]
    TrailerField,
    /// Bytes behind a request for an upgrade that was not granted: the client takes them
    /// for another protocol, a server would take them for a request.
    #[error("bytes were sent ahead of the answer to an upgrade that was refused")]
    AheadOfUpgrade,
    /// More bytes in the request line than are read.
    #[error("the request line is too long")]
    RequestLineTooLong,
    /// More bytes before the body than are read.
    #[error("the header section is too large")]
    HeadTooLarge,
    /// More field lines before the body than are read.
    #[error("the header section has too many fields")]
    TooManyFields,
    /// More bytes before a chunk's data than are read.
    #[error("the line of a chunk's size is too long")]
    ChunkLineTooLong,
    /// A head that has begun and doesn't end in time (RFC 9110 section 15.5.9).
    #[error("the header section was not complete in time")]
    HeadTimeout,
    /// More bytes or field lines behind a chunked body than are read.
    #[error("the trailer section is too large")]
    TrailerSectionTooLarge,
}

impl Refusal {
    /// The status that it is answered with (RFC 9110 section 15.5, RFC 6585 section 5).
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::RequestLineTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge | Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The kind of refusal, for metrics and logs.
    #[must_use]
    pub fn kind(self) -> RefusalKind {
        match self {
            Self::BareLf
            | Self::BareCr
            | Self::Nul
            | Self::ObsFold
            | Self::WhitespaceBeforeColon
            | Self::FieldName
            | Self::RequestLine
            | Self::Version
            | Self::Target => RefusalKind::Syntax,
            Self::HostMissing | Self::HostRepeated | Self::Host | Self::HostMismatch => {
                RefusalKind::Host
            }
            Self::ContentLength
            | Self::ContentLengthRepeated
            | Self::ContentLengthWithTransferEncoding
            | Self::TransferEncoding
            | Self::TransferEncodingInHttp10
            | Self::FramingFieldLookalike
            | Self::ConnectBody
            | Self::ChunkSize
            | Self::ChunkExtension
            | Self::ChunkLineEnd
            | Self::ChunkEnd
            | Self::TrailerField
            | Self::AheadOfUpgrade => RefusalKind::Framing,
            Self::RequestLineTooLong
            | Self::HeadTooLarge
            | Self::TooManyFields
            | Self::ChunkLineTooLong
            | Self::TrailerSectionTooLarge => RefusalKind::TooLarge,
            Self::HeadTimeout => RefusalKind::Timeout,
        }
    }
}

/// Refusals by what of a request they are about: few enough to count each.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RefusalKind {
    /// A line of the head is not as the grammar has it.
    Syntax,
    /// It isn't clear whom the request is for.
    Host,
    /// It isn't clear where the request ends.
    Framing,
    /// A part of it is larger than its limit.
    TooLarge,
    /// A part of it has not come in time.
    Timeout,
}

impl RefusalKind {
    /// A stable word for it: `syntax`, `host`, `framing`, `too_large` or `timeout`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Host => "host",
            Self::Framing => "framing",
            Self::TooLarge => "too_large",
            Self::Timeout => "timeout",
        }
    }
}
