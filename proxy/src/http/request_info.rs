//! What the proxy needs to know of a request, read once from its head.

use http::header::{CONTENT_TYPE, HOST, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use hyper::ext::Protocol;

use super::headers::connection_options;

/// The properties of a request that decide how it is handled, whatever its route says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RequestInfo {
    /// `host` or `host:port`: `:authority`, else `Host`; empty where there is none
    /// (HTTP/1.0).
    pub(crate) authority: String,
    /// Whether it is a gRPC call.
    pub(crate) grpc: bool,
    /// The protocols that an HTTP/1 client would upgrade the connection to, as far as they
    /// are passed on. In HTTP/1.0 it asks for nothing (RFC 9110 section 7.8).
    pub(crate) upgrade: Option<HeaderValue>,
    /// Whether it is CONNECT: bytes follow a successful response.
    pub(crate) connect: bool,
    /// Whether it is a CONNECT to a protocol that carries requests itself (RFC 8441): no rule or
    /// limit would see those.
    pub(crate) hides_requests: bool,
    /// Whether it came over HTTP/2.
    pub(crate) http2: bool,
    /// Whether it came over HTTP/1.0.
    pub(crate) http10: bool,
    /// Whether an HTTP/1 client sent a URL for its target, as to a forward proxy (RFC 9112
    /// section 3.2.2).
    pub(crate) has_url: bool,
}

impl RequestInfo {
    /// Reads a request's head.
    pub(crate) fn read<B>(request: &Request<B>) -> Self {
        let headers = request.headers();
        let authority = match request.uri().authority() {
            Some(authority) => authority.as_str().to_owned(),
            None => {
                let host = headers.get(HOST).map(|host| host.as_bytes());
                String::from_utf8_lossy(host.unwrap_or_default()).into_owned()
            }
        };
        let http2 = request.version() == Version::HTTP_2;
        let http10 = request.version() == Version::HTTP_10;
        let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        Self {
            authority,
            grpc: is_grpc(content_type.unwrap_or_default()),
            upgrade: requested_upgrade(headers).filter(|_| !http2 && !http10),
            connect: request.method() == Method::CONNECT,
            hides_requests: request
                .extensions()
                .get::<Protocol>()
                .is_some_and(|protocol| carries_requests(protocol.as_str().as_bytes())),
            http2,
            http10,
            has_url: !http2 && request.uri().scheme().is_some(),
        }
    }

    /// Puts HTTP/2's `:authority` where HTTP/1 has it, so that rules for `Host` match
    /// either (GEP-1294), and that or a URL's host in place of a `Host` that says something else
    /// (RFC 9113 section 8.3.1, RFC 9112 section 3.2.2): rules see what the server will.
    pub(crate) fn set_host(&self, headers: &mut HeaderMap) {
        if (self.has_url || self.http2)
            && !self.authority.is_empty()
            && let Ok(host) = HeaderValue::try_from(&self.authority)
        {
            headers.insert(HOST, host);
        }
    }

    /// The host, without port.
    pub(crate) fn host(&self) -> &str {
        host_without_port(&self.authority)
    }

    /// Whether the client wants the connection to carry something else than HTTP.
    pub(crate) fn wants_protocol_change(&self) -> bool {
        self.connect || self.upgrade.is_some()
    }

    /// Whether a response with that status grants it.
    pub(crate) fn protocol_changes_with(&self, status: StatusCode) -> bool {
        match self.connect {
            true => status.is_success(),
            false => self.upgrade.is_some() && status == StatusCode::SWITCHING_PROTOCOLS,
        }
    }
}

/// The host of `host` or `host:port`.
pub(crate) fn host_without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // Colons of an IPv6 address are within brackets.
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// `application/grpc`, `application/grpc+proto` and the like; gRPC-Web is HTTP.
fn is_grpc(content_type: &[u8]) -> bool {
    let rest = content_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The value of `Upgrade`, when `Connection` names it (RFC 9110 section 7.8), without the
/// protocols that carry requests themselves: no rule or limit would see those requests. A
/// server is free to stay with HTTP/1, so the client goes on as if it had.
fn requested_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get(UPGRADE)?;
    if !connection_options(headers).any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
        return None;
    }
    let protocols = wanted.as_bytes().split(|byte| *byte == b',');
    let protocols: Vec<_> = protocols.map(<[u8]>::trim_ascii).collect();
    if !protocols.iter().any(|protocol| carries_requests(protocol)) {
        return Some(wanted.clone());
    }
    let mut left = protocols;
    left.retain(|protocol| !carries_requests(protocol) && !protocol.is_empty());
    HeaderValue::from_bytes(&left.join(&b", "[..]))
        .ok()
        .filter(|value| !value.is_empty())
}

