//! A guard in front of hyper's server: who answers what.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;

use weft_http_guard::{ClientEnd, GuardHandle, GuardedStream, Limits, Refusal};

/// A server that answers with the path, or the body's length; 101 and tunnels echo.
struct Server {
    client: DuplexStream,
    handle: GuardHandle,
    requests: Arc<AtomicUsize>,
    /// What requests with `x-wait` wait for.
    release: Arc<Notify>,
}

impl Server {
    fn start() -> Self {
        Self::with_limits(Limits::DEFAULT)
    }

    fn with_limits(limits: Limits) -> Self {
        let (client, server) = tokio::io::duplex(1024 * 1024);
        let (guarded, handle) = GuardedStream::new(server, limits);
        let requests = Arc::new(AtomicUsize::new(0));
        let release = Arc::new(Notify::new());
        let (seen, of_service, released) =
            (Arc::clone(&requests), handle.clone(), Arc::clone(&release));
        let service = service_fn(move |request: Request<Incoming>| {
            seen.fetch_add(1, Ordering::Relaxed);
            let (handle, released) = (of_service.clone(), Arc::clone(&released));
            async move {
                if request.headers().contains_key("x-wait") {
                    released.notified().await;
                }
                answer(request, handle).await
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(guarded), service)
            .with_upgrades();
        tokio::spawn(connection);
        Self {
            client,
            handle,
            requests,
            release,
        }
    }

    /// Everything that comes back, up to the end.
    async fn exchange(&mut self, input: &[u8]) -> String {
        // It may be closed already: the parser knows some shapes from their first bytes.
        let _ = self.client.write_all(input).await;
        let mut answer = Vec::new();
        self.client.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// What comes back up to some text.
    async fn until(&mut self, text: &str) -> String {
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains(text) {
            assert_ne!(
                self.client.read_buf(&mut answer).await.unwrap(),
                0,
                "{answer:?}"
            );
        }
        String::from_utf8(answer).unwrap()
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// The statuses of several responses.
fn statuses(answer: &str) -> Vec<&str> {
    let lines = answer.match_indices("HTTP/1.1 ");
    lines.map(|(at, _)| &answer[at + 9..at + 12]).collect()
}

async fn answer(
    request: Request<Incoming>,
    handle: GuardHandle,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let upgrades = request.headers().contains_key("x-grant");
    let status = match (upgrades, request.method()) {
        (true, &Method::CONNECT) => StatusCode::OK,
        (true, _) => StatusCode::SWITCHING_PROTOCOLS,
        (false, _) => StatusCode::OK,
    };
    let asked = request.headers().get("x-status");
    let asked = asked.and_then(|status| StatusCode::from_bytes(status.as_bytes()).ok());
    let status = asked.unwrap_or(status);
    let status = if !upgrades && request.method() == Method::CONNECT {
        StatusCode::FORBIDDEN
    } else {
        status
    };
    let path = request.uri().path().to_owned();
    if upgrades {
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(request).await.unwrap();
            let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        });
    } else {
        let body = request.into_body().collect().await;
        if body.is_err() {
            handle.response_decided(StatusCode::BAD_REQUEST);
            let mut refused = Response::new(Full::new(Bytes::from("bad body")));
            *refused.status_mut() = StatusCode::BAD_REQUEST;
            return Ok(refused);
        }
    }
    handle.response_decided(status);
    let mut response = Response::new(Full::new(Bytes::from(path)));
    *response.status_mut() = status;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        response
            .headers_mut()
            .insert("upgrade", http::HeaderValue::from_static("echo"));
    }
    Ok(response)
}

#[tokio::test]
async fn a_refused_request_is_answered_and_the_connection_closed() {
    let mut server = Server::start();
    let input =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = server.exchange(input.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(
        server.handle.refusal(),
        Some(Refusal::ContentLengthWithTransferEncoding)
    );
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn requests_before_a_refused_one_are_answered_first() {
    let mut server = Server::start();
    let good = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let input = format!(
        "{}{}GET /3 HTTP/1.1\nHost: a\r\n\r\n{}",
        good("/1"),
        good("/2"),
        good("/4")
    );
    let answer = server.exchange(input.as_bytes()).await;
    assert_eq!(statuses(&answer), ["200", "200", "400"], "{answer}");
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_head_is_refused_wherever_it_was_cut() {
    let input = b"GET /path HTTP/1.1\r\nHost: a\r\nName: value\r\nContent-Length : 5\r\n\r\n";
    for cut in 1..input.len() {
        let mut server = Server::start();
        server.client.write_all(&input[..cut]).await.unwrap();
        tokio::task::yield_now().await;
        let answer = server.exchange(&input[cut..]).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{cut}: {answer}"
        );
        assert_eq!(server.requests(), 0);
    }
}

#[tokio::test]
async fn heads_that_are_too_large_have_statuses_of_their_own() {
    let long = "a".repeat(Limits::DEFAULT.head_bytes);
    let line = format!(
        "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
        &long[..Limits::DEFAULT.request_line_bytes]
    );
    let answer = Server::start().exchange(line.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 414 URI Too Long\r\nconnection: close\r\n"),
        "{answer}"
    );
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nname: {long}\r\n\r\n");
    let answer = Server::start().exchange(head.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn the_status_of_a_refusal_replaces_no_other_response() {
    let mut server = Server::with_limits(Limits {
        head_bytes: 100,
        ..Limits::DEFAULT
    });
    let own = "GET / HTTP/1.1\r\nHost: a\r\nX-Status: 400\r\n\r\n";
    let long = "a".repeat(100);
    let input = format!("{own}{own}GET / HTTP/1.1\r\nHost: a\r\nname: {long}\r\n\r\n");
    let answer = server.exchange(input.as_bytes()).await;
    assert_eq!(statuses(&answer), ["400", "400", "431"], "{answer}");
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_refusal_inside_a_body_fails_the_body() {
    let mut server = Server::start();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    server.client.write_all(head).await.unwrap();
    while server.requests() == 0 {
        tokio::task::yield_now().await;
    }
    let answer = server.exchange(b"5 \r\nhello\r\n0\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with("bad body"), "{answer}");
    assert_eq!(server.handle.refusal(), Some(Refusal::ChunkSize));
}

#[tokio::test]
async fn after_a_granted_upgrade_any_bytes_pass() {
    let websocket =
        "GET / HTTP/1.1\r\nHost: a\r\nX-Grant: 1\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n";
    let tunnel = "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nX-Grant: 1\r\n\r\n";
    for head in [websocket, tunnel] {
        let mut server = Server::start();
        // The client doesn't wait for the answer.
        server
            .client
            .write_all(format!("{head}early\0\n").as_bytes())
            .await
            .unwrap();
        server.until("early\0\n").await;
        server
            .client
            .write_all(b"GET / HTTP/1.1\nlate")
            .await
            .unwrap();
        server.until("late").await;
        assert_eq!(server.handle.refusal(), None);
    }
}

#[tokio::test]
async fn after_a_refused_upgrade_requests_follow() {
    let mut server = Server::start();
    let asking = "GET /1 HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n";
    server.client.write_all(asking.as_bytes()).await.unwrap();
    server.until("/1").await;
    server
        .client
        .write_all(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    server.until("/2").await;
    let answer = server.exchange(b"GET /3 HTTP/1.1\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn bytes_sent_ahead_of_a_refused_upgrade_are_no_request() {
    let mut server = Server::start();
    let tunnel = "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = server.exchange(tunnel.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(
        answer.contains("HTTP/1.1 400 ") && !answer.contains("/hidden"),
        "{answer}"
    );
    assert_eq!(server.handle.refusal(), Some(Refusal::AheadOfUpgrade));
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn bytes_that_arrive_before_an_upgrade_is_refused_are_no_request() {
    let tunnel = "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nX-Wait: 1\r\n\r\n";
    let websocket = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\nX-Wait: 1\r\n\r\n";
    for head in [tunnel, websocket] {
        let mut server = Server::start();
        server.client.write_all(head.as_bytes()).await.unwrap();
        while server.requests() == 0 {
            tokio::task::yield_now().await;
        }
        let hidden = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
        server.client.write_all(hidden).await.unwrap();
        server.release.notify_one();
        let answer = server.until("HTTP/1.1 400 ").await;
        assert!(!answer.contains("/hidden"), "{answer}");
        assert_eq!(server.handle.refusal(), Some(Refusal::AheadOfUpgrade));
        assert_eq!(server.requests(), 1);
    }
}

#[tokio::test]
async fn bytes_that_arrive_before_an_upgrade_is_granted_belong_to_it() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Grant: 1\r\nUpgrade: echo\r\n\
                Connection: upgrade\r\nX-Wait: 1\r\n\r\n";
    let mut server = Server::start();
    server.client.write_all(head.as_bytes()).await.unwrap();
    while server.requests() == 0 {
        tokio::task::yield_now().await;
    }
    server.client.write_all(b"early\0\n").await.unwrap();
    server.release.notify_one();
    server.until("early\0\n").await;
    server.client.write_all(b"late").await.unwrap();
    server.until("late").await;
    assert_eq!(server.handle.refusal(), None);
}

/// A client that has sent a request, whose response waits.
async fn waiting_for_a_response() -> Server {
    let mut server = Server::start();
    let head = b"GET /late HTTP/1.1\r\nHost: a\r\nX-Wait: 1\r\n\r\n";
    server.client.write_all(head).await.unwrap();
    while server.requests() == 0 {
        tokio::task::yield_now().await;
    }
    server
}

#[tokio::test]
async fn a_client_that_ends_before_its_response_is_noticed_and_gets_it_all_the_same() {
    let mut server = waiting_for_a_response().await;
    server.client.shutdown().await.unwrap();
    assert_eq!(server.handle.client_ended().await, ClientEnd::Finished);
    server.release.notify_one();
    let answer = server.exchange(b"").await;
    assert!(answer.ends_with("/late"), "{answer}");
}

#[tokio::test]
async fn requests_behind_one_that_waits_are_read_in_their_turn() {
    let mut server = waiting_for_a_response().await;
    let next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3);
    server.client.write_all(next.as_bytes()).await.unwrap();
    server.client.shutdown().await.unwrap();
    assert_eq!(server.handle.client_ended().await, ClientEnd::Finished);
    assert_eq!(server.requests(), 1);
    server.release.notify_one();
    let answer = server.exchange(b"").await;
    assert_eq!(answer.matches("/next").count(), 3, "{answer}");
}

#[tokio::test]
async fn a_client_that_breaks_off_before_its_response_is_noticed() {
    let Server { client, handle, .. } = waiting_for_a_response().await;
    drop(client);
    // A pipe in memory ends; a connection would have been reset.
    assert_eq!(handle.client_ended().await, ClientEnd::Finished);
}

#[tokio::test]
async fn a_head_that_has_begun_has_its_time_and_a_silence_between_requests_has_none() {
    let head_time = Duration::from_millis(300);
    let mut server = Server::with_limits(Limits {
        head_time: Some(head_time),
        ..Limits::DEFAULT
    });
    // Longer than a head may take; an empty line begins none (RFC 9112 section 2.2).
    for request in [
        "GET /one HTTP/1.1\r\nHost: a\r\n\r\n\r\n",
        "GET /two HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        server.client.write_all(request.as_bytes()).await.unwrap();
        let path = &request[4..8];
        assert_eq!(statuses(&server.until(path).await), ["200"]);
        tokio::time::sleep(2 * head_time).await;
    }
    // Not even one byte after the other prolongs it.
    let began = Instant::now();
    let (mut reader, mut writer) = tokio::io::split(&mut server.client);
    let drip = async {
        writer
            .write_all(b"GET /three HTTP/1.1\r\nHost: a\r\nname: ")
            .await
            .unwrap();
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(head_time / 10).await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(20), reader.read_to_end(&mut answer));
    tokio::select! {
        read = reading => assert!(read.is_ok(), "no end"),
        () = drip => {}
    }
    let answer = String::from_utf8(answer).unwrap();
    assert_eq!(statuses(&answer), ["408"]);
    assert!(began.elapsed() >= head_time);
    assert_eq!(server.handle.refusal(), Some(Refusal::HeadTimeout));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn bytes_of_a_head_are_told_until_it_is_complete() {
    let mut server = Server::start();
    let begin = format!("GET /one HTTP/1.1\r\nHost: a\r\nname: {}", "x".repeat(9000));
    server.client.write_all(begin.as_bytes()).await.unwrap();
    until_unserved(&server, |bytes| bytes >= begin.len()).await;
    server.client.write_all(b"\r\n\r\n").await.unwrap();
    server.until("/one").await;
    until_unserved(&server, |bytes| bytes == 0).await;
    // One request that waits for its answer, and half a one behind it.
    let more = "GET /two HTTP/1.1\r\nHost: a\r\nx-wait: 1\r\n\r\nGET /three HTTP/1.1\r\n";
    server.client.write_all(more.as_bytes()).await.unwrap();
    until_unserved(&server, |bytes| bytes >= 21).await;
    server.release.notify_one();
    server.until("/two").await;
    server.client.write_all(b"Host: a\r\n\r\n").await.unwrap();
    server.until("/three").await;
    until_unserved(&server, |bytes| bytes == 0).await;
}

async fn until_unserved(server: &Server, is_enough: impl Fn(usize) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_enough(server.handle.unserved_bytes()) {
        let bytes = server.handle.unserved_bytes();
        assert!(Instant::now() < deadline, "{bytes}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
