//! Servers that reset their connections in the middle of a response, and clients that do so in the
//! middle of another protocol, near and far.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use weft_testing::wait::in_time;

use super::raw_server::{NODES, read_until};
use super::*;

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n";
const OPEN_ENDED: &str = "HTTP/1.0 200 OK\r\n\r\npart";
const WITH_LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart";
const COMPLETE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\ncomplete";
const UPGRADED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\npart";
const GRANTED: &str = "HTTP/1.1 200 Granted\r\n\r\npart";
const NOTHING: &str = "";

/// How a server ends its connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    InOrder,
    Reset,
}

/// A server of such responses, which ends as soon as it is told to.
async fn breaking(
    bed: &mut Bed,
    node: &'static str,
    (answer, end): (&'static str, End),
) -> (Pod, Pod, [SocketAddr; 2], Arc<Notify>) {
    let go = Arc::<Notify>::default();
    let told = Arc::clone(&go);
    let serve = move |mut stream: TcpStream| {
        let told = Arc::clone(&told);
        async move {
            read_head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            if !answer.is_empty() {
                told.notified().await;
            }
            if end == End::Reset {
                stream.set_zero_linger().unwrap();
            }
        }
    };
    bed.node(node);
    let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
    let application = super::super::application(&server, serve).await;
    let endpoints = [(application.ip(), Some(&server))];
    let service = bed.service_that_declares("http", "web", application.port(), &endpoints);
    (client, server, [service, application], go)
}

/// How the client's connection ends behind a part of the response, which may be to a request for
/// another protocol.
async fn end_of(
    client: &Pod,
    to: SocketAddr,
    (version, is_upgrade): (&str, bool),
    part: &str,
    go: &Notify,
) -> End {
    let mut stream = client.connect(to).await.unwrap();
    let upgrade = match is_upgrade {
        true => "Connection: upgrade\r\nUpgrade: own\r\n",
        false => "",
    };
    let request = format!("GET / {version}\r\nHost: web\r\n{upgrade}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    if !part.is_empty() {
        let answer = read_until(&mut stream, part).await;
        let is_begun = answer.contains(" 200 ") || answer.contains(" 101 ");
        assert!(is_begun && answer.ends_with(part), "{answer}");
        go.notify_one();
    }
    match tokio::time::timeout(DEADLINE, stream.read(&mut [0; 1]))
        .await
        .unwrap()
    {
        Ok(0) => End::InOrder,
        Ok(_) => panic!("more of the response"),
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            End::Reset
        }
    }
}

#[tokio::test]
async fn a_response_that_is_reset_ends_in_a_reset() {
    for node in NODES {
        for (answer, version, part) in [
            (CHUNKED, "HTTP/1.1", "part\r\n"),
            (OPEN_ENDED, "HTTP/1.1", "part\r\n"),
            (OPEN_ENDED, "HTTP/1.0", "part"),
            (CHUNKED, "HTTP/1.0", "part"),
            (WITH_LENGTH, "HTTP/1.1", "part"),
            (UPGRADED, "HTTP/1.1", "part"),
        ] {
            let mut bed = Bed::new();
            let (client, _server, to, go) = breaking(&mut bed, node, (answer, End::Reset)).await;
            for to in to {
                let end = end_of(&client, to, (version, answer == UPGRADED), part, &go).await;
                assert_eq!(end, End::Reset, "{node}, {to}, {version}: {answer}");
            }
        }
        // Of what a Service is asked the proxy says why there is no response.
        let mut bed = Bed::new();
        let (client, _server, to, go) = breaking(&mut bed, node, (NOTHING, End::Reset)).await;
        let end = end_of(&client, to[1], ("HTTP/1.1", false), NOTHING, &go).await;
        assert_eq!(end, End::Reset, "{node}");
    }
}

