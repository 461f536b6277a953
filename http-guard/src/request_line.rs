//! The start line of a request: `method SP request-target SP HTTP-version` (RFC 9112
//! section 3).

use crate::authority::Authority;
use crate::characters::is_token_char;
use crate::refusal::Refusal;

/// A request line, as far as it says how the request is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RequestLine<'a> {
    /// The method is CONNECT.
    pub(crate) is_connect: bool,
    /// The version is HTTP/1.0, else HTTP/1.1.
    pub(crate) is_http10: bool,
    /// Whom the target names; `None` where Host alone does.
    pub(crate) target: Option<TargetAuthority<'a>>,
}

/// Host and port that a request target names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TargetAuthority<'a> {
    /// The two, as the target has them.
    pub(crate) text: &'a [u8],
    /// The port that is meant where Host, or the target, has none.
    pub(crate) implied_port: ImpliedPort,
}

/// The port that is meant when none is said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ImpliedPort {
    /// The scheme's.
    OfScheme(&'static [u8]),
    /// The target's: it always has one.
    OfTarget,
}

impl<'a> RequestLine<'a> {
    /// Reads a line without its CRLF. Its three parts are separated by one space each,
    /// and there is no other.
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, Refusal> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::RequestLine);
        };
        let is_token = !method.is_empty() && method.iter().all(|byte| is_token_char(*byte));
        if !is_token || target.is_empty() {
            return Err(Refusal::RequestLine);
        }
        let is_http10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ if version.starts_with(b"HTTP/") => return Err(Refusal::Version),
            _ => return Err(Refusal::RequestLine),
        };
        Ok(Self {
            is_connect: method == b"CONNECT",
            is_http10,
            target: parse_target(method, target).ok_or(Refusal::Target)?,
        })
    }
}

/// Whom a target names, or `None` when it has none of the four forms, or not the one that
/// its method needs (RFC 9112 section 3.2).
fn parse_target<'a>(method: &[u8], target: &'a [u8]) -> Option<Option<TargetAuthority<'a>>> {
    let is_bad = |byte: &u8| *byte <= b' ' || *byte == 0x7f || *byte == b'#';
    if target.iter().any(is_bad) {
        return None;
    }
    match target {
        _ if method == b"CONNECT" => parse_authority_form(target).map(Some),
        [b'/', ..] => Some(None),
        b"*" if method == b"OPTIONS" => Some(None),
        _ => parse_absolute_form(target).map(Some),
    }
}

/// `host:port`, which has both (RFC 9110 section 9.3.6).
fn parse_authority_form(target: &[u8]) -> Option<TargetAuthority<'_>> {
    let is_connectable = Authority::parse(target)?.is_connectable();
    is_connectable.then_some(TargetAuthority {
        text: target,
        implied_port: ImpliedPort::OfTarget,
    })
}

/// `http://host[:port]/...`, and the same with `https`.
fn parse_absolute_form(target: &[u8]) -> Option<TargetAuthority<'_>> {
    let (rest, port) = match strip_scheme(target, b"http://") {
        Some(rest) => (rest, &b"80"[..]),
        None => (strip_scheme(target, b"https://")?, &b"443"[..]),
    };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
    let text = &rest[..end.unwrap_or(rest.len())];
    let has_host = !Authority::parse(text)?.host.is_empty();
    has_host.then_some(TargetAuthority {
        text,
        implied_port: ImpliedPort::OfScheme(port),
    })
}

fn strip_scheme<'a>(target: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = target.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}
