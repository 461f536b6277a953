//! Shapes that are refused, shapes that are not, and what holds for all of them.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{Either, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncReadExt;

use super::*;

/// The verdict on a whole input: how many requests, or why not.
fn verdict(input: &[u8]) -> Result<u64, Refusal> {
    let mut guard = Guard::default();
    match guard.feed(input) {
        Ok(_) => Ok(guard.requests()),
        Err(refused) => Err(refused.refusal),
    }
}

/// A GET with these lines added to its head.
fn with(lines: &str) -> Result<u64, Refusal> {
    verdict(format!("GET /path HTTP/1.1\r\nHost: shop\r\n{lines}\r\n").as_bytes())
}

/// A chunked POST with this body.
fn chunked(body: &str) -> Result<u64, Refusal> {
    let head = "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n";
    verdict(format!("{head}{body}").as_bytes())
}

/// A request with this request line.
fn line(line: &str) -> Result<u64, Refusal> {
    verdict(format!("{line}\r\nHost: shop:8080\r\n\r\n").as_bytes())
}

#[test]
fn ordinary_requests_pass() {
    assert_eq!(with(""), Ok(1));
    assert_eq!(with("Content-Length: 0\r\n"), Ok(1));
    assert_eq!(
        with("accept:*/*\r\nX-Empty:\r\nX-Spaced: \t a b \t\r\n"),
        Ok(1)
    );
    assert_eq!(line("OPTIONS * HTTP/1.1"), Ok(1));
    assert_eq!(line("GET /a?b=c&d=%20 HTTP/1.0"), Ok(1));
    assert_eq!(line("CONNECT shop:8080 HTTP/1.1"), Ok(1));
    assert_eq!(verdict(b"GET / HTTP/1.0\r\n\r\n"), Ok(1));
    assert_eq!(verdict(b"\r\n\r\nGET / HTTP/1.0\r\n\r\n"), Ok(1));
}

#[test]
fn a_body_is_skipped_by_its_length_and_the_next_request_begins_behind_it() {
    let body = "GET / HTTP/1.1\nnot a head";
    let length = body.len();
    let first = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
    let second = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(verdict(format!("{first}{second}{first}").as_bytes()), Ok(3));
    let refused = Guard::default().feed(format!("{first}{second} GET /\n").as_bytes());
    let complete = first.len() + second.len();
    assert_eq!(
        refused,
        Err(Refused {
            complete,
            refusal: Refusal::BareLf
        })
    );
}

#[test]
fn a_chunked_body_ends_with_its_trailers() {
    let next = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for body in [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "A;name=\"quoted; text\"\r\n0123456789\r\n000\r\nX-Sum: 1\r\n\r\n",
        "4\r\n\n\r\n\0\r\n1\r\n\r\r\n0\r\n\r\n",
    ] {
        assert_eq!(chunked(&format!("{body}{next}{next}")), Ok(3), "{body:?}");
    }
}

#[test]
fn a_length_that_two_readers_might_read_differently_is_refused() {
    for value in [
        "",
        "+5",
        "-5",
        "5 5",
        "0x5",
        "5,5",
        "5, 6",
        "1e3",
        "18446744073709551616",
    ] {
        assert_eq!(
            with(&format!("Content-Length: {value}\r\n")),
            Err(Refusal::LengthInvalid),
            "{value:?}"
        );
    }
    let repeated = "Content-Length: 0\r\ncontent-length: 0\r\n";
    assert_eq!(with(repeated), Err(Refusal::LengthRepeated));
    for both in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    ] {
        assert_eq!(with(both), Err(Refusal::LengthAndEncoding), "{both:?}");
    }
}

#[test]
fn only_chunked_alone_is_a_transfer_encoding() {
    assert_eq!(with("Transfer-Encoding: Chunked\r\n"), Ok(1));
    for value in [
        "",
        "identity",
        "gzip, chunked",
        "chunked, chunked",
        "chunked;q=1",
        "xchunked",
        "\"chunked\"",
        "chunked,",
    ] {
        let lines = format!("Transfer-Encoding: {value}\r\n");
        assert_eq!(with(&lines), Err(Refusal::Encoding), "{value:?}");
    }
    let twice = "Transfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n";
    assert_eq!(with(twice), Err(Refusal::Encoding));
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(verdict(old), Err(Refusal::EncodingInHttp10));
}

