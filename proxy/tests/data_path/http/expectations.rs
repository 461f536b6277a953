//! What passes before the final answer: bodies that wait for a 100, early hints, and answers that
//! come before a body has; near and far.

use super::raw_server::{NODES, OK, REQUEST, declared, raw, read_until, talk};
use super::*;

/// A server that answers heads without reading what follows them.
async fn refusing(
    bed: &mut Bed,
    node: &'static str,
    answer: &'static str,
) -> (Pod, Pod, SocketAddr) {
    declared(bed, node, move |mut stream| async move {
        while !read_head(&mut stream).await.is_empty() {
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await
}

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const EXPECTING: &str = "PUT /file HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\n\
                         Content-Length: 5\r\n\r\n";

#[tokio::test]
async fn a_server_that_refuses_a_body_is_heard_before_it_is_sent() {
    for node in NODES {
        for status in ["401 No", "417 No", "413 No"] {
            let mut bed = Bed::new();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno");
            let answer: &'static str = answer.leak();
            let (client, _server, address) = refusing(&mut bed, node, answer).await;
            let (answer, mut stream) = talk(&client, address, EXPECTING, "no").await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
                "{answer}"
            );
            assert!(answer.contains("connection: close\r\n"), "{answer}");
            assert_eq!(read_until(&mut stream, "never").await, "");
        }
    }
}

#[tokio::test]
async fn a_body_is_sent_once_its_server_has_asked_for_it_or_unasked() {
    for node in NODES {
        for asks in [true, false] {
            let mut bed = Bed::new();
            let server = move |mut stream: TcpStream| async move {
                loop {
                    read_head(&mut stream).await;
                    if asks {
                        let _ = stream.write_all(CONTINUE.as_bytes()).await;
                    }
                    let mut body = [0; 5];
                    stream.read_exact(&mut body).await.unwrap();
                    assert_eq!(&body, b"hello");
                    let _ = stream.write_all(OK.as_bytes()).await;
                }
            };
            let (client, _server, address) = declared(&mut bed, node, server).await;
            let mut stream = client.connect(address).await.unwrap();
            for _ in 0..3 {
                stream.write_all(EXPECTING.as_bytes()).await.unwrap();
                if asks {
                    let interim = read_until(&mut stream, "\r\n\r\n").await;
                    assert_eq!(interim, CONTINUE);
                }
                stream.write_all(b"hello").await.unwrap();
                let answer = read_until(&mut stream, "ok").await;
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
                // In one piece, as some clients send it.
                let whole = format!("{EXPECTING}hello");
                stream.write_all(whole.as_bytes()).await.unwrap();
                let answer = read_until(&mut stream, "ok").await;
                assert!(answer.contains("HTTP/1.1 200 OK\r\n"), "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_gives_up_while_it_waits_with_its_body_is_seen() {
    for node in NODES {
        let mut bed = Bed::new();
        let (client, _server, raw, address) = raw(&mut bed, node, "").await;
        let mut stream = client.connect(address).await.unwrap();
        stream.write_all(EXPECTING.as_bytes()).await.unwrap();
        wait_until("a request", || raw.text(0).ends_with("\r\n\r\n")).await;
        drop(stream);
        wait_until("the server to see it", || raw.connections()[0].has_ended).await;
    }
}

#[tokio::test]
async fn early_hints_are_passed_on() {
    for node in NODES {
        let mut bed = Bed::new();
        let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";
        let answer = format!("{hints}{hints}{OK}");
        let (client, _server, _raw, address) = raw(&mut bed, node, answer).await;
        let (answer, mut stream) = talk(&client, address, REQUEST, "ok").await;
        assert!(
            answer.starts_with(&format!("{hints}{hints}HTTP/1.1 200 ")),
            "{answer}"
        );
        // The next one has them before its own.
        stream.write_all(REQUEST.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "ok").await;
        assert!(
            answer.starts_with(&format!("{hints}{hints}HTTP/1.1 200 ")),
            "{answer}"
        );
        // HTTP/1.0 knows none.
        let old = "GET / HTTP/1.0\r\nHost: web\r\n\r\n";
        let (answer, _stream) = talk(&client, address, old, "ok").await;
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_ahead_of_a_large_body_reaches_a_client_that_sends_on() {
    for node in NODES {
        let mut bed = Bed::new();
        let (client, _server, address) = declared(&mut bed, node, async |mut stream| {
            read_head(&mut stream).await;
            let answer = b"HTTP/1.1 413 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
            let _ = stream.write_all(answer).await;
            // It closes in order, with a body on its way.
            let _ = stream.shutdown().await;
            while let Ok(1..) = stream.read(&mut [0; 4096]).await {}
        })
        .await;
        let mut stream = client.connect(address).await.unwrap();
        let head = "PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 8388608\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        // Like many it looks for its answer when everything is sent.
        stream
            .write_all(&vec![b'a'; 8 * 1024 * 1024])
            .await
            .unwrap();
        let answer = read_until(&mut stream, "no").await;
        assert!(answer.starts_with("HTTP/1.1 413 No\r\n"), "{answer}");
    }
}
