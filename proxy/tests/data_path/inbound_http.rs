//! Requests that arrive for a pod: recorded by the receiving side, too, whichever way they
//! come, and passed on as they are.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_testing::wait::DEADLINE;
use weft_testing::web::{WebServer, text};

use super::application;
use super::bed::{Bed, Pod};
use super::http::{Client, get, web};

/// A client on `node-1`, a web server `web` on `node`, and its service's address; the port
/// is declared as HTTP.
async fn served(bed: &mut Bed, node: &'static str) -> (Pod, Pod, WebServer, SocketAddr) {
    // A node hears of what is told after it is there.
    bed.node(node);
    let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
    let web = web(&server, text("hello")).await;
    let endpoints = [(web.address.ip(), Some(&server))];
    let address = bed.service_that_declares("http", "web", web.address.port(), &endpoints);
    (client, server, web, address)
}

#[tokio::test]
async fn requests_are_reported_by_both_sides_whatever_is_between_them() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let (client, _server, web, address) = served(&mut bed, node).await;
        let mut connection = Client::connect(&client, address).await;
        for _ in 0..3 {
            let answer = connection.get("/a?b=c").await;
            assert_eq!((answer.status, &*answer.body), (200, "hello"));
        }
        assert_eq!(web.last().uri(), "/a?b=c");
        for (reporting, reporter) in [("node-1", "source"), (node, "destination")] {
            let reporter = format!("reporter=\"{reporter}\"");
            let parts = [
                "istio_requests_total{",
                &reporter,
                "connection_security_policy=\"mutual_tls\"",
                "source_workload=\"client\"",
                "source_principal=\"spiffe://cluster.local/ns/default/sa/client\"",
                "destination_workload=\"server\"",
                "destination_service_name=\"web\"",
                "response_code=\"200\"",
                "} 3",
            ];
            bed.counts(reporting, &parts).await;
        }
        let lasted = [
            "istio_request_duration_milliseconds_count{",
            "\"destination\"",
            "} 3",
        ];
        bed.counts(node, &lasted).await;
        // The connection beneath is none that carries bytes as they are.
        let opened = ["weft_http_connections_opened_total{", "\"inbound\"", "} 1"];
        bed.counts(node, &opened).await;
        let text = super::metrics(&mut bed, node);
        let mut lines = text.lines();
        let opaque = lines.find(|line| {
            line.starts_with("istio_tcp_connections_opened_total{")
                && line.contains("\"destination\"")
        });
        assert_eq!(opaque, None);
    }
}

#[tokio::test]
async fn each_clients_connection_keeps_one_of_its_own_to_the_application() {
    let mut bed = Bed::new();
    let (client, _server, web, address) = served(&mut bed, "node-2").await;
    let mut connection = Client::connect(&client, address).await;
    for _ in 0..5 {
        assert_eq!(connection.get("/").await.status, 200);
    }
    assert_eq!(web.connections(), 1);
}

#[tokio::test]
async fn an_application_that_breaks_off_is_not_answered_for() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let broken = application(&server, async |mut stream: TcpStream| {
            let _ = stream.read(&mut [0; 1024]).await;
            drop(stream);
        })
        .await;
        let endpoints = [(broken.ip(), Some(&server))];
        bed.service_that_declares("http", "web", broken.port(), &endpoints);
        // A connection to the pod itself is no service's: the client sees what arrives.
        let mut stream = client.connect(broken).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
        // However it ends: nobody has made up an answer.
        let _ = read.expect("the connection ends");
        assert_eq!(String::from_utf8_lossy(&answer), "");
    }
}

/// Bytes that come of a response that breaks off.
const PART: usize = 40_000;

/// Answers with less than the response's length, then ends the connection or breaks it off.
async fn answer_in_part(mut stream: TcpStream, by_reset: bool) {
    let _ = stream.read(&mut [0; 1024]).await;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 2 * PART);
    let mut response = head.into_bytes();
    response.resize(PART, b'x');
    stream.write_all(&response).await.unwrap();
    if by_reset {
        // The other end's kernel has all of it, which is less than its window.
        SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
}

#[tokio::test]
async fn all_that_was_sent_of_a_response_that_breaks_off_arrives_before_its_end() {
    for (node, by_reset) in [("node-2", false), ("node-1", false), ("node-2", true)] {
        let mut bed = Bed::new();
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let serve = move |stream| answer_in_part(stream, by_reset);
        let broken = application(&server, serve).await;
        let endpoints = [(broken.ip(), Some(&server))];
        let service = bed.service_that_declares("http", "web", broken.port(), &endpoints);
        // What is sent and what is said of the end race: often enough to see it lost.
        for to in [broken, service].into_iter().cycle().take(20) {
            let mut stream = client.connect(to).await.unwrap();
            let request = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut response = Vec::new();
            let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut response)).await;
            let read = read.expect("the connection ends");
            assert_eq!(response.len(), PART, "{node}, {by_reset}, {to}: {read:?}");
            assert_eq!(read.is_err(), by_reset, "{node}, {to}");
        }
    }
}

