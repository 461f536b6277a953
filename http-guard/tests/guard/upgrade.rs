//! Requests that another protocol may follow.

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_http_guard::{Guard, GuardedStream, Limits, Refusal, Refused};

use super::inspect;

#[test]
fn what_follows_a_request_for_an_upgrade_waits_for_its_answer() {
    let websocket =
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let tunnel = "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n";
    for head in [websocket, tunnel] {
        let mut guard = Guard::default();
        let input = format!("{head}\0any bytes");
        assert_eq!(guard.inspect(input.as_bytes()), Ok(head.len()));
        assert!(guard.awaits_upgrade());
        assert_eq!(guard.inspect(b"\0"), Ok(0));
        guard.deny_upgrade();
        assert_eq!(guard.inspect(head.as_bytes()), Ok(head.len()));
    }
    let body = "Content-Length: 5\r\n\r\nhello";
    let post = format!("POST / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n{body}");
    assert_eq!(
        Guard::default().inspect(format!("{post}more").as_bytes()),
        Ok(post.len())
    );
    let old = b"GET / HTTP/1.0\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.0\r\n\r\n";
    assert_eq!(inspect(old), Ok(2));
}

#[test]
fn nothing_is_taken_after_a_refusal() {
    let mut guard = Guard::default();
    let refused = Refused {
        complete: 0,
        refusal: Refusal::BareLf,
    };
    assert_eq!(guard.inspect(b"GET / HTTP/1.1\n"), Err(refused));
    assert_eq!(guard.inspect(b"GET / HTTP/1.0\r\n\r\n"), Err(refused));
}

#[test]
fn an_upgrade_is_granted_by_its_own_status() {
    let mut guard = Guard::default();
    let _ = guard.inspect(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\n\r\n");
    let statuses = [101, 200, 204, 404].map(|status| StatusCode::from_u16(status).unwrap());
    assert_eq!(
        statuses.map(|status| guard.is_upgraded_by(status)),
        [true, false, false, false]
    );
    guard.deny_upgrade();
    let _ = guard.inspect(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n");
    assert_eq!(
        statuses.map(|status| guard.is_upgraded_by(status)),
        [false, true, true, false]
    );
}

#[tokio::test]
async fn what_follows_an_early_answer_to_an_upgrade_is_a_request() {
    let (mut client, connection) = tokio::io::duplex(1024);
    let (mut stream, handle) = GuardedStream::new(connection, Limits::DEFAULT);
    let mut buffer = [0; 1024];
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nContent-Length: 4\r\n\r\n";
    client.write_all(head).await.unwrap();
    assert_eq!(stream.read(&mut buffer).await.unwrap(), head.len());
    handle.response_decided(StatusCode::NOT_FOUND);
    stream
        .write_all(b"HTTP/1.1 404 Not Found\r\n")
        .await
        .unwrap();
    client.write_all(b"body").await.unwrap();
    assert_eq!(stream.read(&mut buffer).await.unwrap(), 4);
    let next = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    client.write_all(next).await.unwrap();
    stream
        .write_all(b"content-length: 0\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(stream.read(&mut buffer).await.unwrap(), next.len());
    assert_eq!(handle.refusal(), None);
}
