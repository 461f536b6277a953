//! The start line of a request: `method SP request-target SP HTTP-version` (RFC 9112
//! section 3).

use crate::authority::Authority;
use crate::characters::is_token_char;
use crate::refusal::Refusal;

/// A request line, as far as it says how the request is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RequestLine<'a> {
    /// The request's target.
    pub(crate) target: &'a [u8],
    /// The version is HTTP/1.0, else HTTP/1.1.
    pub(crate) is_http10: bool,
    /// Where the tunnel shall lead that CONNECT asks for.
    pub(crate) tunnel: Option<&'a [u8]>,
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
            target,
            is_http10,
            tunnel: parse_target(method, target).ok_or(Refusal::Target)?,
        })
    }
}

/// Where a tunnel shall lead, if one is asked for; `None` when the target has none of the four
/// forms, or not the one that its method needs (RFC 9112 section 3.2).
fn parse_target<'a>(method: &[u8], target: &'a [u8]) -> Option<Option<&'a [u8]>> {
    let is_bad = |byte: &u8| *byte <= b' ' || *byte == 0x7f || *byte == b'#';
    if target.iter().any(is_bad) {
        return None;
    }
    match target {
        // `host:port`, which has both (RFC 9110 section 9.3.6).
        _ if method == b"CONNECT" => {
            let is_connectable = Authority::parse(target)?.is_connectable();
            is_connectable.then_some(Some(target))
        }
        [b'/', ..] => Some(None),
        b"*" if method == b"OPTIONS" => Some(None),
        _ => is_absolute_form(target).then_some(None),
    }
}

/// `http://host[:port]/...`, and the same with `https`. Its host wins over the Host field
/// (RFC 9112 section 3.2.2), which whoever sends the request on has to set by it.
fn is_absolute_form(target: &[u8]) -> bool {
    let rest = strip_scheme(target, b"http://").or_else(|| strip_scheme(target, b"https://"));
    let Some(rest) = rest else {
        return false;
    };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
    let authority = Authority::parse(&rest[..end.unwrap_or(rest.len())]);
    authority.is_some_and(|authority| !authority.host.is_empty())
}

fn strip_scheme<'a>(target: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = target.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}
