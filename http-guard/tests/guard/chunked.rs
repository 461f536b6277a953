//! Chunked bodies and their trailer sections.

use weft_http_guard::{Limits, Refusal};

use super::with_chunks;

#[test]
fn a_chunked_body_ends_with_its_trailers() {
    let next = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for body in [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "A;name=\"quoted; text\"\r\n0123456789\r\n000\r\nX-Sum: 1\r\n\r\n",
        "4\r\n\n\r\n\0\r\n1\r\n\r\r\n0\r\n\r\n",
    ] {
        assert_eq!(
            with_chunks(&format!("{body}{next}{next}")),
            Ok(3),
            "{body:?}"
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
        assert_eq!(with_chunks(bad), Err(Refusal::ChunkSize), "{bad:?}");
    }
    for bad in ["1\rx", "1\r\r\n", "1;a\rb\r\n", "1;a\r\r\n"] {
        assert_eq!(with_chunks(bad), Err(Refusal::ChunkLineEnd), "{bad:?}");
    }
    for bad in ["1;a\nb\r\n", "1;a\0\r\n"] {
        assert_eq!(with_chunks(bad), Err(Refusal::ChunkExtension), "{bad:?}");
    }
    for bad in ["1\r\nab\r\n", "2\r\na\r\n\r\n", "1\r\na\n", "1\r\na\r\r\n"] {
        assert_eq!(with_chunks(bad), Err(Refusal::ChunkEnd), "{bad:?}");
    }
    let long = format!("1;{}\r\n", "a".repeat(8192));
    assert_eq!(with_chunks(&long), Err(Refusal::ChunkLineTooLong));
    let zeros = "0".repeat(8192);
    assert_eq!(with_chunks(&zeros), Err(Refusal::ChunkLineTooLong));
}

#[test]
fn trailers_are_checked_like_a_head_and_change_no_framing() {
    for name in [
        "Content-Length: 3",
        "transfer-encoding: chunked",
        "HOST: vault",
    ] {
        let body = format!("0\r\n{name}\r\n\r\n");
        assert_eq!(with_chunks(&body), Err(Refusal::TrailerField), "{name:?}");
    }
    assert_eq!(
        with_chunks("0\r\na: b\r\n c\r\n\r\n"),
        Err(Refusal::ObsFold)
    );
    assert_eq!(
        with_chunks("0\r\na : b\r\n\r\n"),
        Err(Refusal::WhitespaceBeforeColon)
    );
    assert_eq!(with_chunks("0\r\n\n"), Err(Refusal::BareLf));
    let large = format!(
        "0\r\na: {}\r\n\r\n",
        "b".repeat(Limits::DEFAULT.trailer_section_bytes)
    );
    assert_eq!(with_chunks(&large), Err(Refusal::TrailerSectionTooLarge));
}

#[test]
fn chunk_extensions_end_with_their_line_for_every_reader() {
    for good in [
        "1;a\r\nb\r\n",
        "1;a=b;c = \"d;e\"\r\nb\r\n",
        "1; a=\"\\\"\"\r\nb\r\n",
    ] {
        assert_eq!(
            with_chunks(&format!("{good}0;f=g\r\n\r\n")),
            Ok(1),
            "{good:?}"
        );
    }
    for bad in [
        // Whoever reads quoted strings finds the end of this one behind the line.
        "1;a=\"\r\nb\r\n0\r\n\r\n\"",
        "1;a=\"\\\"\r\n",
        "1;a=\"\\\r\n",
        "1;\r\n",
        "1;a=\r\n",
        "1;a \r\n",
        "1;=b\r\n",
        "1;a b\r\n",
        "1;[a]\r\n",
        "1;a=b\"c\"\r\n",
        "1;a\u{1}\r\n",
    ] {
        assert_eq!(with_chunks(bad), Err(Refusal::ChunkExtension), "{bad:?}");
    }
}
