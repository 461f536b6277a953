//! Headers that concern one hop only, and what a message needs to be sent on to the next.

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::response::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::Body;

/// Letters of the names of HTTP/1's fields, which nobody has to tell apart (RFC 9110 section
/// 5.1), and some do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FieldNames {
    /// As HTTP/2 has them.
    Lowercase,
    /// As they came.
    AsSent,
}

/// Fields that concern one connection (RFC 9110 section 7.6.1), beside those that
/// `Connection` names.
const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    // Of an upgrade to HTTP/2 (RFC 7540 section 3.2.1), which is never passed on.
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The options of `Connection`, over all its lines (RFC 9110 section 7.6.1).
pub(super) fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(CONNECTION).into_iter();
    let options = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    options.map(<[u8]>::trim_ascii)
}

/// Whether the sender of a head keeps its connection for another message, as it says itself
/// (RFC 9112 section 9.3).
pub(crate) fn keeps_connection(version: Version, headers: &HeaderMap) -> bool {
    let has = |wanted: &[u8]| {
        let mut options = connection_options(headers);
        options.any(|option| option.eq_ignore_ascii_case(wanted))
    };
    match version {
        Version::HTTP_09 | Version::HTTP_10 => has(b"keep-alive") && !has(b"close"),
        _ => !has(b"close"),
    }
}

/// Removes what concerns the connection that the message came on.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // It asks whether trailers reach the client (gRPC does so): they do. Of HTTP/1 it is named
    // by Connection (RFC 9110 section 10.1.4).
    let takes_trailers = headers.get_all(TE).into_iter().any(|line| {
        let mut codings = line.as_bytes().split(|byte| *byte == b',');
        codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    if headers.contains_key(CONNECTION) {
        let named: Vec<_> = connection_options(headers)
            .filter_map(|option| HeaderName::from_bytes(option).ok())
            // By it the request was decided about (RFC 9110 section 7.6.1 names no end-to-end field).
            .filter(|name| *name != HOST)
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    match takes_trailers {
        true => headers.insert(TE, HeaderValue::from_static("trailers")),
        false => headers.remove(TE),
    };
}

/// Removes it from a response. One that asks for another protocol says which (RFC 9110 section
/// 15.5.22), to a client of HTTP/1.
pub(crate) fn strip_response(head: &mut Parts, http2: bool) {
    let mut asked = Vec::new();
    if head.status == StatusCode::UPGRADE_REQUIRED && !http2 {
        asked.extend(head.headers.get_all(UPGRADE).into_iter().cloned());
    }
    if is_chunked(&head.headers) {
        // Its chunks say where it ends, whatever its length does (RFC 9112 section 6.3).
        head.headers.remove(CONTENT_LENGTH);
    }
    strip_hop_by_hop(&mut head.headers);
    if !asked.is_empty() {
        let option = HeaderValue::from_static("upgrade");
        head.headers.insert(CONNECTION, option);
    }
    for protocols in asked {
        head.headers.append(UPGRADE, protocols);
    }
}

/// Whether a response's body is coded in a way that nobody undoes here: it would be passed on
/// without its coding's name (RFC 9112 section 7).
pub(crate) fn has_unknown_coding<B: Body>(response: &Response<B>) -> bool {
    let mut codings = transfer_codings(response.headers());
    !response.body().is_end_stream()
        && codings.any(|coding| {
            let known = [&b""[..], b"chunked", b"identity"];
            !known.iter().any(|known| coding.eq_ignore_ascii_case(known))
        })
}

fn is_chunked(headers: &HeaderMap) -> bool {
    transfer_codings(headers).any(|coding| coding.eq_ignore_ascii_case(b"chunked"))
}

fn transfer_codings(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(TRANSFER_ENCODING).into_iter();
    let codings = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    codings.map(<[u8]>::trim_ascii)
}

/// Puts back the request for another protocol, which concerns every hop of its way.
pub(crate) fn restore_upgrade(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol.clone());
}

/// The value of a cookie (RFC 6265 section 4.2.1).
pub fn cookie_value(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(COOKIE).into_iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';'));
    pairs.find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// What one field of a head costs beside its bytes: its place in a map of them, twice.
const PER_FIELD: usize = 128;

/// Bytes that the head of a request takes while it is under way: as it came, and as it waits for
/// the next hop.
pub(crate) fn head_bytes<B>(request: &Request<B>) -> usize {
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + PER_FIELD);
    let target = request
        .uri()
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    2 * (target + fields.sum::<usize>())
}

