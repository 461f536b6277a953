//! Application protocols: declared by a Service's port, or detected in a client's first
//! bytes.

use crate::service::ServicePort;

/// Application protocol that a Service declares for a port.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DeclaredProtocol {
    /// HTTP; clients may use either version.
    Http,
    /// HTTP/2 without TLS (`kubernetes.io/h2c`, gRPC).
    Http2,
    /// TLS, terminated by the application itself.
    Tls,
    /// Anything else, not to be looked at.
    Opaque,
    /// Nothing is declared: the first bytes decide.
    Unknown,
}

impl DeclaredProtocol {
    /// The protocol of a port, by `appProtocol` (KEP-1422 and Kubernetes' standard names),
    /// else by the port's name, as Istio does: what is declared counts alone, also where
    /// nobody here knows it, and of both the part up to a dash.
    pub fn from_port(port: &ServicePort) -> Self {
        let declared = if port.app_protocol.is_empty() {
            &port.name
        } else {
            &port.app_protocol
        };
        let declared = declared.to_ascii_lowercase();
        // The one with a dash of its own.
        if declared == "grpc-web" || declared.starts_with("grpc-web-") {
            return Self::Http;
        }
        Self::from_name(declared.split('-').next().unwrap_or_default())
    }

    /// The protocol of a port that two Services have in common: opaque where one of them
    /// declares that (a port that declares nothing is unknown, not opaque), else TLS, which
    /// isn't looked into either, else HTTP of either version, else HTTP/2, else unknown.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Opaque, _) | (_, Self::Opaque) => Self::Opaque,
            (Self::Tls, _) | (_, Self::Tls) => Self::Tls,
            (Self::Http, _) | (_, Self::Http) => Self::Http,
            (Self::Http2, _) | (_, Self::Http2) => Self::Http2,
            (Self::Unknown, Self::Unknown) => Self::Unknown,
        }
    }

    fn from_name(name: &str) -> Self {
        match name {
            "http" | "kubernetes.io/ws" | "ws" => Self::Http,
            "http2" | "h2c" | "kubernetes.io/h2c" | "grpc" => Self::Http2,
            "https" | "tls" | "kubernetes.io/wss" | "wss" => Self::Tls,
            "tcp" | "mysql" | "redis" | "mongo" | "postgres" | "postgresql" | "amqp" | "kafka"
            | "smtp" | "ssh" => Self::Opaque,
            _ => Self::Unknown,
        }
    }
}

/// Application protocol that a client's first bytes show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DetectedProtocol {
    /// HTTP/1.
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 section 3.3).
    Http2,
    /// A TLS ClientHello.
    Tls,
    /// Something else.
    Opaque,
}

/// Client connection preface of HTTP/2 (RFC 9113 section 3.4).
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest method that is recognized; any token is one (RFC 9110 section 9.1), and
/// `VERSION-CONTROL` and `BASELINE-CONTROL` of WebDAV are the longest of the IANA registry.
const MAX_METHOD_LENGTH: usize = 64;
/// White space before a request that is looked behind.
const MOST_BLANKS: usize = 16;

/// The protocol of a connection that begins with these bytes; `None` when more are needed.
/// 1200 bytes always decide.
///
/// HTTP/1 is all that could be taken for a request, in any version and with any method: the
/// reader of requests refuses what is malformed, and a server might not.
pub fn detect_protocol(first: &[u8]) -> Option<DetectedProtocol> {
    if first.is_empty() {
        return None;
    }
    let length = first.len().min(HTTP2_PREFACE.len());
    if first[..length] == HTTP2_PREFACE[..length] {
        // `PRI` alone could still become a method of HTTP/1, so all of it is awaited.
        return (length == HTTP2_PREFACE.len()).then_some(DetectedProtocol::Http2);
    }
    // A TLS record of the type handshake, version 3.x (RFC 8446 section 5.1).
    match first {
        [0x16] => return None,
        [0x16, 0x03, ..] => return Some(DetectedProtocol::Tls),
        _ => {}
    }
    // Servers skip empty lines before a request (RFC 9112 section 2.2), some also white space.
    let blank = first
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n' | b' '))
        .count();
    if blank > MOST_BLANKS {
        return Some(DetectedProtocol::Opaque);
    }
    let first = &first[blank..];
    let method = first
        .iter()
        .take_while(|byte| is_method_byte(**byte))
        .count();
    match first.get(method) {
        None if method <= MAX_METHOD_LENGTH => None,
        Some(b' ') if (1..=MAX_METHOD_LENGTH).contains(&method) => {
            detect_request_line(&first[method + 1..])
        }
        _ => Some(DetectedProtocol::Opaque),
    }
}