#[tokio::test]
async fn a_part_of_a_response_never_looks_whole_to_a_client_of_http10() {
    for node in NODES {
        for (answer, expected) in [
            (CHUNKED, End::Reset),
            (WITH_LENGTH, End::InOrder),
            // That is its end.
            (OPEN_ENDED, End::InOrder),
        ] {
            let mut bed = Bed::new();
            let (client, _server, to, go) = breaking(&mut bed, node, (answer, End::InOrder)).await;
            for (to, is_upgrade) in to.into_iter().flat_map(|to| [(to, false), (to, true)]) {
                let end = end_of(&client, to, ("HTTP/1.0", is_upgrade), "part", &go).await;
                assert_eq!(
                    end, expected,
                    "{node}, {to}, upgrade {is_upgrade}: {answer}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_request_for_another_protocol_that_is_the_last_one_is_answered_and_ends_in_order() {
    for node in NODES {
        let mut bed = Bed::new();
        let answer = (COMPLETE, End::InOrder);
        let (client, _server, to, go) = breaking(&mut bed, node, answer).await;
        for to in to {
            let mut stream = client.connect(to).await.unwrap();
            let request =
                "GET / HTTP/1.1\r\nHost: web\r\nConnection: close, upgrade\r\nUpgrade: own\r\n\r\n";
            stream.write_all(request.as_bytes()).await.unwrap();
            let answered = read_until(&mut stream, "complete").await;
            assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
            go.notify_one();
            let end = in_time(stream.read(&mut [0; 1])).await;
            assert_eq!(end.unwrap(), 0, "{node}, {to}");
        }
    }
}

/// How a server of another protocol, which is asked for so, sees its client's connection end.
async fn seen_by_server(
    node: &'static str,
    is_service: bool,
    (request, answer): (&str, &'static str),
    end: End,
) -> End {
    let seen = Arc::<Mutex<Option<End>>>::default();
    let of_server = Arc::clone(&seen);
    let mut bed = Bed::new();
    bed.node(node);
    let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
    let application = super::super::application(&server, move |mut stream: TcpStream| {
        let seen = Arc::clone(&of_server);
        async move {
            read_head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            let read = read_until_end(&mut stream).await;
            *seen.lock().unwrap() = Some(read);
        }
    })
    .await;
    let endpoints = [(application.ip(), Some(&server))];
    let service = bed.service_that_declares("http", "web", application.port(), &endpoints);
    let to = if is_service { service } else { application };
    let mut stream = client.connect(to).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, "part").await.ends_with("part"));
    stream.write_all(b"more").await.unwrap();
    if end == End::Reset {
        stream.set_zero_linger().unwrap();
    }
    drop(stream);
    wait_until("the server to see it", || seen.lock().unwrap().is_some()).await;
    let seen = seen.lock().unwrap().take();
    for (reporting, reporter) in [("node-1", "source"), (node, "destination")] {
        let reporter = format!("reporter=\"{reporter}\"");
        let flag = match end {
            End::InOrder => "response_flags=\"-\"",
            End::Reset => "response_flags=\"DOWNSTREAM_RESET\"",
        };
        if is_service || reporting != "node-1" {
            let parts = ["istio_requests_total{", &reporter, flag, "} 1"];
            bed.counts(reporting, &parts).await;
        }
    }
    seen.unwrap()
}

async fn read_until_end(stream: &mut TcpStream) -> End {
    loop {
        match stream.read(&mut [0; 64]).await {
            Ok(0) => return End::InOrder,
            Ok(_) => {}
            Err(_) => return End::Reset,
        }
    }
}

#[tokio::test]
async fn a_server_of_another_protocol_sees_how_its_client_ended() {
    let upgrade = "GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\n";
    let connect = "CONNECT web:1 HTTP/1.1\r\nHost: web:1\r\n\r\n";
    for node in NODES {
        for is_service in [true, false] {
            for asked in [(upgrade, UPGRADED), (connect, GRANTED)] {
                for end in [End::Reset, End::InOrder] {
                    let seen = seen_by_server(node, is_service, asked, end).await;
                    assert_eq!(seen, end, "{node}, service {is_service}: {}", asked.0);
                }
            }
        }
    }
}