/// A request that can't be sent on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the request has no host that it could be sent on to by HTTP/2")]
pub(crate) struct NoAuthority;

/// How a request's target is written for the next hop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TargetForm {
    /// Path and query, as a server of HTTP/1 has it (RFC 9112 section 3.2.1).
    Origin,
    /// The whole URL, as a client sent it that takes the next hop for a proxy of HTTP/1 (RFC
    /// 9112 section 3.2.2).
    Absolute,
    /// As HTTP/2 has it.
    Http2,
}

/// Target and `Host` as the next hop's version of HTTP has them: HTTP/2 puts the host
/// into the target (RFC 9113 section 8.3.1), HTTP/1 into a field (RFC 9112 section 3.2).
///
/// # Errors
/// When there is no host, or none that a target can have.
pub(crate) fn target_for_next_hop(
    target: &Uri,
    authority: &str,
    connect: bool,
    headers: &mut HeaderMap,
    form: TargetForm,
) -> Result<Uri, NoAuthority> {
    let path = || {
        let path = target.path_and_query().cloned();
        path.unwrap_or_else(|| PathAndQuery::from_static("/"))
    };
    if form == TargetForm::Http2 {
        let authority = Authority::try_from(authority).map_err(|_| NoAuthority)?;
        headers.remove(HOST);
        let mut parts = http::uri::Parts::default();
        parts.authority = Some(authority);
        // Plain CONNECT has neither (RFC 9113 section 8.5).
        if !connect || target.path_and_query().is_some() {
            parts.scheme = Some(Scheme::HTTP);
            parts.path_and_query = Some(path());
        }
        return Uri::from_parts(parts).map_err(|_| NoAuthority);
    }
    if !authority.is_empty() {
        let host = HeaderValue::from_str(authority).map_err(|_| NoAuthority)?;
        headers.insert(HOST, host);
    }
    if connect {
        return Uri::try_from(authority).map_err(|_| NoAuthority);
    }
    if let (TargetForm::Absolute, Some(scheme)) = (form, target.scheme()) {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(scheme.clone());
        parts.authority = Some(Authority::try_from(authority).map_err(|_| NoAuthority)?);
        parts.path_and_query = Some(path());
        return Uri::from_parts(parts).map_err(|_| NoAuthority);
    }
    Ok(Uri::from(path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn what_concerns_one_connection_goes_no_further() {
        let mut all = headers(&[
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("x-other", "2"),
        ]);
        strip_hop_by_hop(&mut all);
        assert_eq!(all, headers(&[("x-other", "2")]));
        let mut host = headers(&[("host", "web"), ("connection", "Host, close")]);
        strip_hop_by_hop(&mut host);
        assert_eq!(host, headers(&[("host", "web")]));
        for (connection, te) in [("x", "trailers"), ("TE", "gzip, Trailers")] {
            let mut kept = headers(&[("te", te), ("connection", connection)]);
            strip_hop_by_hop(&mut kept);
            assert_eq!(kept, headers(&[("te", "trailers")]));
        }
    }

    #[test]
    fn the_host_is_where_each_version_of_http_has_it() {
        let target: Uri = "/a?b=c".parse().unwrap();
        let mut all = headers(&[("host", "web:8080")]);
        let two =
            target_for_next_hop(&target, "web:8080", false, &mut all, TargetForm::Http2).unwrap();
        assert_eq!(two.to_string(), "http://web:8080/a?b=c");
        assert!(all.is_empty());
        let one =
            target_for_next_hop(&two, "web:8080", false, &mut all, TargetForm::Origin).unwrap();
        assert_eq!(one.to_string(), "/a?b=c");
        assert_eq!(all["host"], "web:8080");
        assert_eq!(
            target_for_next_hop(&target, "", false, &mut all, TargetForm::Http2),
            Err(NoAuthority)
        );
        let connect: Uri = "web:80".parse().unwrap();
        let connect = target_for_next_hop(&connect, "web:80", true, &mut all, TargetForm::Origin);
        assert_eq!(connect.unwrap().to_string(), "web:80");
        // To a proxy, and with the host that a filter chose.
        let url: Uri = "https://example.test/a?b=c".parse().unwrap();
        let url = target_for_next_hop(&url, "other", false, &mut all, TargetForm::Absolute);
        assert_eq!(url.unwrap().to_string(), "https://other/a?b=c");
        assert_eq!(all["host"], "other");
    }
}
