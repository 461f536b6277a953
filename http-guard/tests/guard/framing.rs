//! Content-Length and Transfer-Encoding: where a body ends.

use weft_http_guard::{Guard, Refusal, Refused};

use super::{inspect, with_fields};

#[test]
fn a_body_is_skipped_by_its_length_and_the_next_request_begins_behind_it() {
    let body = "GET / HTTP/1.1\nnot a head";
    let length = body.len();
    let first = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
    let second = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(inspect(format!("{first}{second}{first}").as_bytes()), Ok(3));
    let refused = Guard::default().inspect(format!("{first}{second} GET /\n").as_bytes());
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
            with_fields(&format!("Content-Length: {value}\r\n")),
            Err(Refusal::ContentLength),
            "{value:?}"
        );
    }
    let repeated = "Content-Length: 0\r\ncontent-length: 0\r\n";
    assert_eq!(with_fields(repeated), Err(Refusal::ContentLengthRepeated));
    for both in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    ] {
        assert_eq!(
            with_fields(both),
            Err(Refusal::ContentLengthWithTransferEncoding),
            "{both:?}"
        );
    }
}

#[test]
fn only_chunked_alone_is_a_transfer_encoding() {
    assert_eq!(with_fields("Transfer-Encoding: Chunked\r\n"), Ok(1));
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
        assert_eq!(
            with_fields(&lines),
            Err(Refusal::TransferEncoding),
            "{value:?}"
        );
    }
    let twice = "Transfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n";
    assert_eq!(with_fields(twice), Err(Refusal::TransferEncoding));
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(inspect(old), Err(Refusal::TransferEncodingInHttp10));
}

#[test]
fn a_tunnel_has_no_body() {
    for lines in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        let head = format!("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n{lines}\r\n");
        assert_eq!(inspect(head.as_bytes()), Err(Refusal::ConnectBody));
    }
}

#[test]
fn a_framing_field_without_its_hyphen_is_refused() {
    for name in [
        "Content_Length",
        "content.length",
        "Transfer_Encoding",
        "TRANSFER~ENCODING",
    ] {
        assert_eq!(
            with_fields(&format!("{name}: 5\r\n")),
            Err(Refusal::FramingFieldLookalike),
            "{name}"
        );
    }
    for name in [
        "Content_Type",
        "ContentXLength",
        "Content_Lengths",
        "Kontent_Length",
        "X-Content_Length",
        "Transfer_Encodinh",
    ] {
        assert_eq!(with_fields(&format!("{name}: 5\r\n")), Ok(1), "{name}");
    }
}
