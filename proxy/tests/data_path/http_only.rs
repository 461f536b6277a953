//! Ports that carry HTTP alone: what is understood is served, and everything else is refused,
//! whoever looks and whoever speaks first.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_model::Change;
use weft_model::route::RouteKind;
use weft_testing::fixtures::{self, PORT, backend, rule};
use weft_testing::tcp::{closed_port, echo};
use weft_testing::wait::in_time;
use weft_testing::web::{WebServer, text};

use super::application;
use super::bed::{Bed, Pod};
use super::http::web;

const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Everything that a client reads until the other side ends, and whether that was a reset.
async fn heard(mut stream: TcpStream, bytes: &[u8]) -> (String, bool) {
    let mut answer = Vec::new();
    let _ = stream.write_all(bytes).await;
    let read = in_time(stream.read_to_end(&mut answer)).await;
    (String::from_utf8_lossy(&answer).into_owned(), read.is_err())
}

/// A client on `node-1` and a web server on `node`, which has a service of that protocol.
async fn served(
    bed: &mut Bed,
    node: &'static str,
    app_protocol: &str,
) -> (Pod, Pod, WebServer, SocketAddr) {
    bed.node(node);
    let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
    let web = web(&server, text("hello")).await;
    let endpoints = [(web.address.ip(), Some(&server))];
    let port = web.address.port();
    let service = bed.service_that_declares(app_protocol, "web", port, &endpoints);
    (client, server, web, service)
}

/// Openings that nobody takes for HTTP.
const FOREIGN: [&[u8]; 8] = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"EHLO example.org\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"\0\0\0\x08\x04\xd2\x16\x2f",
    b"GET /\r\n",
    b"GET\t/ HTTP/1.1\r\nHost: web\r\n\r\n",
    b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: web\r\n\r\n",
];

#[tokio::test]
async fn what_is_no_http_reaches_nobody_on_a_port_that_is_declared_as_http() {
    for (node, app_protocol) in [("node-2", "http"), ("node-1", "http"), ("node-2", "grpc")] {
        let mut bed = Bed::new();
        let (client, _server, web, service) = served(&mut bed, node, app_protocol).await;
        for bytes in FOREIGN {
            let connected = client.connect(service).await.unwrap();
            assert_eq!(heard(connected, bytes).await, (String::new(), true));
        }
        let refused = [
            "istio_tcp_connections_failed_total{",
            "reporter=\"source\"",
            "response_flags=\"NOT_HTTP\"",
            "} 8",
        ];
        bed.counts("node-1", &refused).await;
        // To the pod itself, by a tunnel or on the node: the receiving side alone looks.
        for bytes in FOREIGN {
            let connected = client.connect(web.address).await.unwrap();
            assert_eq!(heard(connected, bytes).await, (String::new(), true));
        }
        let refused = [
            "istio_tcp_connections_failed_total{",
            "reporter=\"destination\"",
            "response_flags=\"NOT_HTTP\"",
            "} 8",
        ];
        bed.counts(node, &refused).await;
        assert_eq!(web.count(), 0);
    }
}

#[tokio::test]
async fn a_port_with_a_route_for_requests_carries_nothing_else_whatever_is_declared() {
    for (app_protocol, kind) in [("", RouteKind::Http), ("tcp", RouteKind::Grpc)] {
        let mut bed = Bed::new();
        let (client, _server, web, service) = served(&mut bed, "node-2", app_protocol).await;
        let rules = vec![rule(vec![backend("web", 1)])];
        bed.tell(&Change::Route(fixtures::route(kind, "web", rules)));
        for bytes in FOREIGN {
            let connected = client.connect(service).await.unwrap();
            assert_eq!(heard(connected, bytes).await, (String::new(), true));
        }
        assert_eq!(web.count(), 0);
    }
}

#[tokio::test]
async fn whatever_could_be_taken_for_a_request_is_read_as_one() {
    for node in ["node-1", "node-2"] {
        read_as_requests(node).await;
    }
}