#[tokio::test]
async fn http2_arrives_as_http2_and_grpc_keeps_its_trailers() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let web = web(&server, |_, seen| {
        assert_eq!(seen.headers()["te"], "trailers");
        let response = Response::builder().header("grpc-status", "0");
        response.body("").unwrap()
    })
    .await;
    let endpoints = [(web.address.ip(), Some(&server))];
    let address = bed.service_that_declares("grpc", "web", web.address.port(), &endpoints);
    let stream = client.connect(address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://web/shop.Cart/Add")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let request = request.body(Full::<Bytes>::default()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "0");
    response.into_body().collect().await.unwrap();
    let parts = [
        "istio_requests_total{",
        "reporter=\"destination\"",
        "request_protocol=\"grpc\"",
        "grpc_response_status=\"0\"",
        "} 1",
    ];
    bed.counts("node-2", &parts).await;
}

#[tokio::test]
async fn what_two_servers_may_read_differently_is_refused_by_the_receiving_side_too() {
    let mut bed = Bed::new();
    let (client, _server, web, _) = served(&mut bed, "node-2").await;
    // To the pod itself, so that only the receiving side looks.
    let mut stream = client.connect(web.address).await.unwrap();
    let smuggled = "GET / HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\
                    Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    stream.write_all(smuggled.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await;
    read.expect("no answer in time").unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(web.count(), 0);
    let parts = [
        "weft_http_connections_closed_total{",
        "response_flags=\"REQUEST_FRAMING\"",
        "} 1",
    ];
    bed.counts("node-2", &parts).await;
}

#[tokio::test]
async fn a_head_that_never_ends_has_its_time_and_a_silence_between_requests_has_none() {
    const HEAD_TIME: Duration = Duration::from_millis(500);
    let mut bed = Bed::with(|settings| settings.heads.time = Some(HEAD_TIME));
    let (client, _server, web, service) = served(&mut bed, "node-2").await;
    // To the service the sending side answers, to the pod itself the receiving one.
    for (node, to) in [("node-1", service), ("node-2", web.address)] {
        let mut silent = Client::connect(&client, to).await;
        assert_eq!(silent.get("/").await.status, 200);
        let answered = web.count();
        let began = Instant::now();
        let mut stream = client.connect(to).await.unwrap();
        let begin = b"GET / HTTP/1.1\r\nHost: web\r\nname: val";
        stream.write_all(begin).await.unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await;
        read.expect("no end in time").unwrap();
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(began.elapsed() >= HEAD_TIME);
        assert_eq!(web.count(), answered);
        let parts = [
            "weft_http_connections_closed_total{",
            "response_flags=\"REQUEST_TIMEOUT\"",
            "} 1",
        ];
        bed.counts(node, &parts).await;
        assert_eq!(silent.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn a_port_that_nobody_declared_is_not_looked_at() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let web = web(&server, text("hello")).await;
    let endpoints = [(web.address.ip(), Some(&server))];
    let address = bed.service("web", web.address.port(), &endpoints);
    let mut connection = Client::connect(&client, address).await;
    assert_eq!(connection.ask(get("/")).await.status, 200);
    drop(connection);
    let parts = [
        "istio_tcp_connections_closed_total{",
        "\"destination\"",
        "} 1",
    ];
    bed.counts("node-2", &parts).await;
    let text = super::metrics(&mut bed, "node-2");
    assert!(!text.contains("istio_requests_total{"), "{text}");
}

#[tokio::test]
async fn a_request_of_http_1_0_without_a_host_reaches_another_node() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let (client, _server, web, address) = served(&mut bed, node).await;
        let mut stream = client.connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
        read.unwrap().unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"),
            "{answer}"
        );
        assert_eq!(web.last().headers()["host"], address.to_string());
    }
}

/// An application that would change to any protocol that it is asked for, and says what it was
/// asked.
async fn changes_its_protocol(mut stream: TcpStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    let is_asked = request.contains("upgrade") || request.contains("http2-settings");
    let answer = match is_asked {
        true => "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        false => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    // Until its client ends.
    let _ = stream.read(&mut [0; 64]).await;
}

/// Requests inside of another HTTP/2 would pass every rule: whoever asks for it by an upgrade
/// stays with HTTP/1 (RFC 9113 section 3.1 has no such upgrade any more).
#[tokio::test]
async fn nobody_gets_into_http2_past_the_receiving_side_by_an_upgrade() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        bed.node(node);
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let to = application(&server, changes_its_protocol).await;
        let endpoints = [(to.ip(), Some(&server))];
        let service = bed.service_that_declares("http", "web", to.port(), &endpoints);
        // To the pod itself, so that only the receiving side looks, and through its Service.
        for to in [to, service] {
            let mut stream = client.connect(to).await.unwrap();
            let request = "GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                           Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = vec![0; 1024];
            let read = tokio::time::timeout(DEADLINE, stream.read(&mut answer)).await;
            let read = read.expect("it is answered").unwrap();
            let answer = String::from_utf8_lossy(&answer[..read]);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{node} {to}: {answer}");
        }
        let counted = [
            "istio_requests_total{",
            "reporter=\"destination\"",
            "response_code=\"200\"",
        ];
        bed.counts(node, &counted).await;
    }
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_read_by_the_receiving_side_too() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let (client, _server, web, _) = served(&mut bed, node).await;
        // To the pod itself: nobody else looks.
        let stream = client.connect(web.address).await.unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.unwrap();
        tokio::spawn(connection);
        for _ in 0..2 {
            let request = Request::get("http://web/").body(Full::<Bytes>::default());
            let response = sender.send_request(request.unwrap()).await.unwrap();
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.unwrap();
        }
        let parts = [
            "istio_requests_total{",
            "reporter=\"destination\"",
            "response_code=\"200\"",
            "} 2",
        ];
        bed.counts(node, &parts).await;
    }
}
