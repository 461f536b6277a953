//! Clients and servers of different versions of HTTP, and what passes beside the final response:
//! trailers and interim responses; near and far.

use std::sync::{Arc, Mutex};

use h2::RecvStream;
use h2::server::SendResponse;
use weft_testing::wait::in_time;

use super::raw_server::{NODES, read_until, talk};
use super::stream_resets::{http2_application, http2_client};
use super::*;

/// A request as a server of HTTP/2 has it.
#[derive(Clone, Debug, Default)]
struct Arrived {
    te: Option<String>,
    body: String,
    trailers: HeaderMap,
}

/// Responds with interim responses of these statuses, then with "ok" and trailers.
async fn respond(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    interim: &[u16],
    arrived: &Mutex<Arrived>,
) {
    for status in interim {
        let head = Response::builder().status(*status).header("link", "</a>");
        respond.send_informational(head.body(()).unwrap()).unwrap();
    }
    let (head, mut body) = request.into_parts();
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        text.extend_from_slice(&data.unwrap());
    }
    *arrived.lock().unwrap() = Arrived {
        te: head
            .headers
            .get("te")
            .map(|te| te.to_str().unwrap().to_owned()),
        body: String::from_utf8(text).unwrap(),
        trailers: body.trailers().await.unwrap().unwrap_or_default(),
    };
    let head = Response::builder().header("trailer", "x-sum");
    let mut body = respond
        .send_response(head.body(()).unwrap(), false)
        .unwrap();
    body.send_data("ok".into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    trailers.insert("x-unannounced", "8".parse().unwrap());
    body.send_trailers(trailers).unwrap();
}

async fn bed_that_responds(
    bed: &mut Bed,
    node: &'static str,
    interim: &'static [u16],
) -> (Pod, Pod, SocketAddr, Arc<Mutex<Arrived>>) {
    let arrived = Arc::<Mutex<Arrived>>::default();
    let of_server = Arc::clone(&arrived);
    let (client, server, [service, _]) = http2_application(bed, node, move |request, sender| {
        let arrived = Arc::clone(&of_server);
        async move { respond(request, sender, interim, &arrived).await }
    })
    .await;
    (client, server, service, arrived)
}

