//! Requests that arrive for a pod: recorded by the receiving side, too, whichever way they
//! come, and passed on as they are.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_testing::tcp::{echo, exchange};
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
async fn bytes_on_a_port_that_was_declared_as_http_are_carried_as_they_are() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let echoing = application(&server, echo).await;
    let endpoints = [(echoing.ip(), Some(&server))];
    bed.service_that_declares("http", "web", echoing.port(), &endpoints);
    let mut stream = client.connect(echoing).await.unwrap();
    assert_eq!(exchange(&mut stream, "SSH-2.0\r\n").await, "SSH-2.0\r\n");
    drop(stream);
    let parts = [
        "istio_tcp_connections_closed_total{",
        "\"destination\"",
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