async fn read_as_requests(node: &'static str) {
    let mut bed = Bed::new();
    let (client, _server, web, service) = served(&mut bed, node, "http").await;
    let mut served = 0;
    for (line, status) in [
        ("GET / HTTP/1.1", "200"),
        ("\r\nGET / HTTP/1.1", "200"),
        ("\r\n\r\nGET / HTTP/1.1", "200"),
        ("get / HTTP/1.1", "200"),
        ("M-SEARCH.x1 / HTTP/1.1", "200"),
        ("OPTIONS * HTTP/1.1", "200"),
        ("GET http://web/ HTTP/1.1", "200"),
        ("GET / HTTP/1.0", "200"),
        ("GET / HTTP/1.2", "400"),
        ("GET / HTTP/2.0", "400"),
        ("GET / HTTP/1.1 ", "400"),
        (" GET / HTTP/1.1", "400"),
        ("GET  / HTTP/1.1", "400"),
        ("GET /\0 HTTP/1.1", "400"),
        ("GET ?x HTTP/1.1", "400"),
        ("GET / HTTP/1.1\nHost: x\r\nX: y", "400"),
        ("GET / HTTP/1.1\r\nX: y\r\n z", "400"),
    ] {
        // The service, and the pod itself, where the receiving side alone looks.
        for to in [service, web.address] {
            let connected = client.connect(to).await.unwrap();
            let request = format!("{line}\r\nHost: web\r\nConnection: close\r\n\r\n");
            let (answer, _) = heard(connected, request.as_bytes()).await;
            let begin = answer.split(' ').nth(1).unwrap_or_default();
            assert_eq!(begin, status, "{line:?} to {to}: {answer}");
            served += usize::from(status == "200");
        }
    }
    assert_eq!(web.count(), served);
    let connected = client.connect(service).await.unwrap();
    let frames = format!("{PREFACE}\0\0\0\x04\0\0\0\0\0\0\0\0\x07\0\0\0\0\0");
    let (answer, _) = heard(connected, frames.as_bytes()).await;
    assert!(answer.starts_with("\0\0"), "no SETTINGS: {answer:?}");
}

#[tokio::test]
async fn a_server_that_speaks_first_is_refused_on_a_port_that_carries_http() {
    for node in ["node-1", "node-2"] {
        let mut bed = Bed::new();
        bed.node(node);
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let greeting = application(&server, async |mut stream: TcpStream| {
            let _ = stream.write_all(b"220 ready\r\n").await;
            echo(stream).await;
        })
        .await;
        let endpoints = [(greeting.ip(), Some(&server))];
        let service = bed.service_that_declares("http", "mail", greeting.port(), &endpoints);
        for to in [service, greeting] {
            let connected = client.connect(to).await.unwrap();
            assert_eq!(heard(connected, b"").await.0, "", "{node}");
        }
        let refused = [
            "istio_tcp_connections_failed_total{",
            "reporter=\"destination\"",
            "response_flags=\"NOT_HTTP\"",
            "} 2",
        ];
        bed.counts(node, &refused).await;
    }
}

#[tokio::test]
async fn what_follows_a_silence_is_read_as_any_other_request() {
    let mut bed = Bed::new();
    let (client, _server, web, service) = served(&mut bed, "node-2", "http").await;
    for (begin, rest, status) in [
        ("", "GET / HTTP/1.1\r\nHost: web\r\n", "200"),
        ("GE", "T / HTTP/1.1\r\nHost: web\r\n", "200"),
        ("GET / HTTP/1.1\r\nHo", "st: web\r\n", "200"),
        ("\r\n", "GET / HTTP/1.2\r\nHost: web\r\n", "400"),
        ("", "EHLO example.org\r\n", ""),
    ] {
        let mut stream = client.connect(service).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        // Longer than a client may be silent before an endpoint is listened to.
        tokio::time::sleep(Duration::from_millis(600)).await;
        let rest = format!("{rest}Connection: close\r\n\r\n");
        let (answer, _) = heard(stream, rest.as_bytes()).await;
        let found = answer.split(' ').nth(1).unwrap_or_default();
        assert_eq!(found, status, "{begin:?}, {rest:?}: {answer}");
    }
    assert_eq!(web.count(), 3);
}