#[test]
fn stray_bytes_in_lines_are_refused() {
    assert_eq!(with("a: b\n"), Err(Refusal::BareLf));
    assert_eq!(with("a: b\nc: d\r\n"), Err(Refusal::BareLf));
    assert_eq!(with("a: b\rc: d\r\n"), Err(Refusal::BareCr));
    assert_eq!(with("a: b\r\r\n"), Err(Refusal::BareCr));
    assert_eq!(with("a: b\0\r\n"), Err(Refusal::Nul));
    assert_eq!(
        verdict(b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
        Err(Refusal::BareLf)
    );
    assert_eq!(
        verdict(b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
        Err(Refusal::BareLf)
    );
    assert_eq!(
        verdict(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        Err(Refusal::BareLf)
    );
}

#[test]
fn field_names_are_tokens_and_their_colon_follows_at_once() {
    assert_eq!(with("a: b\r\n c\r\n"), Err(Refusal::ObsFold));
    assert_eq!(
        with("a: b\r\n\tTransfer-Encoding: chunked\r\n"),
        Err(Refusal::ObsFold)
    );
    let first = b"GET / HTTP/1.1\r\n Host: a\r\n\r\n";
    assert_eq!(verdict(first), Err(Refusal::ObsFold));
    assert_eq!(
        with("Content-Length : 5\r\n"),
        Err(Refusal::SpaceBeforeColon)
    );
    assert_eq!(
        with("Content-Length\t: 5\r\n"),
        Err(Refusal::SpaceBeforeColon)
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
            with(&format!("{bad}\r\n")),
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
        assert_eq!(line(bad), Err(Refusal::RequestLine), "{bad:?}");
    }
    for bad in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/1.10", "HTTP/1"] {
        assert_eq!(
            line(&format!("GET / {bad}")),
            Err(Refusal::Version),
            "{bad:?}"
        );
    }
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(verdict(preface), Err(Refusal::Version));
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
        assert_eq!(line(bad), Err(Refusal::Target), "{bad:?}");
    }
}

#[test]
fn there_is_one_host_and_the_target_agrees_with_it() {
    assert_eq!(
        verdict(b"GET / HTTP/1.1\r\n\r\n"),
        Err(Refusal::HostMissing)
    );
    assert_eq!(with("host: shop\r\n"), Err(Refusal::HostRepeated));
    for bad in ["a, b", "a b", "user@a", "a/b", "a\u{e9}", "http://a"] {
        let head = format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n");
        assert_eq!(
            verdict(head.as_bytes()),
            Err(Refusal::HostInvalid),
            "{bad:?}"
        );
    }
    let absolute = |target: &str, host: &str| {
        verdict(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
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
        assert_eq!(
            absolute(target, host),
            Err(Refusal::HostDiffers),
            "{target} {host}"
        );
    }
}

#[test]
fn a_chunk_is_as_long_as_it_says() {
    for bad in [
        "x\r\n",
        "\r\n",
        "-1\r\n",
        "0x1\r\n",
        " 1\r\n",
        "1 \r\n",
        "1\n",
        "10000000000000000\r\n",
    ] {
        assert_eq!(chunked(bad), Err(Refusal::ChunkSize), "{bad:?}");
    }
    for bad in ["1\rx", "1;a\rb\r\n", "1;a\nb\r\n", "1;a\0\r\n"] {
        assert_eq!(chunked(bad), Err(Refusal::ChunkLine), "{bad:?}");
    }
    for bad in ["1\r\nab\r\n", "2\r\na\r\n\r\n", "1\r\na\n", "1\r\na\r\r\n"] {
        assert_eq!(chunked(bad), Err(Refusal::ChunkEnd), "{bad:?}");
    }
    let long = format!("1;{}\r\n", "a".repeat(8192));
    assert_eq!(chunked(&long), Err(Refusal::ChunkLine));
    let zeros = "0".repeat(8192);
    assert_eq!(chunked(&zeros), Err(Refusal::ChunkLine));
}

#[test]
fn trailers_are_checked_like_a_head_and_change_no_framing() {
    for name in [
        "Content-Length: 3",
        "transfer-encoding: chunked",
        "HOST: vault",
    ] {
        let body = format!("0\r\n{name}\r\n\r\n");
        assert_eq!(chunked(&body), Err(Refusal::TrailerField), "{name:?}");
    }
    assert_eq!(chunked("0\r\na: b\r\n c\r\n\r\n"), Err(Refusal::ObsFold));
    assert_eq!(
        chunked("0\r\na : b\r\n\r\n"),
        Err(Refusal::SpaceBeforeColon)
    );
    assert_eq!(chunked("0\r\n\n"), Err(Refusal::BareLf));
    let large = format!(
        "0\r\na: {}\r\n\r\n",
        "b".repeat(Limits::DEFAULT.trailer_section_bytes)
    );
    assert_eq!(chunked(&large), Err(Refusal::TrailersTooLarge));
}

#[test]
fn heads_have_a_largest_size_and_tell_by_status() {
    let long = format!(
        "GET /{} HTTP/1.1",
        "a".repeat(Limits::DEFAULT.request_line_bytes)
    );
    assert_eq!(line(&long), Err(Refusal::RequestLineTooLong));
    let one = format!("a: {}\r\n", "b".repeat(1000));
    assert_eq!(with(&one.repeat(60)), Ok(1));
    assert_eq!(with(&one.repeat(70)), Err(Refusal::HeadTooLarge));
    // Without an end, too.
    let endless = format!(
        "GET / HTTP/1.1\r\n{}",
        "a".repeat(Limits::DEFAULT.head_bytes)
    );
    assert_eq!(verdict(endless.as_bytes()), Err(Refusal::HeadTooLarge));
    let fields = |count: usize| "a: b\r\n".repeat(count);
    // Host is one of them.
    let most = Limits::DEFAULT.fields;
    assert_eq!(with(&fields(most - 1)), Ok(1));
    assert_eq!(with(&fields(most)), Err(Refusal::TooManyFields));
    let trailers = |count: usize| format!("0\r\n{}\r\n", fields(count));
    assert_eq!(chunked(&trailers(most)), Ok(1));
    assert_eq!(chunked(&trailers(most + 1)), Err(Refusal::TrailersTooLarge));
    assert_eq!(Refusal::RequestLineTooLong.status(), 414);
    assert_eq!(Refusal::HeadTooLarge.status(), 431);
    assert_eq!(Refusal::TooManyFields.status(), 431);
    assert_eq!(Refusal::LengthAndEncoding.status(), 400);
}

#[test]
fn limits_can_be_other_ones() {
    let limits = Limits {
        request_line_bytes: 20,
        head_bytes: 40,
        fields: 2,
        ..Limits::DEFAULT
    };
    let verdict = |input: &str| {
        let mut guard = Guard::new(limits);
        let fed = guard.feed(input.as_bytes());
        fed.map_err(|refused| refused.refusal)
    };
    let line = "GET /123 HTTP/1.1\r\n";
    let fits = format!("{line}Host: a\r\n\r\n");
    assert_eq!(verdict(&fits), Ok(fits.len()));
    assert_eq!(
        verdict("GET /12345 HTTP/1.1\r\n"),
        Err(Refusal::RequestLineTooLong)
    );
    assert_eq!(
        verdict(&format!("{line}Host: a\r\nName: value\r\n\r\n")),
        Err(Refusal::HeadTooLarge)
    );
    assert_eq!(
        verdict(&format!("{line}a:\r\nb:\r\nc:\r\n\r\n")),
        Err(Refusal::TooManyFields)
    );
}

#[test]
fn what_follows_a_request_for_an_upgrade_waits_for_its_answer() {
    let websocket =
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let tunnel = "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n";
    for head in [websocket, tunnel] {
        let mut guard = Guard::default();
        let input = format!("{head}\0any bytes");
        assert_eq!(guard.feed(input.as_bytes()), Ok(head.len()));
        assert!(guard.is_undecided());
        assert_eq!(guard.feed(b"\0"), Ok(0));
        guard.upgrade_refused();
        assert_eq!(guard.feed(head.as_bytes()), Ok(head.len()));
    }
    let body = "Content-Length: 5\r\n\r\nhello";
    let post = format!("POST / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n{body}");
    assert_eq!(
        Guard::default().feed(format!("{post}more").as_bytes()),
        Ok(post.len())
    );
    let old = b"GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.0\r\n\r\n";
    assert_eq!(verdict(old), Ok(2));
}

#[test]
fn a_tunnel_has_no_body() {
    for lines in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        let head = format!("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n{lines}\r\n");
        assert_eq!(verdict(head.as_bytes()), Err(Refusal::ConnectBody));
    }
}

#[test]
fn nothing_is_taken_after_a_refusal() {
    let mut guard = Guard::default();
    let refused = Refused {
        complete: 0,
        refusal: Refusal::BareLf,
    };
    assert_eq!(guard.feed(b"GET / HTTP/1.1\n"), Err(refused));
    assert_eq!(guard.feed(b"GET / HTTP/1.0\r\n\r\n"), Err(refused));
}

/// Pieces that put together make heads and bodies, right and wrong.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&str; 34] = [
        "GET / HTTP/1.1\r\n",
        "POST /a HTTP/1.1\r\n",
        "GET http://a/ HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "CONNECT a:1 HTTP/1.1\r\n",
        "Host: a\r\n",
        "Host: b\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Upgrade: x\r\n",
        "X-Name: value\r\n",
        "\r\n",
        "\r",
        "\n",
        "\0",
        " ",
        "\t",
        ":",
        "abc",
        "3\r\nabc\r\n",
        "0\r\n",
        "0\r\n\r\n",
        "3;a=b\r\n",
        "fffffffffffffffff\r\n",
        "10\r\n0123456789abcdef\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "Trailer: x\r\n\r\n",
        "a : b\r\n",
        " folded\r\n",
        "Content-Length: 5x\r\n",
        "host",
    ];
    let piece = prop_oneof![
        9 => prop::sample::select(&PIECES[..]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn the_verdict_does_not_depend_on_where_reads_were_cut(
        input in pieces(),
        mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let whole = verdict(&input);
        let mut guard = Guard::default();
        let mut cuts: Vec<usize> = cuts.drain(..).map(|cut| cut.index(input.len() + 1)).collect();
        cuts.push(input.len());
        cuts.sort_unstable();
        let (mut start, mut parts) = (0, Ok(0));
        for cut in cuts {
            let fed = guard.feed(&input[start..cut]);
            start = cut;
            parts = fed.map(|_| guard.requests()).map_err(|refused| refused.refusal);
            if parts.is_err() {
                break;
            }
        }
        prop_assert_eq!(parts, whole);
    }

    #[test]
    fn what_is_complete_before_a_refusal_passes_alone(input in pieces()) {
        if let Err(Refused { complete, .. }) = Guard::default().feed(&input) {
            let mut guard = Guard::default();
            prop_assert_eq!(guard.feed(&input[..complete]), Ok(complete));
            prop_assert!(!guard.is_in_body());
        }
    }

    #[test]
    fn what_hypers_client_writes_passes(
        method in "(GET|POST|PUT|DELETE|OPTIONS|PATCH|X-OWN)",
        path in "/[a-zA-Z0-9._~%!$&'()*+,;=:@/-]{0,40}(\\?[a-z0-9=&]{0,20})?",
        host in "[a-z0-9.-]{1,20}(:[1-9][0-9]{0,3})?",
        headers in prop::collection::vec(("x-[a-z0-9-]{1,20}", "[ -~\t]{0,40}"), 0..10),
        body in prop::collection::vec("[\\x00-\\x7f]{1,40}", 0..4),
        streamed in any::<bool>(),
    ) {
        let mut request = http::Request::builder().method(&*method).uri(path).header("host", host);
        for (name, value) in headers {
            request = request.header(name, value.trim());
        }
        let body = if streamed {
            let frames: Vec<_> = body.into_iter().map(|text| Ok::<_, Infallible>(Frame::data(Bytes::from(text)))).collect();
            Either::Left(StreamBody::new(tokio_stream::iter(frames)))
        } else {
            Either::Right(Full::new(Bytes::from(body.concat())))
        };
        let written = written_by_hyper(request.body(body).unwrap());
        let mut guard = Guard::default();
        prop_assert_eq!(guard.feed(&written), Ok(written.len()), "{:?}", written.escape_ascii().to_string());
        prop_assert_eq!((guard.requests(), guard.is_in_body()), (1, false));
    }
}

/// The bytes of a request as hyper's HTTP/1 client writes them.
fn written_by_hyper<B>(request: http::Request<B>) -> Vec<u8>
where
    B: hyper::body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (client, mut server) = tokio::io::duplex(64 * 1024);
        let connecting = hyper::client::conn::http1::handshake(TokioIo::new(client));
        let (mut sender, connection) = connecting.await.unwrap();
        let driver = tokio::spawn(connection);
        let answer = tokio::spawn(async move { sender.send_request(request).await.map(drop) });
        let (mut written, mut guard) = (Vec::new(), Guard::default());
        // Until the request is over, by hyper's own measure: it then waits for an answer.
        loop {
            let before = written.len();
            if server.read_buf(&mut written).await.unwrap() == 0 {
                break;
            }
            if guard.feed(&written[before..]).is_err()
                || (guard.requests() == 1 && !guard.is_in_body())
            {
                break;
            }
        }
        driver.abort();
        answer.abort();
        written
    })
}