#[tokio::test]
async fn trailers_pass_between_a_client_of_http1_and_a_server_of_http2() {
    for node in NODES {
        let mut bed = Bed::new();
        let (client, _server, service, arrived) = bed_that_responds(&mut bed, node, &[]).await;
        let request = "POST / HTTP/1.1\r\nHost: web\r\nTE: gzip, trailers\r\nConnection: TE\r\n\
                       Transfer-Encoding: chunked\r\nTrailer: X-Part\r\n\r\n\
                       5\r\nhello\r\n0\r\nX-Part: 3\r\n\r\n";
        let (answer, mut stream) = talk(&client, service, request, "7\r\n\r\n").await;
        assert!(
            answer.ends_with("2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n"),
            "{answer}"
        );
        let seen = arrived.lock().unwrap().clone();
        assert_eq!(seen.te.as_deref(), Some("trailers"), "{node}");
        assert_eq!(
            (&*seen.body, &seen.trailers["x-part"]),
            ("hello", &"3".parse().unwrap())
        );
        // One that hasn't asked for them gets none, and its next response.
        for _ in 0..2 {
            let request = "GET / HTTP/1.1\r\nHost: web\r\n\r\n";
            stream.write_all(request.as_bytes()).await.unwrap();
            let answer = read_until(&mut stream, "0\r\n\r\n").await;
            assert!(
                answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("2\r\nok\r\n0\r\n\r\n"),
                "{answer}"
            );
            assert_eq!(arrived.lock().unwrap().te, None, "{node}");
        }
        // HTTP/1.0 has neither chunks nor trailers.
        let old =
            "GET / HTTP/1.0\r\nHost: web\r\nTE: trailers\r\nConnection: keep-alive, TE\r\n\r\n";
        let (answer, _stream) = talk(&client, service, old, "never").await;
        assert!(
            answer.starts_with("HTTP/1.0 200 ") && answer.ends_with("\r\n\r\nok"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn trailers_in_chunks_are_left_out_for_a_client_of_http10() {
    for node in NODES {
        let mut bed = Bed::new();
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                      2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n";
        let (client, _server, raw, service) = super::raw_server::raw(&mut bed, node, answer).await;
        for to in [service, raw.address] {
            let old = "GET / HTTP/1.0\r\nHost: web\r\nTE: trailers\r\nConnection: TE\r\n\r\n";
            let (answer, _stream) = talk(&client, to, old, "never").await;
            assert!(
                answer.starts_with("HTTP/1.0 200 ") && answer.ends_with("\r\n\r\nok"),
                "{answer}"
            );
        }
    }
}

#[tokio::test]
async fn the_final_response_of_a_server_of_http2_follows_its_interim_ones() {
    for node in NODES {
        for interim in [&[100][..], &[102, 102, 103], &[199]] {
            let mut bed = Bed::new();
            let (client, _server, service, arrived) =
                bed_that_responds(&mut bed, node, interim).await;
            let mut stream = client.connect(service).await.unwrap();
            for _ in 0..2 {
                let head = "POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
                stream.write_all(head.as_bytes()).await.unwrap();
                assert_eq!(
                    read_until(&mut stream, "\r\n\r\n").await,
                    "HTTP/1.1 100 Continue\r\n\r\n"
                );
                stream.write_all(b"hello").await.unwrap();
                let answer = read_until(&mut stream, "0\r\n\r\n").await;
                assert!(
                    answer.contains("HTTP/1.1 200 ") && answer.contains("\r\n2\r\nok\r\n"),
                    "{answer}"
                );
                assert_eq!(arrived.lock().unwrap().body, "hello");
            }
            let mut sender = http2_client(&client, service).await;
            let request = Request::post("http://web/").header("expect", "100-continue");
            let (response, mut body) = sender
                .send_request(request.body(()).unwrap(), false)
                .unwrap();
            body.send_data("world".into(), true).unwrap();
            let mut body = in_time(response).await.unwrap().into_body();
            assert_eq!(in_time(body.data()).await.unwrap().unwrap(), "ok");
            let trailers = in_time(body.trailers()).await.unwrap().unwrap();
            assert_eq!(trailers["x-unannounced"], "8", "{node}");
            assert_eq!(arrived.lock().unwrap().body, "world");
        }
    }
}

#[tokio::test]
async fn a_response_without_a_body_keeps_its_length_between_versions() {
    for node in NODES {
        let mut bed = Bed::new();
        let (client, _server, [service, _]) = http2_application(
            &mut bed,
            node,
            |request: Request<RecvStream>, mut sender| async move {
                let status = match request.uri().path() {
                    "/304" => 304,
                    "/204" => 204,
                    _ => 200,
                };
                let head = Response::builder().status(status).header("x-seen", "1");
                let head = match status {
                    204 => head,
                    _ => head.header("content-length", "5"),
                };
                sender.send_response(head.body(()).unwrap(), true).unwrap();
            },
        )
        .await;
        let mut stream = client.connect(service).await.unwrap();
        for (method, path, length) in [
            ("HEAD", "/", true),
            ("GET", "/304", false),
            ("GET", "/204", false),
            ("HEAD", "/", true),
        ] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: web\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let head = read_until(&mut stream, "\r\n\r\n")
                .await
                .to_ascii_lowercase();
            assert!(
                head.starts_with("http/1.1 ") && head.contains("x-seen: 1\r\n"),
                "{node} {path}: {head}"
            );
            assert_eq!(
                head.contains("content-length: 5\r\n"),
                length,
                "{node} {path}: {head}"
            );
            assert!(!head.contains("transfer-encoding"), "{node} {path}: {head}");
        }
    }
}

#[tokio::test]
async fn a_server_of_http2_that_reads_no_more_of_an_upload_is_heard_by_a_client_of_http1() {
    for node in NODES {
        let mut bed = Bed::new();
        let (client, _server, [service, _]) =
            http2_application(&mut bed, node, |_request, mut sender| async move {
                let head = Response::builder().status(413).body(()).unwrap();
                let mut body = sender.send_response(head, false).unwrap();
                body.send_data("no".into(), true).unwrap();
            })
            .await;
        let mut stream = client.connect(service).await.unwrap();
        let head = "PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 8388608\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        // Like many it looks for its answer when everything is sent.
        let all = vec![b'a'; 8 * 1024 * 1024];
        in_time(stream.write_all(&all)).await.unwrap();
        let answer = read_until(&mut stream, "no\r\n0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{node}: {answer}");
    }
}

#[tokio::test]
async fn large_trailers_and_heads_of_http2_pass_whole() {
    for node in NODES {
        for size in [12_000, 40_000, 100_000] {
            let mut bed = Bed::new();
            let (client, _server, to) =
                http2_application(&mut bed, node, move |request, mut sender| async move {
                    let large = request.headers()["x-large"].clone();
                    let head = Response::builder().header("x-large", large.clone());
                    let head = head.header("content-type", "application/grpc");
                    let mut body = sender.send_response(head.body(()).unwrap(), false).unwrap();
                    body.send_data("ok".into(), false).unwrap();
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", "3".parse().unwrap());
                    trailers.insert("grpc-status-details-bin", large);
                    body.send_trailers(trailers).unwrap();
                })
                .await;
            for to in to {
                let stream = client.connect(to).await.unwrap();
                let mut builder = h2::client::Builder::new();
                builder.max_header_list_size(1 << 20);
                let handshake = builder.handshake::<_, Bytes>(stream);
                let (sender, connection) = handshake.await.unwrap();
                tokio::spawn(connection);
                let mut sender = sender.ready().await.unwrap();
                let request = Request::post("http://web/a.B/C").header("x-large", "~".repeat(size));
                let request = request.header("content-type", "application/grpc");
                let (response, _) = sender
                    .send_request(request.body(()).unwrap(), true)
                    .unwrap();
                let response = in_time(response).await.unwrap();
                assert_eq!(response.headers()["x-large"].len(), size, "{node} {to}");
                let mut body = response.into_body();
                assert_eq!(in_time(body.data()).await.unwrap().unwrap(), "ok");
                let trailers = in_time(body.trailers()).await.unwrap().unwrap();
                assert_eq!(trailers["grpc-status"], "3", "{node} {to} {size}");
                assert_eq!(trailers["grpc-status-details-bin"].len(), size);
            }
        }
    }
}