/// What follows the method's space. A version ends the line (RFC 9112 section 3), or stands
/// where a server may find it; words of other protocols of text have none.
fn detect_request_line(rest: &[u8]) -> Option<DetectedProtocol> {
    // A line that goes on for longer than what was read is HTTP, as far as one can tell.
    match rest.iter().position(|byte| *byte == b'\n') {
        None if rest.len() < 1024 => None,
        None => Some(DetectedProtocol::Http1),
        Some(end) => {
            let mut words = rest[..end].split(u8::is_ascii_whitespace);
            Some(match words.any(|word| word.starts_with(b"HTTP/")) {
                true => DetectedProtocol::Http1,
                false => DetectedProtocol::Opaque,
            })
        }
    }
}

/// A character of a token (RFC 9110 section 5.6.2).
fn is_method_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn port(name: &str, app_protocol: &str) -> ServicePort {
        ServicePort {
            name: name.into(),
            port: 80,
            app_protocol: app_protocol.into(),
            node_port: None,
        }
    }

    /// The declared protocol of a port, by its name and by its `appProtocol`.
    #[test]
    fn ports_are_spelled_as_the_field_does() {
        use DeclaredProtocol::{Http, Http2, Opaque, Tls, Unknown};
        for (name, app_protocol, expected) in [
            ("http", "", Http),
            ("http-web", "", Http),
            ("http-proxy", "", Http),
            ("http2", "", Http2),
            ("http2-api", "", Http2),
            ("grpc", "", Http2),
            ("grpc-api", "", Http2),
            ("grpc-web", "", Http),
            ("grpc-web-api", "", Http),
            ("grpc-website", "", Http2),
            ("https", "", Tls),
            ("https-web", "", Tls),
            ("tls", "", Tls),
            ("tls-mqtt", "", Tls),
            ("tcp", "", Opaque),
            ("tcp-http", "", Opaque),
            ("mongo", "", Opaque),
            ("mongo-0", "", Opaque),
            ("mysql", "", Opaque),
            ("mysql-primary", "", Opaque),
            ("redis", "", Opaque),
            ("redis-cache", "", Opaque),
            ("", "", Unknown),
            ("web", "", Unknown),
            ("web-http", "", Unknown),
            ("httpx", "", Unknown),
            ("metrics", "", Unknown),
            ("", "http", Http),
            ("", "HTTP", Http),
            ("", "Http2", Http2),
            ("", "h2c", Http2),
            ("", "GRPC", Http2),
            ("", "grpc-web", Http),
            ("", "gRPC-Web", Http),
            ("", "https", Tls),
            ("", "TLS", Tls),
            ("", "tcp", Opaque),
            ("", "TCP", Opaque),
            ("", "ws", Http),
            ("", "wss", Tls),
            ("", "kubernetes.io/h2c", Http2),
            ("", "kubernetes.io/ws", Http),
            ("", "kubernetes.io/wss", Tls),
            // One counts, not both.
            ("tcp-web", "http", Http),
            ("http", "tcp", Opaque),
            ("http", "kubernetes.io/h2c", Http2),
            ("http", "example.com/http", Unknown),
            ("tcp", "example.com/own", Unknown),
            ("http", "ldap", Unknown),
        ] {
            let declared = DeclaredProtocol::from_port(&port(name, app_protocol));
            assert_eq!(declared, expected, "`{name}`, appProtocol `{app_protocol}`");
        }
    }

    #[test]
    fn of_two_declarations_the_one_that_looks_at_less_counts() {
        use DeclaredProtocol::{Http, Http2, Opaque, Tls, Unknown};
        let order = [Opaque, Tls, Http, Http2, Unknown];
        for (index, first) in order.into_iter().enumerate() {
            for second in order.into_iter().skip(index) {
                assert_eq!(first.merge(second), first, "{first:?} {second:?}");
                assert_eq!(second.merge(first), first, "{second:?} {first:?}");
            }
        }
    }

    #[test]
    fn first_bytes_tell_what_is_spoken() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(DetectedProtocol::Http1)),
            (b"OPTIONS * HTTP/1.0\n", Some(DetectedProtocol::Http1)),
            (b"GET / HTTP/1", None),
            (b"GE", None),
            (HTTP2_PREFACE, Some(DetectedProtocol::Http2)),
            (&HTTP2_PREFACE[..10], None),
            (b"PRI / HTTP/1.1\r\n", Some(DetectedProtocol::Http1)),
            (b"\x16\x03\x01\x02", Some(DetectedProtocol::Tls)),
            (b"\x16", None),
            (b"\x16\x00", Some(DetectedProtocol::Opaque)),
            (b"SET a b\r\n", Some(DetectedProtocol::Opaque)),
            (b"EHLO example.org\r\n", Some(DetectedProtocol::Opaque)),
            (b"*1\r\n$4\r\nPING\r\n", Some(DetectedProtocol::Opaque)),
            (b"\0\0\0\x08", Some(DetectedProtocol::Opaque)),
            (b"\r\n\r\n", None),
            (&[b' '; 17], Some(DetectedProtocol::Opaque)),
            (b"GET /\r\n", Some(DetectedProtocol::Opaque)),
            (b"GET\t/ HTTP/1.1\r\n", Some(DetectedProtocol::Opaque)),
            (b"SSH-2.0-OpenSSH\r\n", Some(DetectedProtocol::Opaque)),
            // Any token is a method, and other versions are refused as what they are.
            (b"get / HTTP/1.1\r\n", Some(DetectedProtocol::Http1)),
            (b"M-SEARCH.x1 * HTTP/1.1\r\n", Some(DetectedProtocol::Http1)),
            (b"GET / HTTP/2.0\r\n", Some(DetectedProtocol::Http1)),
            (b"GET / HTTP/1.1 \r\n", Some(DetectedProtocol::Http1)),
            (b"GET ?x HTTP/1.1\r\n", Some(DetectedProtocol::Http1)),
            (b"GET \xe9 HTTP/1.1\r\n", Some(DetectedProtocol::Http1)),
            // Some servers take these for requests, so rules have to see them.
            (b"\r\nGET / HTTP/1.1\r\n", Some(DetectedProtocol::Http1)),
            (b" GET / HTTP/1.1\r\n", Some(DetectedProtocol::Http1)),
            (b"GET  / HTTP/1.1\r\n", Some(DetectedProtocol::Http1)),
        ] {
            assert_eq!(
                detect_protocol(bytes),
                expected,
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    proptest! {
        /// What was told of the first bytes stays true when more follow.
        #[test]
        fn more_bytes_change_no_answer(bytes in prop::collection::vec(any::<u8>(), 0..80), begin in 0usize..4, cut in 0usize..80) {
            let begins: [&[u8]; 4] = [b"", b"GET /", HTTP2_PREFACE, b"\x16\x03"];
            let all = [begins[begin], bytes.as_slice()].concat();
            let cut = cut.min(all.len());
            if let Some(early) = detect_protocol(&all[..cut]) {
                prop_assert_eq!(detect_protocol(&all), Some(early));
            }
        }

        #[test]
        fn enough_bytes_always_decide(bytes in prop::collection::vec(any::<u8>(), 1200..1300)) {
            prop_assert!(detect_protocol(&bytes).is_some());
        }
    }
}