/// Whether that protocol is HTTP again (RFC 7540 section 3.2), or TLS with HTTP inside (RFC
/// 2817).
fn carries_requests(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next();
    let name = name.unwrap_or(protocol);
    [&b"h2c"[..], b"http", b"tls"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn read(pairs: &[(&'static str, &'static str)]) -> RequestInfo {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        let mut request = Request::get("/").body(()).unwrap();
        *request.headers_mut() = pairs.iter().map(pair).collect();
        RequestInfo::read(&request)
    }

    #[test]
    fn a_connect_to_a_protocol_that_carries_requests_is_told_from_others() {
        for (protocol, hides_requests) in [
            ("h2c", true),
            ("HTTP/2.0", true),
            ("http/1.1", true),
            ("TLS/1.2", true),
            ("websocket", false),
            ("connect-udp", false),
        ] {
            let mut request = Request::connect("web:80").body(()).unwrap();
            let protocol = Protocol::from_static(protocol);
            request.extensions_mut().insert(protocol.clone());
            let info = RequestInfo::read(&request);
            assert_eq!(info.hides_requests, hides_requests, "{protocol:?}");
        }
        let plain = Request::connect("web:80").body(()).unwrap();
        assert!(!RequestInfo::read(&plain).hides_requests);
    }

    #[test]
    fn an_upgrade_is_one_only_when_the_connection_names_it() {
        let upgrade = read(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
        ]);
        assert!(upgrade.protocol_changes_with(StatusCode::SWITCHING_PROTOCOLS));
        assert!(!upgrade.protocol_changes_with(StatusCode::OK));
        assert!(!read(&[("upgrade", "websocket")]).wants_protocol_change());
    }

    #[test]
    fn an_upgrade_that_would_hide_requests_is_not_passed_on() {
        for (wanted, passed) in [
            ("h2c", None),
            ("H2C", None),
            ("HTTP/2.0", None),
            ("TLS/1.0, HTTP/1.1", None),
            ("h2c, websocket", Some("websocket")),
            ("websocket", Some("websocket")),
            ("h2c-next", Some("h2c-next")),
        ] {
            let info = read(&[
                ("connection", "Upgrade, HTTP2-Settings"),
                ("upgrade", wanted),
            ]);
            let upgrade = info.upgrade.as_ref().map(|value| value.to_str().unwrap());
            assert_eq!(upgrade, passed, "{wanted}");
        }
    }

    #[test]
    fn rules_for_the_host_see_that_of_either_version() {
        let mut request = Request::get("http://web:80/").body(()).unwrap();
        *request.version_mut() = Version::HTTP_2;
        let info = RequestInfo::read(&request);
        info.set_host(request.headers_mut());
        assert_eq!(request.headers()[HOST], "web:80");
    }

    #[test]
    fn a_host_beside_that_of_http2_does_not_count() {
        let request = Request::get("http://admin/").header("host", "public");
        let mut request = request.header("host", "another").body(()).unwrap();
        *request.version_mut() = Version::HTTP_2;
        let info = RequestInfo::read(&request);
        info.set_host(request.headers_mut());
        let hosts: Vec<_> = request.headers().get_all(HOST).iter().collect();
        assert_eq!(info.host(), "admin");
        assert_eq!(hosts, ["admin"]);
    }

    #[test]
    fn the_host_of_a_url_wins_over_another_one() {
        let request = Request::get("http://example.test/a").header("host", "web");
        let mut request = request.body(()).unwrap();
        let info = RequestInfo::read(&request);
        info.set_host(request.headers_mut());
        assert_eq!(request.headers()[HOST], "example.test");
        assert!(info.has_url);
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
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
            assert_eq!(RequestInfo::read(&request).host(), host);
        }
    }
}
