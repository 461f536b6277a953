//! Connections that arrive on a port that is declared as HTTP are connections all the same:
//! limited, cut, and ended when they are silent.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use weft_model::Change;
use weft_model::ports::HBONE_PORT;
use weft_model::workload::Workload;
use weft_testing::hbone::{self, Tunnel};
use weft_testing::wait::in_time;

use super::application;
use super::bed::{Bed, Pod};

const UPGRADE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";

/// Changes the protocol, then writes now and then, and never reads.
async fn switch_and_push(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let mut result = stream.write_all(SWITCHED).await;
    while result.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        result = stream.write_all(b"x").await;
    }
}

/// A pod with that application, on a port that is declared as HTTP; and its client.
async fn declared<F>(
    bed: &mut Bed,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> (Pod, Pod, SocketAddr)
where
    F: Future<Output = ()> + Send + 'static,
{
    bed.node("node-2");
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let address = application(&server, serve).await;
    let endpoints = [(address.ip(), Some(&server))];
    bed.service_that_declares("http", "web", address.port(), &endpoints);
    (client, server, address)
}

/// Changes the protocol, where that is let through.
async fn upgrade(client: &Pod, to: SocketAddr) -> Option<TcpStream> {
    let mut stream = client.connect(to).await.ok()?;
    stream.write_all(UPGRADE).await.ok()?;
    let mut answer = vec![0; SWITCHED.len()];
    in_time(stream.read_exact(&mut answer)).await.ok()?;
    Some(stream)
}

#[tokio::test]
async fn another_protocol_is_cut_when_policy_changes_whatever_its_buffers_hold() {
    let mut bed = Bed::new();
    let (client, server, address) = declared(&mut bed, switch_and_push).await;
    let (mut reader, mut writer) = upgrade(&client, address).await.unwrap().into_split();
    // Sends ahead until nobody takes any more.
    let junk = vec![0; 64 * 1024];
    while timeout(Duration::from_secs(1), writer.write_all(&junk))
        .await
        .is_ok()
    {}
    let identity = "spiffe://elsewhere/ns/default/sa/server".parse().unwrap();
    let workload = Workload::clone(&server.workload);
    bed.tell(&Change::Workload(Workload {
        identity,
        ..workload
    }));
    let mut buffer = [0; 4096];
    let ended = async { while let Ok(1..) = reader.read(&mut buffer).await {} };
    in_time(ended).await;
    bed.counts(
        "node-2",
        &["weft_http_connections_closed_total{", "POLICY_CHANGED"],
    )
    .await;
}

#[tokio::test]
async fn another_protocol_counts_under_the_pods_limit_until_it_ends() {
    let mut bed = Bed::with(|settings| settings.connections_per_pod = 8);
    let (client, _server, address) = declared(&mut bed, switch_and_push).await;
    let mut open = Vec::new();
    for _ in 0..10 {
        open.extend(upgrade(&client, address).await);
    }
    // Those that come in have three quarters; one is the tunnel's.
    assert_eq!(open.len(), 5);
    open.clear();
    let mut again = None;
    for _ in 0..100 {
        again = upgrade(&client, address).await;
        if again.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(again.is_some(), "no permit was given back");
}

#[tokio::test]
async fn a_client_that_stays_silent_is_ended_on_a_port_that_is_declared_as_http() {
    let mut bed = Bed::with(|settings| settings.idle.open = Some(Duration::from_millis(300)));
    let wait = async |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 1]).await;
    };
    let (client, server, address) = declared(&mut bed, wait).await;
    let presented = bed.authority.workload(&client.workload.identity);
    let config = hbone::client(Some(&presented));
    let tunnel = Tunnel::open(server.at(HBONE_PORT), config, hbone::connect(address));
    let _tunnel = in_time(tunnel).await.unwrap();
    bed.counts(
        "node-2",
        &["istio_tcp_connections_closed_total{", "IDLE_TIMEOUT"],
    )
    .await;
}

