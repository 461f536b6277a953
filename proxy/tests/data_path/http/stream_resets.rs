//! Streams of HTTP/2 that are reset without an error (RFC 9113 sections 7 and 8.1), as Node does
//! with `close()`, and servers that don't read all of a request: a part never looks like the whole,
//! and the whole is never lost; near and far.

use std::sync::{Arc, Mutex};

use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use tokio::sync::Notify;
use weft_testing::wait::in_time;

use super::raw_server::{NODES, read_until};
use super::*;

/// A client on `node-1`, and an application of HTTP/2 on `node` that does so with each request; by
/// its service, and by its own address.
pub(super) async fn http2_application<F>(
    bed: &mut Bed,
    node: &'static str,
    serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Clone + Send + Sync + 'static,
) -> (Pod, Pod, [SocketAddr; 2])
where
    F: Future<Output = ()> + Send + 'static,
{
    bed.node(node);
    let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
    let application = super::super::application(&server, move |stream: TcpStream| {
        let serve = serve.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(serve(request, respond));
            }
        }
    })
    .await;
    let endpoints = [(application.ip(), Some(&server))];
    let service = bed.service_that_declares("http2", "web", application.port(), &endpoints);
    (client, server, [service, application])
}

pub(super) async fn http2_client(pod: &Pod, to: SocketAddr) -> SendRequest<Bytes> {
    let stream = pod.connect(to).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

fn post() -> Request<()> {
    Request::post("http://web/").body(()).unwrap()
}

#[tokio::test]
async fn a_part_of_a_response_does_not_look_whole_when_its_stream_is_reset_without_an_error() {
    for node in NODES {
        let mut bed = Bed::new();
        let go = Arc::<Notify>::default();
        let told = Arc::clone(&go);
        let (client, _server, to) = http2_application(&mut bed, node, move |_, mut respond| {
            let told = Arc::clone(&told);
            async move {
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                body.send_data("part".into(), false).unwrap();
                told.notified().await;
                body.send_reset(Reason::NO_ERROR);
            }
        })
        .await;
        for to in to {
            let mut sender = http2_client(&client, to).await;
            let (response, _) = sender.send_request(post(), true).unwrap();
            let mut body = in_time(response).await.unwrap().into_body();
            assert_eq!(in_time(body.data()).await.unwrap().unwrap(), "part");
            go.notify_one();
            let end = in_time(body.data()).await;
            assert!(matches!(end, Some(Err(_))), "{node}, {to}: {end:?}");
        }
        let mut stream = client.connect(to[0]).await.unwrap();
        let request = "GET / HTTP/1.1\r\nHost: web\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(read_until(&mut stream, "part\r\n").await.contains(" 200 "));
        go.notify_one();
        assert_eq!(read_until(&mut stream, "0\r\n\r\n").await, "", "{node}");
    }
}

#[tokio::test]
async fn an_upload_whose_stream_is_reset_does_not_end_in_order() {
    for node in NODES {
        for reason in [Reason::NO_ERROR, Reason::CANCEL] {
            let mut bed = Bed::new();
            let seen = Arc::<Mutex<Vec<String>>>::default();
            let of_server = Arc::clone(&seen);
            let (client, _server, to) =
                http2_application(&mut bed, node, move |request, _respond| {
                    let seen = Arc::clone(&of_server);
                    async move {
                        let mut body = request.into_body();
                        loop {
                            let data = body.data().await;
                            let is_last = !matches!(data, Some(Ok(_)));
                            seen.lock().unwrap().push(match data {
                                Some(Ok(data)) => String::from_utf8(data.to_vec()).unwrap(),
                                Some(Err(_)) => "broken".to_owned(),
                                None => "whole".to_owned(),
                            });
                            if is_last {
                                return std::future::pending().await;
                            }
                        }
                    }
                })
                .await;
            for to in to {
                seen.lock().unwrap().clear();
                let mut sender = http2_client(&client, to).await;
                let (_response, mut body) = sender.send_request(post(), false).unwrap();
                body.send_data("part".into(), false).unwrap();
                wait_until("a part", || seen.lock().unwrap().len() == 1).await;
                body.send_reset(reason);
                wait_until("the end", || seen.lock().unwrap().len() == 2).await;
                let seen = seen.lock().unwrap().clone();
                assert_eq!(seen, ["part", "broken"], "{node}, {to}, {reason:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_whole_response_arrives_though_its_server_resets_the_stream_behind_it() {
    const SIZE: usize = 300_000;
    for node in NODES {
        let mut bed = Bed::new();
        let (client, _server, to) =
            http2_application(&mut bed, node, |_, mut respond| async move {
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                body.send_data(vec![b'a'; SIZE].into(), false).unwrap();
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().unwrap());
                // The request isn't read: a reset without an error follows.
                body.send_trailers(trailers).unwrap();
            })
            .await;
        for to in to {
            let mut sender = http2_client(&client, to).await;
            let (response, mut request) = sender.send_request(post(), false).unwrap();
            request.send_data("part".into(), false).unwrap();
            let mut body = in_time(response).await.unwrap().into_body();
            let mut received = 0;
            while let Some(data) = in_time(body.data()).await {
                let length = data.unwrap().len();
                received += length;
                body.flow_control().release_capacity(length).unwrap();
            }
            assert_eq!(received, SIZE, "{node}, {to}");
            let trailers = in_time(body.trailers()).await.unwrap().unwrap();
            assert_eq!(trailers["grpc-status"], "0", "{node}, {to}");
        }
    }
}

#[tokio::test]
async fn a_call_of_grpc_whose_server_goes_away_ends_with_a_status() {
    for node in NODES {
        let mut bed = Bed::new();
        bed.node(node);
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let go = Arc::<Notify>::default();
        let told = Arc::clone(&go);
        let application = super::super::application(&server, move |stream: TcpStream| {
            let told = Arc::clone(&told);
            async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
                let head = Response::builder().header("content-type", "application/grpc");
                let mut body = respond
                    .send_response(head.body(()).unwrap(), false)
                    .unwrap();
                body.send_data("part".into(), false).unwrap();
                tokio::select! {
                    _ = connection.accept() => {}
                    // It is gone with its connection.
                    () = told.notified() => {}
                }
            }
        })
        .await;
        let endpoints = [(application.ip(), Some(&server))];
        let service = bed.service_that_declares("grpc", "web", application.port(), &endpoints);
        for to in [service, application] {
            let mut sender = http2_client(&client, to).await;
            let request = Request::post("http://web/a.B/Watch");
            let request = request.header("content-type", "application/grpc");
            let request = request.body(()).unwrap();
            let (response, _) = sender.send_request(request, true).unwrap();
            let mut body = in_time(response).await.unwrap().into_body();
            assert_eq!(in_time(body.data()).await.unwrap().unwrap(), "part");
            go.notify_one();
            assert!(in_time(body.data()).await.is_none(), "{node}, {to}");
            let trailers = in_time(body.trailers()).await.unwrap().unwrap();
            assert_eq!(trailers["grpc-status"], "14", "{node}, {to}");
        }
        let parts = ["istio_requests_total{", "grpc_response_status=\"14\""];
        bed.counts("node-1", &parts).await;
    }
}

#[tokio::test]
async fn a_stream_that_its_server_resets_is_reset_with_the_same_code() {
    for node in NODES {
        for reason in [Reason::ENHANCE_YOUR_CALM, Reason::CANCEL] {
            let mut bed = Bed::new();
            let (client, _server, to) =
                http2_application(&mut bed, node, move |request, mut respond| async move {
                    let kind = request.headers()["content-type"].clone();
                    let head = Response::builder().header("content-type", kind);
                    let mut body = respond
                        .send_response(head.body(()).unwrap(), false)
                        .unwrap();
                    body.send_data("part".into(), false).unwrap();
                    let _ = request.into_body().data().await;
                    body.send_reset(reason);
                })
                .await;
            for (to, kind) in to.into_iter().zip(["application/grpc", "text/plain"]) {
                let mut sender = http2_client(&client, to).await;
                let request = Request::post("http://web/").header("content-type", kind);
                let request = request.body(()).unwrap();
                let (response, mut sending) = sender.send_request(request, false).unwrap();
                let mut body = in_time(response).await.unwrap().into_body();
                assert_eq!(in_time(body.data()).await.unwrap().unwrap(), "part");
                sending.send_data("more".into(), false).unwrap();
                let end = in_time(body.data())
                    .await
                    .map(|end| end.unwrap_err().reason());
                assert_eq!(end, Some(Some(reason)), "{node}, {to}");
            }
        }
    }
}
