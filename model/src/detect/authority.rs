//! The host that a client asks for by its first bytes: by TLS' server name, or by HTTP/1's
//! authority (RFC 9112 section 3.2).

use std::sync::Arc;

use crate::detect::client_hello::{self, MAX_CLIENT_HELLO_LENGTH};
use crate::detect::protocol::{DetectedProtocol, detect_protocol};
use crate::host::{HostSource, RequestedHost, normalize_host};

/// Header lines of one request that are looked at.
const MAX_HEADERS: usize = 100;

/// The host that the first bytes of a connection ask for. The outer `None` means that more
/// bytes are needed, the inner one that they ask for none. [`MAX_CLIENT_HELLO_LENGTH`]
/// bytes always decide.
pub fn requested_authority(first: &[u8]) -> Option<Option<RequestedHost>> {
    let requested = |source| move |name| RequestedHost { source, name };
    let decided = match detect_protocol(first) {
        None => None,
        Some(DetectedProtocol::Tls) => match client_hello::parse(first) {
            Ok(None) => None,
            Ok(Some(hello)) => Some(hello.server_name.map(requested(HostSource::ServerName))),
            Err(_) => Some(None),
        },
        Some(DetectedProtocol::Http1) => {
            let end = first.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            end.map(|end| http1_authority(&first[..end]).map(requested(HostSource::HttpAuthority)))
        }
        Some(DetectedProtocol::Http2 | DetectedProtocol::Opaque) => Some(None),
    };
    match first.len() >= MAX_CLIENT_HELLO_LENGTH {
        true => decided.or(Some(None)),
        false => decided,
    }
}

/// The host that a request is for; none where it could be understood in two ways.
fn http1_authority(head: &[u8]) -> Option<Arc<str>> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    let target = lines.next()?.split(' ').nth(1)?;
    let mut hosts = Vec::new();
    for (count, line) in lines.enumerate() {
        let (name, value) = line.split_once(':')?;
        if count == MAX_HEADERS || name.ends_with([' ', '\t']) || name.contains(['\r', '\n']) {
            return None;
        }
        if name.eq_ignore_ascii_case("host") {
            hosts.push(value.trim_matches([' ', '\t']));
        }
    }
    let [host] = hosts.as_slice() else {
        return None;
    };
    let host = match target.split_once("://") {
        // A proxy's form; what it says counts (RFC 9112 section 3.2.2).
        Some((_, rest)) => rest.split(['/', '?']).next()?,
        None => *host,
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    normalize_host(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(text: &str) -> Option<String> {
        let requested = requested_authority(text.as_bytes()).expect("more bytes needed");
        requested.map(|requested| {
            assert_eq!(requested.source, HostSource::HttpAuthority);
            requested.name.to_string()
        })
    }

    #[test]
    fn the_host_of_a_request_is_found() {
        for (head, name) in [
            (
                "GET / HTTP/1.1\r\nHost: A.example\r\n\r\n",
                Some("a.example"),
            ),
            (
                "GET / HTTP/1.1\r\nx: y\r\nHOST:a.example:8080 \r\n\r\nbody",
                Some("a.example"),
            ),
            (
                "GET http://b.example:80/x HTTP/1.1\r\nHost: a.example\r\n\r\n",
                Some("b.example"),
            ),
            (
                "GET / HTTP/1.1\r\nHost: a.example.\r\n\r\n",
                Some("a.example"),
            ),
            (
                "GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n",
                None,
            ),
            ("GET / HTTP/1.1\r\nHost : a.example\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nx\r\nHost: a.example\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", None),
            ("GET / HTTP/1.0\r\n\r\n", None),
            ("220 ready\r\n", None),
        ] {
            assert_eq!(host(head).as_deref(), name, "{head}");
        }
        assert_eq!(
            requested_authority(b"GET / HTTP/1.1\r\nHost: a.example\r\n"),
            None
        );
        assert_eq!(requested_authority(b""), None);
    }

    proptest! {
        #[test]
        fn enough_bytes_always_decide(begin in 0usize..4, byte in prop_oneof![Just(b'a'), Just(b'\n'), any::<u8>()]) {
            let begins: [&[u8]; 4] = [b"", b"GET / HTTP/1.1\r\nx: ", b"\x16\x03\x01", b"PRI"];
            let mut bytes = begins[begin].to_vec();
            bytes.resize(MAX_CLIENT_HELLO_LENGTH, byte);
            prop_assert!(requested_authority(&bytes).is_some());
        }
    }
}
