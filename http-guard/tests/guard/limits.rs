//! How large a request may be.

use weft_http_guard::{Guard, Limits, Refusal, RefusalKind};

use super::{inspect, with_chunks, with_fields, with_request_line};

#[test]
fn heads_have_a_largest_size_and_tell_by_status() {
    let long = format!(
        "GET /{} HTTP/1.1",
        "a".repeat(Limits::DEFAULT.request_line_bytes)
    );
    assert_eq!(with_request_line(&long), Err(Refusal::RequestLineTooLong));
    let one = format!("a: {}\r\n", "b".repeat(1000));
    assert_eq!(with_fields(&one.repeat(120)), Ok(1));
    assert_eq!(with_fields(&one.repeat(135)), Err(Refusal::HeadTooLarge));
    // Without an end, too.
    let endless = format!(
        "GET / HTTP/1.1\r\n{}",
        "a".repeat(Limits::DEFAULT.head_bytes)
    );
    assert_eq!(inspect(endless.as_bytes()), Err(Refusal::HeadTooLarge));
    let fields = |count: usize| "a: b\r\n".repeat(count);
    // Host is one of them.
    let most = Limits::DEFAULT.fields;
    assert_eq!(with_fields(&fields(most - 1)), Ok(1));
    assert_eq!(with_fields(&fields(most)), Err(Refusal::TooManyFields));
    let trailers = |count: usize| format!("0\r\n{}\r\n", fields(count));
    assert_eq!(with_chunks(&trailers(most)), Ok(1));
    assert_eq!(
        with_chunks(&trailers(most + 1)),
        Err(Refusal::TrailerSectionTooLarge)
    );
    assert_eq!(Refusal::RequestLineTooLong.status(), 414);
    assert_eq!(Refusal::HeadTooLarge.status(), 431);
    assert_eq!(Refusal::TooManyFields.status(), 431);
    assert_eq!(Refusal::HeadTimeout.status(), 408);
    assert_eq!(Refusal::ContentLengthWithTransferEncoding.status(), 400);
}

#[test]
fn limits_can_be_other_ones() {
    let limits = Limits {
        request_line_bytes: 20,
        head_bytes: 40,
        fields: 2,
        ..Limits::DEFAULT
    };
    let inspect_with_limits = |input: &str| {
        let mut guard = Guard::new(limits);
        let inspected = guard.inspect(input.as_bytes());
        inspected.map_err(|refused| refused.refusal)
    };
    let line = "GET /123 HTTP/1.1\r\n";
    let fits = format!("{line}Host: a\r\n\r\n");
    assert_eq!(inspect_with_limits(&fits), Ok(fits.len()));
    assert_eq!(
        inspect_with_limits("GET /12345 HTTP/1.1\r\n"),
        Err(Refusal::RequestLineTooLong)
    );
    assert_eq!(
        inspect_with_limits(&format!("{line}Host: a\r\nName: value\r\n\r\n")),
        Err(Refusal::HeadTooLarge)
    );
    assert_eq!(
        inspect_with_limits(&format!("{line}a:\r\nb:\r\nc:\r\n\r\n")),
        Err(Refusal::TooManyFields)
    );
}

#[test]
fn every_kind_has_its_word() {
    for (refusal, kind, word) in [
        (Refusal::BareLf, RefusalKind::Syntax, "syntax"),
        (Refusal::HostMissing, RefusalKind::Host, "host"),
        (Refusal::ChunkEnd, RefusalKind::Framing, "framing"),
        (Refusal::TooManyFields, RefusalKind::TooLarge, "too_large"),
        (Refusal::HeadTimeout, RefusalKind::Timeout, "timeout"),
    ] {
        assert_eq!(refusal.kind(), kind);
        assert_eq!(kind.as_str(), word);
    }
}
