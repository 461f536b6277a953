//! Responses of servers of HTTP/1 that answer early or oddly, near and far.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use weft_testing::tcp;

use super::raw_server::{declared, raw, read_until, talk};
use super::*;

const NODES: [&str; 2] = ["node-1", "node-2"];

#[tokio::test]
async fn an_early_answer_is_passed_on_whose_server_closes_with_the_body_unread() {
    for node in NODES {
        let mut bed = Bed::new();
        let requests = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&requests);
        let (client, _server, address) = declared(&mut bed, node, move |mut stream| {
            let seen = Arc::clone(&seen);
            async move {
                read_head(&mut stream).await;
                seen.fetch_add(1, Ordering::Relaxed);
                let answer =
                    b"HTTP/1.1 401 No\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope";
                stream.write_all(answer).await.unwrap();
                // Some of the body is there, so that the end is a reset.
                stream.readable().await.unwrap();
            }
        })
        .await;
        let body = vec![b'a'; 3 * 1024 * 1024];
        for round in 1..=50 {
            let mut stream = client.connect(address).await.unwrap();
            let head = "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 3145728\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body).await.unwrap();
            let answer = read_until(&mut stream, "nope").await;
            assert!(
                answer.starts_with("HTTP/1.1 401 No\r\n"),
                "{node} {round}: {answer}"
            );
            assert_eq!(requests.load(Ordering::Relaxed), round, "{node}");
        }
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: web\r\n\r\n";

#[tokio::test]
async fn a_field_with_a_space_before_its_colon_or_in_several_lines_is_passed_on_without() {
    for node in NODES {
        for (field, expected) in [
            ("X-A : one", "\r\nX-A: one\r\n"),
            ("X-A: one\r\n two", "\r\nX-A: one"),
        ] {
            let mut bed = Bed::new();
            let answer = format!("HTTP/1.1 200 OK\r\n{field}\r\nContent-Length: 2\r\n\r\nok");
            let (client, _server, _raw, address) = raw(&mut bed, node, answer).await;
            let (answer, _stream) = talk(&client, address, GET, "ok").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{node}: {answer}");
            assert!(answer.contains(expected), "{node}: {answer}");
            assert!(!answer.contains("\n two"), "{node}: {answer}");
            assert_eq!(
                answer.contains(" two\r\n"),
                field.contains("two"),
                "{answer}"
            );
        }
    }
}

#[tokio::test]
async fn a_response_that_asks_for_another_protocol_says_which() {
    for node in NODES {
        for (status, connection, is_kept) in [
            ("426 Upgrade Required", "upgrade", true),
            ("426 Upgrade Required", "upgrade, close", true),
            ("200 OK", "upgrade", false),
        ] {
            let mut bed = Bed::new();
            let answer = format!(
                "HTTP/1.1 {status}\r\nConnection: {connection}\r\nUpgrade: foo/1\r\n\
                 Content-Length: 2\r\n\r\nok"
            );
            let (client, _server, _raw, address) = raw(&mut bed, node, answer).await;
            let (answer, _stream) = talk(&client, address, GET, "ok").await;
            let answer = answer.to_ascii_lowercase();
            assert_eq!(answer.contains("upgrade: foo/1\r\n"), is_kept, "{answer}");
            assert_eq!(answer.contains("connection: upgrade"), is_kept, "{answer}");
        }
    }
}

#[tokio::test]
async fn a_body_whose_coding_would_be_lost_is_not_passed_on() {
    for node in NODES {
        for (coding, status) in [("gzip, chunked", "502"), ("chunked", "200")] {
            let mut bed = Bed::new();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n2\r\nok\r\n0\r\n\r\n"
            );
            let (client, _server, _raw, address) = raw(&mut bed, node, answer).await;
            let get = GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
            let (answer, _stream) = talk(&client, address, get, "never").await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
            assert_eq!(
                answer.contains("RESPONSE_SYNTAX"),
                status == "502",
                "{answer}"
            );
        }
    }
}

#[tokio::test]
async fn a_pod_that_answers_ahead_of_the_request_and_closes_is_heard() {
    for node in NODES {
        let mut bed = Bed::new();
        bed.node(node);
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let own = super::super::application(&server, async |mut stream| {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
            let _ = stream.write_all(answer).await;
        })
        .await;
        let endpoints = [(own.ip(), Some(&server))];
        bed.service_that_declares("http", "web", own.port(), &endpoints);
        for round in 1..=30 {
            let (answer, _stream) = talk(&client, own, GET, "ok").await;
            assert!(
                answer.starts_with("HTTP/1.1 200 OK\r\n"),
                "{node} {round}: {answer}"
            );
        }
    }
}

async fn answer_unasked(mut stream: TcpStream) {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    let _ = stream.write_all(answer).await;
}

#[tokio::test]
async fn a_server_of_a_service_that_answers_ahead_of_the_request_and_closes_is_heard() {
    for node in [Some("node-1"), Some("node-2"), None] {
        let mut bed = Bed::new();
        let client = bed.pod("node-1", "client");
        let server = node.map(|node| bed.pod(node, "server"));
        let own = match &server {
            Some(server) => super::super::application(server, answer_unasked).await,
            None => tcp::serve(tcp::listen().await, answer_unasked),
        };
        let endpoints = [(own.ip(), server.as_ref())];
        let service = bed.service_that_declares("http", "web", own.port(), &endpoints);
        for round in 1..=30 {
            let (answer, _stream) = talk(&client, service, GET, "ok").await;
            assert!(
                answer.starts_with("HTTP/1.1 200 OK\r\n"),
                "{node:?} {round}: {answer}"
            );
        }
    }
}