#[tokio::test]
async fn a_pod_of_which_the_mesh_knows_no_address_is_reached_by_those_that_it_started_with() {
    let mut bed = Bed::new();
    let (client, server, address) = declared(&mut bed, switch_and_push).await;
    bed.tell(&Change::Workload(Workload {
        addresses: Vec::new(),
        ..Workload::clone(&server.workload)
    }));
    let presented = bed.authority.workload(&client.workload.identity);
    let config = hbone::client(Some(&presented));
    let tunnel = Tunnel::open(server.at(HBONE_PORT), config, hbone::connect(address));
    in_time(tunnel).await.expect("its own address");
}

#[tokio::test]
async fn heads_of_requests_that_nobody_answers_take_no_more_memory_than_there_is() {
    let mut bed = Bed::with(|settings| settings.buffer_bytes = 2 << 20);
    let wait = async |mut stream: TcpStream| {
        let mut read = [0; 4096];
        while let Ok(1..) = stream.read(&mut read).await {}
    };
    let (client, _server, address) = declared(&mut bed, wait).await;
    let stream = TokioIo::new(client.connect(address).await.unwrap());
    let connected = http2::handshake(TokioExecutor::new(), stream).await;
    let (sender, connection) = connected.unwrap();
    tokio::spawn(connection);
    let mut answers = JoinSet::new();
    for _ in 0..100 {
        let mut sender = sender.clone();
        answers.spawn(async move {
            let mut request = Request::get("http://web/");
            for number in 0..8 {
                request = request.header(format!("x-{number}"), "a".repeat(7000));
            }
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            sender.send_request(request).await
        });
    }
    let refused = in_time(answers.join_next()).await.unwrap().unwrap();
    assert_eq!(refused.unwrap().status(), 503);
}

#[tokio::test]
async fn settings_that_come_before_the_preface_hide_no_requests() {
    let mut bed = Bed::new();
    let (sent, mut is_sent) = watch::channel(false);
    let settings_first = move |mut stream: TcpStream| {
        let sent = sent.clone();
        async move {
            // Length 0, SETTINGS, no flags, the connection itself.
            let _ = stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
            sent.send_replace(true);
            let mut read = [0; 1024];
            while let Ok(1..) = stream.read(&mut read).await {}
        }
    };
    let (client, _server, address) = declared(&mut bed, settings_first).await;
    let mut stream = client.connect(address).await.unwrap();
    in_time(is_sent.wait_for(|sent| *sent)).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let opened = ["weft_http_connections_opened_total{", "\"inbound\"", "} 1"];
    bed.counts("node-2", &opened).await;
}

/// Answers one request with this, and closes the connection.
async fn answer_once(mut stream: TcpStream, answer: &'static [u8]) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let _ = stream.write_all(answer).await;
}