#[tokio::test]
async fn a_silent_client_is_told_that_no_endpoint_takes_a_connection() {
    let mut bed = Bed::new();
    bed.node("node-2");
    let client = bed.pod("node-1", "client");
    for (node, flag) in [
        ("node-2", "CONNECT"),
        ("node-1", "CONNECT"),
        ("outside", "CONNECT"),
        ("nowhere", "NO_ENDPOINT"),
    ] {
        let server = node.starts_with("node").then(|| bed.pod(node, node));
        let closed = closed_port().await;
        let pod = server.as_ref();
        let address = pod.map_or(closed.ip(), |pod| pod.address().into());
        let endpoints = [(address, pod)];
        let endpoints = match node {
            "nowhere" => &[][..],
            _ => &endpoints,
        };
        let service = bed.service_that_declares("http", node, closed.port(), endpoints);
        let connected = client.connect(service).await.unwrap();
        assert_eq!(heard(connected, b"").await, (String::new(), true), "{node}");
        let told = [
            "istio_tcp_connections_failed_total{",
            // That of a Service without endpoints isn't known.
            &match endpoints {
                [] => String::new(),
                _ => format!("destination_service=\"{node}\""),
            },
            &format!("response_flags=\"{flag}\""),
            "} 1",
        ];
        bed.counts("node-1", &told).await;
    }
}

#[tokio::test]
async fn a_silent_client_is_waited_for_where_a_route_may_send_its_requests_elsewhere() {
    let mut bed = Bed::new();
    let (client, _server, web, _) = served(&mut bed, "node-2", "http").await;
    let front = bed.service_that_declares("http", "front", PORT, &[]);
    let rules = vec![rule(vec![backend("web", 1)])];
    bed.tell(&Change::Route(fixtures::route(
        RouteKind::Http,
        "front",
        rules,
    )));
    let stream = client.connect(front).await.unwrap();
    // Longer than a client may be silent before an endpoint is listened to.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let request = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    let (answer, _) = heard(stream, request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(web.count(), 1);
}

#[tokio::test]
async fn a_server_that_gives_a_silent_client_up_is_heard_and_the_client_is_not() {
    const GIVEN_UP: &str = "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n";
    for said in [GIVEN_UP, ""] {
        for node in ["node-1", "node-2"] {
            let mut bed = Bed::new();
            bed.node(node);
            let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
            let (told, mut heard_of) = tokio::sync::mpsc::unbounded_channel();
            let impatient = application(&server, move |mut stream: TcpStream| {
                let told = told.clone();
                async move {
                    let _ = stream.write_all(said.as_bytes()).await;
                    let _ = stream.shutdown().await;
                    let mut bytes = Vec::new();
                    let _ = stream.read_to_end(&mut bytes).await;
                    let _ = told.send(bytes);
                }
            })
            .await;
            let endpoints = [(impatient.ip(), Some(&server))];
            let port = impatient.port();
            let service = bed.service_that_declares("http", "web", port, &endpoints);
            let mut stream = client.connect(service).await.unwrap();
            let mut answer = String::new();
            in_time(stream.read_to_string(&mut answer)).await.unwrap();
            assert_eq!(answer, said, "{node}");
            let _ = stream.write_all(b"DELETE / HTTP/1.1\r\n\r\n").await;
            drop(stream);
            let bytes = in_time(heard_of.recv()).await.unwrap();
            assert!(bytes.is_empty(), "{bytes:?}");
        }
    }
}

#[tokio::test]
async fn a_check_that_connects_and_ends_reaches_the_server() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let server = bed.pod("node-1", "server");
    let (told, mut heard_of) = tokio::sync::mpsc::unbounded_channel();
    let checked = application(&server, move |mut stream: TcpStream| {
        let told = told.clone();
        async move {
            let read = stream.read(&mut [0; 1]).await;
            let _ = told.send(read.ok());
        }
    })
    .await;
    let endpoints = [(checked.ip(), Some(&server))];
    let service = bed.service_that_declares("http", "web", checked.port(), &endpoints);
    drop(client.connect(service).await.unwrap());
    assert_eq!(in_time(heard_of.recv()).await, Some(Some(0)));
}
