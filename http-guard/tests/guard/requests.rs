//! Bytes for properties: what may be requests.

use proptest::prelude::*;

/// Bytes put together from pieces of heads and bodies, right and wrong.
pub(crate) fn pieces() -> impl Strategy<Value = Vec<u8>> {
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

/// Several requests in a row, right but for a few bytes that were put between or in place of
/// others.
pub(crate) fn almost_requests() -> impl Strategy<Value = Vec<u8>> {
    const BYTES: [&str; 20] = [
        "\r\n",
        "\r",
        "\n",
        "\0",
        " ",
        "\t",
        ":",
        ";",
        "\"",
        "\\",
        "0",
        "5",
        "-",
        "_",
        "a",
        "\u{e9}",
        "\r\n ",
        "0\r\n\r\n",
        "Host: b\r\n",
        "\r\nContent-Length: 3",
    ];
    let place = (
        any::<prop::sample::Index>(),
        0..3_usize,
        prop::sample::select(&BYTES[..]),
    );
    let changes = prop::collection::vec(place, 0..3);
    let requests = prop::collection::vec(request(), 1..5);
    (requests, changes).prop_map(|(requests, changes)| {
        let mut bytes = requests.concat();
        for (place, replaced, with) in changes {
            let start = place.index(bytes.len());
            let end = bytes.len().min(start + replaced);
            bytes.splice(start..end, with.bytes());
        }
        bytes
    })
}

/// A request that is right.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(&["GET /", "POST /a?b", "OPTIONS *", "PUT http://a/"][..]);
    let version = prop_oneof![9 => Just("HTTP/1.1"), 1 => Just("HTTP/1.0")];
    let fields = prop::collection::vec(
        prop::sample::select(
            &[
                "Name: value\r\n",
                "name:\r\n",
                "Connection: keep-alive\r\n",
                "Expect: 100-continue\r\n",
                "Upgrade: x\r\nConnection: upgrade\r\n",
            ][..],
        ),
        0..3,
    );
    (line, version, fields, body()).prop_map(|(line, version, fields, (framing, body))| {
        let chunked_in_http10 = version == "HTTP/1.0" && framing.starts_with("Transfer");
        let (framing, body) = match chunked_in_http10 {
            true => (String::new(), Vec::new()),
            false => (framing, body),
        };
        let fields = fields.concat();
        let head = format!("{line} {version}\r\nHost: a\r\n{fields}{framing}\r\n");
        [head.into_bytes(), body].concat()
    })
}

/// A framing field, and the body that it goes with.
fn body() -> impl Strategy<Value = (String, Vec<u8>)> {
    let bytes = || prop::collection::vec(any::<u8>(), 1..40);
    let extension = prop::sample::select(&["", ";a", ";a=b", "; a = \"b;c\""][..]);
    let chunks = prop::collection::vec((bytes(), extension), 0..4);
    let trailers = prop::sample::select(&["", "a: b\r\n"][..]);
    prop_oneof![
        Just((String::new(), Vec::new())),
        bytes().prop_map(|bytes| (format!("Content-Length: {}\r\n", bytes.len()), bytes)),
        (chunks, trailers).prop_map(|(chunks, trailers)| {
            let mut body = Vec::new();
            for (data, extension) in chunks {
                body.extend(format!("{:x}{extension}\r\n", data.len()).bytes());
                body.extend(data);
                body.extend(b"\r\n");
            }
            body.extend(format!("0\r\n{trailers}\r\n").bytes());
            ("Transfer-Encoding: chunked\r\n".to_owned(), body)
        }),
    ]
}
