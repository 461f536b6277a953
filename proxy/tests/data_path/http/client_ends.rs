//! The end of a client of HTTP/1, and who may use its connection: its server learns of the end
//! as it would without a mesh, near and far.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::raw_server::{NODES, OK, REQUEST, declared, raw, read_until, talk};
use super::*;

#[tokio::test]
async fn a_client_that_gives_up_is_seen_by_its_server_at_once() {
    for node in NODES {
        for begun in [
            "",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
        ] {
            for is_reset in [false, true] {
                let mut bed = Bed::new();
                let (client, _server, raw, address) = raw(&mut bed, node, begun).await;
                let mut stream = client.connect(address).await.unwrap();
                stream.write_all(REQUEST.as_bytes()).await.unwrap();
                wait_until("a request", || raw.text(0).ends_with("\r\n\r\n")).await;
                if !begun.is_empty() {
                    read_until(&mut stream, "a\r\n").await;
                }
                if is_reset {
                    stream.set_zero_linger().unwrap();
                }
                drop(stream);
                wait_until("the server to see it", || raw.connections()[0].has_ended).await;
            }
        }
    }
}

#[tokio::test]
async fn a_request_whose_client_gave_up_is_recorded_as_such_and_not_sent_again() {
    for node in NODES {
        for is_reset in [false, true] {
            let mut bed = Bed::new();
            let requests = Arc::<AtomicUsize>::default();
            let seen = Arc::clone(&requests);
            // As most servers do: they end with their client.
            let ends_with_client = move |mut stream: TcpStream| {
                let seen = Arc::clone(&seen);
                async move {
                    while let Ok(1..) = stream.read(&mut [0; 1024]).await {
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                }
            };
            let (client, _server, address) = declared(&mut bed, node, ends_with_client).await;
            let mut stream = client.connect(address).await.unwrap();
            stream.write_all(REQUEST.as_bytes()).await.unwrap();
            wait_until("a request", || requests.load(Ordering::Relaxed) == 1).await;
            if is_reset {
                stream.set_zero_linger().unwrap();
            }
            drop(stream);
            for (reporting, reporter) in [("node-1", "source"), (node, "destination")] {
                let reporter = format!("reporter=\"{reporter}\"");
                let flag = "response_flags=\"DOWNSTREAM_RESET\"";
                let parts = ["istio_requests_total{", &reporter, flag, "} 1"];
                bed.counts(reporting, &parts).await;
            }
            assert_eq!(requests.load(Ordering::Relaxed), 1);
        }
    }
}

#[tokio::test]
async fn a_client_that_only_ends_its_side_gets_its_answer() {
    for node in NODES {
        for head in [
            "GET / HTTP/1.1\r\nHost: web\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\n\r\n",
        ] {
            let mut bed = Bed::new();
            let (client, _server, address) = declared(&mut bed, node, async |mut stream| {
                let mut request = String::new();
                // It reads to the end before it answers.
                stream.read_to_string(&mut request).await.unwrap();
                let has_body = request.contains("hello");
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{has_body:<5}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            })
            .await;
            let mut stream = client.connect(address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let answer = read_until(&mut stream, "never").await;
            let body = format!("{:<5}", head.contains("hello"));
            assert!(
                answer.contains(" 200 ") && answer.ends_with(&body),
                "{head}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn the_end_of_a_client_ends_no_request_of_another_one() {
    for node in NODES {
        let mut bed = Bed::new();
        let (client, _server, raw, address) = raw(&mut bed, node, OK).await;
        // The same connection to the server is used by one client after the other.
        for _ in 0..20 {
            let (answer, mut stream) = talk(&client, address, REQUEST, "ok").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            stream.shutdown().await.unwrap();
            assert_eq!(read_until(&mut stream, "never").await, "");
        }
        assert_eq!(raw.connections().len(), 1);
    }
}

/// A server that says in each answer which of its connections the request came on, and asks
/// for a login where the request has none.
async fn numbered(bed: &mut Bed, node: &'static str) -> (Pod, Pod, SocketAddr) {
    let connections = Arc::<AtomicUsize>::default();
    declared(bed, node, move |mut stream| {
        let number = connections.fetch_add(1, Ordering::Relaxed);
        async move {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                let request = String::from_utf8_lossy(&bytes[..read]);
                let status = match request.contains("/challenge") {
                    true => "401 Unauthorized\r\nWWW-Authenticate: NTLM",
                    false => "200 OK",
                };
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\n{number:04}");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    })
    .await
}

/// Sends a request on a client's connection; the server's connection that it came on.
async fn number_of(stream: &mut TcpStream, path: &str, fields: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: web\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(stream).await;
    assert!(head.contains("Content-Length: 4\r\n"), "{head}");
    let mut number = [0; 4];
    stream.read_exact(&mut number).await.unwrap();
    String::from_utf8(number.to_vec()).unwrap()
}

#[tokio::test]
async fn a_connection_that_has_logged_in_is_nobody_elses() {
    for node in NODES {
        for (first_path, fields) in [
            ("/", "Authorization: NTLM TlRMTVNTUAAB\r\n"),
            ("/", "Authorization: Negotiate YII\r\n"),
            ("/challenge", ""),
        ] {
            let mut bed = Bed::new();
            let (client, _server, address) = numbered(&mut bed, node).await;
            let (mut one, mut other) = (
                client.connect(address).await.unwrap(),
                client.connect(address).await.unwrap(),
            );
            let of_one = number_of(&mut one, first_path, fields).await;
            let of_other = number_of(&mut other, first_path, fields).await;
            assert_ne!(of_one, of_other);
            for _ in 0..10 {
                assert_eq!(number_of(&mut one, "/", "").await, of_one);
                assert_eq!(number_of(&mut other, "/", "").await, of_other);
            }
            // Nor later.
            drop((one, other));
            let mut third = client.connect(address).await.unwrap();
            let of_third = number_of(&mut third, "/", "").await;
            assert!(![&of_one, &of_other].contains(&&of_third), "{of_third}");
        }
    }
}