#[tokio::test]
async fn what_the_application_ends_ends_for_its_client_after_the_whole_answer() {
    let mut bed = Bed::new();
    let answer = b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nno!";
    let (client, _server, address) =
        declared(&mut bed, move |stream| answer_once(stream, answer)).await;
    for _ in 0..20 {
        let mut stream = client.connect(address).await.unwrap();
        let request = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut received = Vec::new();
        // Its end is the application's; however it looks, it comes after the answer.
        let _ = in_time(stream.read_to_end(&mut received)).await;
        let text = String::from_utf8_lossy(&received);
        assert!(
            text.contains("HTTP/1.1 413") && text.ends_with("no!"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_connection_that_the_application_ended_gets_no_further_request() {
    let mut bed = Bed::new();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (client, _server, address) =
        declared(&mut bed, move |stream| answer_once(stream, answer)).await;
    let mut stream = client.connect(address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
        .await
        .unwrap();
    let mut received = Vec::new();
    in_time(stream.read_to_end(&mut received)).await.unwrap();
    assert!(received.ends_with(b"ok"), "{received:?}");
}

#[tokio::test]
async fn a_check_that_connects_and_resets_is_no_failure() {
    let mut bed = Bed::new();
    let (connected, mut is_connected) = watch::channel(false);
    let wait = move |mut stream: TcpStream| {
        connected.send_replace(true);
        async move {
            let _ = stream.read(&mut [0; 1]).await;
        }
    };
    let (client, _server, address) = declared(&mut bed, wait).await;
    let stream = client.connect(address).await.unwrap();
    in_time(is_connected.wait_for(|connected| *connected))
        .await
        .unwrap();
    stream.set_zero_linger().unwrap();
    drop(stream);
    let closed = [
        "istio_tcp_connections_closed_total{",
        "\"destination\"",
        "} 1",
    ];
    bed.counts("node-2", &closed).await;
    let text = super::metrics(&mut bed, "node-2");
    assert!(
        !text.contains("istio_tcp_connections_failed_total{"),
        "{text}"
    );
}

#[tokio::test]
async fn names_of_fields_arrive_as_they_were_sent() {
    let mut bed = Bed::new();
    let (sent, mut received) = watch::channel(Vec::new());
    let record = move |mut stream: TcpStream| {
        let sent = sent.clone();
        async move {
            let mut head = [0; 1024];
            let read = stream.read(&mut head).await.unwrap_or_default();
            sent.send_replace(head[..read].to_vec());
            let answer = b"HTTP/1.1 200 OK\r\nX-AnSwer: 1\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(answer).await;
        }
    };
    let (client, _server, address) = declared(&mut bed, record).await;
    let mut stream = client.connect(address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: web\r\nX-UpPer: 1\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    in_time(stream.read_to_end(&mut answer)).await.unwrap();
    let head = in_time(received.wait_for(|head| !head.is_empty())).await;
    let head = String::from_utf8_lossy(&head.unwrap()).into_owned();
    assert!(head.contains("X-UpPer: 1"), "{head}");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("X-AnSwer: 1"), "{answer}");
}

#[tokio::test]
async fn the_code_of_a_reset_is_the_applications() {
    let mut bed = Bed::new();
    let refuse = async |mut stream: TcpStream| {
        // SETTINGS, and RST_STREAM of the first request: REFUSED_STREAM.
        let _ = stream.write_all(b"\0\0\0\x04\0\0\0\0\0").await;
        let mut read = Vec::new();
        let mut buffer = [0; 1024];
        while !read
            .windows(4)
            .any(|part| part == b"\x01\x05\0\0" || part == b"\x01\x04\0\0")
        {
            match stream.read(&mut buffer).await {
                Ok(length @ 1..) => read.extend_from_slice(&buffer[..length]),
                _ => return,
            }
        }
        let _ = stream
            .write_all(b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x07")
            .await;
        while let Ok(1..) = stream.read(&mut buffer).await {}
    };
    let (client, _server, address) = declared(&mut bed, refuse).await;
    let stream = TokioIo::new(client.connect(address).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://web/")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let error = in_time(sender.send_request(request)).await.unwrap_err();
    assert!(format!("{error:?}").contains("REFUSED_STREAM"), "{error:?}");
}

#[tokio::test]
async fn bytes_of_another_protocol_are_counted_at_both_ends_however_it_ends() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        bed.node(node);
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let hello = async |mut stream: TcpStream| {
            let mut request = vec![0; UPGRADE.len()];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(SWITCHED).await;
            let _ = stream.write_all(b"hello").await;
            let _ = stream.read(&mut [0; 16]).await;
            let _ = stream.set_zero_linger();
        };
        let address = application(&server, hello).await;
        let endpoints = [(address.ip(), Some(&server))];
        let service = bed.service_that_declares("http", "web", address.port(), &endpoints);
        let mut stream = upgrade(&client, service).await.unwrap();
        let mut greeting = [0; 5];
        in_time(stream.read_exact(&mut greeting)).await.unwrap();
        stream.write_all(b"bye").await.unwrap();
        let _ = in_time(stream.read(&mut greeting)).await;
        for (reporting, reporter) in [("node-1", "source"), (node, "destination")] {
            let reporter = format!("reporter=\"{reporter}\"");
            for (series, sum) in [
                ("istio_response_bytes_sum{", "} 5.0"),
                ("istio_request_bytes_sum{", "} 3.0"),
            ] {
                bed.counts(reporting, &[series, &reporter, sum]).await;
            }
        }
    }
}
