//! What of a message is between two hops only, and what it takes to send it on.

use http::header::{CONNECTION, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};

/// Fields that concern one connection (RFC 9110 section 7.6.1), beside those that
/// `Connection` names.
const HOP_BY_HOP: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What a client asked for, as the proxy needs to know it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Asked {
    /// `host` or `host:port`: `:authority`, else `Host`; empty where there is none
    /// (HTTP/1.0).
    pub(crate) authority: String,
    /// Whether it is gRPC.
    pub(crate) grpc: bool,
    /// The protocol that the connection shall change to.
    pub(crate) upgrade: Option<HeaderValue>,
    /// Whether it is CONNECT: bytes after a response of success.
    pub(crate) connect: bool,
    /// Of HTTP/2.
    pub(crate) http2: bool,
}

impl Asked {
    /// Reads it from a request.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        let authority = match request.uri().authority() {
            Some(authority) => authority.as_str().to_owned(),
            None => {
                let host = headers.get(HOST).map(|host| host.as_bytes());
                String::from_utf8_lossy(host.unwrap_or_default()).into_owned()
            }
        };
        let http2 = request.version() == Version::HTTP_2;
        let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        Self {
            authority,
            grpc: is_grpc(content_type.unwrap_or_default()),
            upgrade: upgrade(headers).filter(|_| !http2),
            connect: request.method() == Method::CONNECT,
            http2,
        }
    }

    /// Puts HTTP/2's `:authority` where HTTP/1 has it, so that rules for `Host` match
    /// either (GEP-1294).
    pub(crate) fn show_host(&self, headers: &mut HeaderMap) {
        if self.http2
            && !headers.contains_key(HOST)
            && let Ok(host) = HeaderValue::try_from(&self.authority)
        {
            headers.insert(HOST, host);
        }
    }

    /// The host, without port.
    pub(crate) fn host(&self) -> &str {
        let authority = self.authority.as_str();
        match authority.rsplit_once(':') {
            // Colons of an IPv6 address are within brackets.
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        }
    }

    /// Whether the connection is for other bytes once it was answered.
    pub(crate) fn changes_protocol(&self) -> bool {
        self.connect || self.upgrade.is_some()
    }

    /// Whether a response with that status changes the protocol.
    pub(crate) fn is_changed_by(&self, status: StatusCode) -> bool {
        match self.connect {
            true => status.is_success(),
            false => self.upgrade.is_some() && status == StatusCode::SWITCHING_PROTOCOLS,
        }
    }
}

/// `application/grpc`, `application/grpc+proto` and the like; gRPC-Web is HTTP.
fn is_grpc(content_type: &[u8]) -> bool {
    let rest = content_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// What `Upgrade` says, when `Connection` names it.
fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get(UPGRADE)?;
    let named = connection_options(headers).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    named.then(|| wanted.clone())
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(CONNECTION).into_iter();
    let options = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    options.map(<[u8]>::trim_ascii)
}

/// Takes away what concerns the connection that the message came on.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<_> = connection_options(headers)
            .filter_map(|option| HeaderName::from_bytes(option).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    // gRPC asks by it whether trailers reach the client: they do.
    let trailers = headers.get(TE).is_some_and(|te| te == "trailers");
    if !trailers {
        headers.remove(TE);
    }
}

/// Puts back what changes the protocol.
pub(crate) fn restore_upgrade(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol.clone());
}

/// What can't be sent on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the request has no host that it could be sent on to by HTTP/2")]
pub(crate) struct NoAuthority;

/// Target and `Host` as the next hop's version of HTTP has them: HTTP/2 puts the host
/// into the target (RFC 9113 section 8.3.1), HTTP/1 into a field (RFC 9112 section 3.2).
///
/// # Errors
/// When there is no host, or none that a target can have.
pub(crate) fn address(
    target: &Uri,
    authority: &str,
    connect: bool,
    headers: &mut HeaderMap,
    http2: bool,
) -> Result<Uri, NoAuthority> {
    let path = || {
        let path = target.path_and_query().cloned();
        path.unwrap_or_else(|| PathAndQuery::from_static("/"))
    };
    if http2 {
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
        let mut grpc = headers(&[("te", "trailers")]);
        strip_hop_by_hop(&mut grpc);
        assert!(grpc.contains_key(TE));
    }

    #[test]
    fn an_upgrade_is_one_only_when_the_connection_names_it() {
        let asked = |pairs: &[(&'static str, &'static str)]| {
            let mut request = Request::get("/").body(()).unwrap();
            *request.headers_mut() = headers(pairs);
            Asked::of(&request)
        };
        let upgrade = asked(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
        ]);
        assert!(upgrade.is_changed_by(StatusCode::SWITCHING_PROTOCOLS));
        assert!(!upgrade.is_changed_by(StatusCode::OK));
        assert!(!asked(&[("upgrade", "websocket")]).changes_protocol());
    }

    #[test]
    fn rules_for_the_host_see_that_of_either_version() {
        let mut request = Request::get("http://web:80/").body(()).unwrap();
        *request.version_mut() = Version::HTTP_2;
        let asked = Asked::of(&request);
        asked.show_host(request.headers_mut());
        assert_eq!(request.headers()[HOST], "web:80");
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (text, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(text.as_bytes()), grpc, "{text}");
        }
    }

    #[test]
    fn the_host_is_where_each_version_of_http_has_it() {
        let target: Uri = "/a?b=c".parse().unwrap();
        let mut all = headers(&[("host", "web:8080")]);
        let two = address(&target, "web:8080", false, &mut all, true).unwrap();
        assert_eq!(two.to_string(), "http://web:8080/a?b=c");
        assert!(all.is_empty());
        let one = address(&two, "web:8080", false, &mut all, false).unwrap();
        assert_eq!(one.to_string(), "/a?b=c");
        assert_eq!(all["host"], "web:8080");
        assert_eq!(
            address(&target, "", false, &mut all, true),
            Err(NoAuthority)
        );
        let connect: Uri = "web:80".parse().unwrap();
        let connect = address(&connect, "web:80", true, &mut all, false).unwrap();
        assert_eq!(connect.to_string(), "web:80");
    }

    #[test]
    fn a_host_is_told_from_its_port() {
        for (authority, host) in [
            ("web", "web"),
            ("web:80", "web"),
            ("[fd00::1]:80", "[fd00::1]"),
            ("[fd00::1]", "[fd00::1]"),
        ] {
            let request = Request::get(format!("http://{authority}/"))
                .body(())
                .unwrap();
            assert_eq!(Asked::of(&request).host(), host);
        }
    }
}
