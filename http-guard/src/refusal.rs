//! What the guard refuses, and how it is answered.

use http::StatusCode;

/// Why a request was refused before anything parsed it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// A line that ends with LF alone (RFC 9112 section 2.2 lets servers take it, and
    /// some do: the shape that splits a request for one reader only).
    #[error("a line of the head ends with LF instead of CRLF")]
    BareLf,
    /// CR elsewhere than before LF.
    #[error("a line of the head holds a CR that no LF follows")]
    BareCr,
    /// NUL in a line.
    #[error("a line of the head holds NUL")]
    Nul,
    /// A line that begins with white space (RFC 9112 section 5.2).
    #[error("a header field is folded over several lines")]
    ObsFold,
    /// White space between name and colon (RFC 9112 section 5.1).
    #[error("white space stands between a field's name and its colon")]
    SpaceBeforeColon,
    /// No name, no colon, or a name that is no token.
    #[error("a field's name is empty or holds a character that names may not have")]
    FieldName,
    /// Not `METHOD SP TARGET SP VERSION`.
    #[error("the request line is not `METHOD TARGET HTTP/1.1`")]
    RequestLine,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("the request line has a version other than HTTP/1.0 and HTTP/1.1")]
    Version,
    /// A target that has none of the four forms (RFC 9112 section 3.2), or not the one
    /// that its method needs.
    #[error("the request's target is none that its method may have")]
    Target,
    /// HTTP/1.1 without Host.
    #[error("the request has no Host")]
    HostMissing,
    /// More than one Host.
    #[error("the request has more than one Host")]
    HostRepeated,
    /// A Host that is none.
    #[error("the Host is not a host with an optional port")]
    HostInvalid,
    /// The target names another host than Host does.
    #[error("the target names another host than the Host field")]
    HostDiffers,
    /// A Content-Length that is no number of bytes.
    #[error("the Content-Length is not a number")]
    LengthInvalid,
    /// More than one Content-Length, be they equal.
    #[error("the request has more than one Content-Length")]
    LengthRepeated,
    /// Both framings (RFC 9112 section 6.3, point 3).
    #[error("the request has both Content-Length and Transfer-Encoding")]
    LengthAndEncoding,
    /// A Transfer-Encoding other than one `chunked`.
    #[error("the Transfer-Encoding is not `chunked` alone")]
    Encoding,
    /// Transfer-Encoding in HTTP/1.0 (RFC 9112 section 6.1).
    #[error("an HTTP/1.0 request has a Transfer-Encoding")]
    EncodingInHttp10,
    /// CONNECT with a body, which has no meaning (RFC 9110 section 9.3.6).
    #[error("a CONNECT request has a body")]
    ConnectBody,
    /// A chunk size that is none, or that no number holds.
    #[error("a chunk's size is not a hexadecimal number of at most 64 bits")]
    ChunkSize,
    /// CR, LF or NUL inside a chunk's line, or a line too long.
    #[error("a chunk's line holds a stray CR, LF or NUL, or is too long")]
    ChunkLine,
    /// A chunk that doesn't end where its size says.
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    /// A trailer that would change the framing or the destination (RFC 9110
    /// section 6.5.1).
    #[error("a trailer field would change the request's framing or host")]
    TrailerField,
    /// More trailers than are read.
    #[error("the trailer section is too large")]
    TrailersTooLarge,
    /// More bytes in the request line than are read.
    #[error("the request line is too long")]
    RequestLineTooLong,
    /// More bytes before the body than are read.
    #[error("the header section is too large")]
    HeadTooLarge,
    /// More field lines before the body than are read.
    #[error("the header section has too many fields")]
    TooManyFields,
    /// Bytes behind a request for an upgrade that was not granted: the client takes them
    /// for another protocol, a server would take them for a request.
    #[error("bytes were sent ahead of the answer to an upgrade that was refused")]
    AheadOfUpgrade,
}

impl Refusal {
    /// The status that it is answered with.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::RequestLineTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge | Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The kind of refusal, for metrics and logs.
    #[must_use]
    pub fn kind(self) -> RefusalKind {
        match self {
            Self::RequestLineTooLong
            | Self::HeadTooLarge
            | Self::TooManyFields
            | Self::TrailersTooLarge => RefusalKind::TooLarge,
            Self::HostMissing | Self::HostRepeated | Self::HostInvalid | Self::HostDiffers => {
                RefusalKind::Host
            }
            Self::LengthInvalid
            | Self::LengthRepeated
            | Self::LengthAndEncoding
            | Self::Encoding
            | Self::EncodingInHttp10
            | Self::ConnectBody
            | Self::ChunkSize
            | Self::ChunkLine
            | Self::ChunkEnd
            | Self::TrailerField
            | Self::AheadOfUpgrade => RefusalKind::Framing,
            Self::BareLf
            | Self::BareCr
            | Self::Nul
            | Self::ObsFold
            | Self::SpaceBeforeColon
            | Self::FieldName
            | Self::RequestLine
            | Self::Version
            | Self::Target => RefusalKind::Syntax,
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
}

impl RefusalKind {
    /// A stable word for it: `syntax`, `host`, `framing` or `too_large`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Host => "host",
            Self::Framing => "framing",
            Self::TooLarge => "too_large",
        }
    }
}
