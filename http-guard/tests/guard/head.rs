//! Request lines, field lines, and Host.

use weft_http_guard::Refusal;

use super::{inspect, with_fields, with_request_line};

#[test]
fn stray_bytes_in_lines_are_refused() {
    assert_eq!(with_fields("a: b\n"), Err(Refusal::BareLf));
    assert_eq!(with_fields("a: b\nc: d\r\n"), Err(Refusal::BareLf));
    assert_eq!(with_fields("a: b\rc: d\r\n"), Err(Refusal::BareCr));
    assert_eq!(with_fields("a: b\r\r\n"), Err(Refusal::BareCr));
    assert_eq!(with_fields("a: b\0\r\n"), Err(Refusal::Nul));
    assert_eq!(
        inspect(b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
        Err(Refusal::BareLf)
    );
    assert_eq!(
        inspect(b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
        Err(Refusal::BareLf)
    );
    assert_eq!(
        inspect(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        Err(Refusal::BareLf)
    );
}

#[test]
fn field_names_are_tokens_and_their_colon_follows_at_once() {
    assert_eq!(with_fields("a: b\r\n c\r\n"), Err(Refusal::ObsFold));
    assert_eq!(
        with_fields("a: b\r\n\tTransfer-Encoding: chunked\r\n"),
        Err(Refusal::ObsFold)
    );
    let first = b"GET / HTTP/1.1\r\n Host: a\r\n\r\n";
    assert_eq!(inspect(first), Err(Refusal::ObsFold));
    assert_eq!(
        with_fields("Content-Length : 5\r\n"),
        Err(Refusal::WhitespaceBeforeColon)
    );
    assert_eq!(
        with_fields("Content-Length\t: 5\r\n"),
        Err(Refusal::WhitespaceBeforeColon)
    );
    for bad in [
        "Content Length: 5",
        ": 5",
        "name",
        "na\u{e9}me: 5",
        "Content-Length\u{b}: 5",
        "a(b): 5",
    ] {
        assert_eq!(
            with_fields(&format!("{bad}\r\n")),
            Err(Refusal::FieldName),
            "{bad:?}"
        );
    }
}

#[test]
fn a_request_line_has_three_parts_and_a_version_that_we_speak() {
    for bad in [
        "GET  / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /a b HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /",
        "GET",
        "G\u{e9}T / HTTP/1.1",
        "GET / http/1.1",
        "GET /  HTTP/1.1",
    ] {
        assert_eq!(with_request_line(bad), Err(Refusal::RequestLine), "{bad:?}");
    }
    for bad in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/1.10", "HTTP/1"] {
        assert_eq!(
            with_request_line(&format!("GET / {bad}")),
            Err(Refusal::Version),
            "{bad:?}"
        );
    }
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(inspect(preface), Err(Refusal::Version));
}

#[test]
fn a_target_has_the_form_that_its_method_needs() {
    for bad in [
        "GET * HTTP/1.1",
        "GET path HTTP/1.1",
        "GET shop:8080 HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET /a\tb HTTP/1.1",
        "GET ftp://shop:8080/ HTTP/1.1",
        "GET http:///path HTTP/1.1",
        "GET http://user@shop:8080/ HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "CONNECT http://shop:8080 HTTP/1.1",
        "CONNECT user@shop:8080 HTTP/1.1",
    ] {
        assert_eq!(with_request_line(bad), Err(Refusal::Target), "{bad:?}");
    }
}

#[test]
fn there_is_one_host_and_that_of_a_url_wins_over_it() {
    assert_eq!(
        inspect(b"GET / HTTP/1.1\r\n\r\n"),
        Err(Refusal::HostMissing)
    );
    assert_eq!(with_fields("host: shop\r\n"), Err(Refusal::HostRepeated));
    for bad in ["a, b", "a b", "user@a", "a/b", "a\u{e9}", "http://a"] {
        let head = format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n");
        assert_eq!(inspect(head.as_bytes()), Err(Refusal::Host), "{bad:?}");
    }
    let absolute = |target: &str, host: &str| {
        inspect(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
    };
    assert_eq!(absolute("http://Shop/a", "shop"), Ok(1));
    assert_eq!(absolute("http://shop:80", "shop"), Ok(1));
    assert_eq!(absolute("HTTPS://[fd00::1]?q", "[fd00::1]:443"), Ok(1));
    for (target, host) in [
        ("http://shop/", "vault"),
        ("http://shop/", ""),
        ("http://shop:81/", "shop"),
        ("http://shop/", "shop:443"),
        ("http://sho/", "shop"),
    ] {
        assert_eq!(absolute(target, host), Ok(1), "{target} {host}");
    }
}

#[test]
fn a_host_ends_at_one_place() {
    for bad in [
        "shop:80:81",
        "shop:http",
        "fd00::1",
        "fd00::1:8080",
        "[fd00::1",
        "[fd00::1]8080",
        "a[fd00::1]",
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n");
        assert_eq!(inspect(head.as_bytes()), Err(Refusal::Host), "{bad:?}");
        let line = format!("GET http://{bad}/ HTTP/1.1");
        assert_eq!(with_request_line(&line), Err(Refusal::Target), "{bad:?}");
    }
}

#[test]
fn a_tunnel_leads_to_a_host_and_a_port_and_host_names_the_same() {
    for bad in [
        "shop",
        "shop:",
        "shop:0",
        "shop:65536",
        "shop:http",
        ":8080",
        "fd00::1:8080",
    ] {
        let line = format!("CONNECT {bad} HTTP/1.1");
        assert_eq!(with_request_line(&line), Err(Refusal::Target), "{bad:?}");
    }
    let connect = |target: &str, host: &str| {
        inspect(format!("CONNECT {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
    };
    assert_eq!(connect("shop:8080", "Shop:8080"), Ok(1));
    assert_eq!(connect("[fd00::1]:8080", "[fd00::1]:8080"), Ok(1));
    // Some clients leave the port away.
    assert_eq!(connect("shop:443", "shop"), Ok(1));
    for host in ["vault:8080", "shop:8081", "vault", ""] {
        assert_eq!(
            connect("shop:8080", host),
            Err(Refusal::HostMismatch),
            "{host:?}"
        );
    }
}
