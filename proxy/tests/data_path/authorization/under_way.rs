//! Requests that are under way when policies change.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::time::Interval;

use super::*;

/// A body of which a byte comes now and then, without an end.
struct Endless(Interval);

impl Endless {
    fn new() -> Self {
        Self(tokio::time::interval(Duration::from_millis(5)))
    }
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.get_mut().0.poll_tick(context));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}

/// Answers `/wait...` never, and everything else without an end.
async fn serve(stream: TcpStream) {
    let service = service_fn(|request: Request<Incoming>| async move {
        if request.uri().path().starts_with("/wait") {
            // It takes what is sent.
            let _ = request.into_body().collect().await;
            std::future::pending::<()>().await;
        }
        Ok::<_, Infallible>(Response::new(Endless::new()))
    });
    let http = auto::Builder::new(TokioExecutor::new());
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

type AnyBody = UnsyncBoxBody<Bytes, Infallible>;

async fn connect_http2(client: &Pod, to: SocketAddr) -> SendRequest<AnyBody> {
    let stream = client.connect(to).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    sender
}

fn get(path: &str) -> Request<AnyBody> {
    let request = Request::get(format!("http://web{path}"));
    request.body(Full::default().boxed_unsync()).unwrap()
}

/// Some more of it comes.
async fn goes_on(body: &mut Incoming) {
    for _ in 0..5 {
        let frame = in_time(body.frame()).await;
        frame.expect("no end").expect("not broken off");
    }
}

/// It is broken off, and not at its end.
async fn is_broken_off(body: &mut Incoming) {
    let broken = async {
        loop {
            match body.frame().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => return,
                None => panic!("it looks complete"),
            }
        }
    };
    in_time(broken).await;
}

struct Served {
    bed: Bed,
    client: Pod,
    server: Pod,
    addresses: [SocketAddr; 2],
}

/// A client on `node-1` and a server on `node`, whose port is declared as HTTP.
async fn served(node: &'static str) -> Served {
    let mut bed = Bed::new();
    bed.node(node);
    let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
    let to = application(&server, serve).await;
    let endpoints = [(to.ip(), Some(&server))];
    let service = bed.service_that_declares("http", "web", to.port(), &endpoints);
    Served {
        bed,
        client,
        server,
        addresses: [to, service],
    }
}

impl Served {
    fn deny(&self, paths: &[&str]) {
        let deny = policy("deny", Action::Deny, vec![to_paths(paths)]);
        self.bed.authorize(&self.server, vec![deny]);
    }
}

#[tokio::test]
async fn responses_that_new_policies_deny_are_broken_off_and_others_go_on() {
    for node in ["node-2", "node-1"] {
        let served = served(node).await;
        for to in served.addresses {
            // The first policy of the pod is as good as another.
            served.bed.authorize(&served.server, vec![]);
            let mut sender = connect_http2(&served.client, to).await;
            let mut bodies = Vec::new();
            for path in ["/kept", "/denied", "/late"] {
                let response = in_time(sender.send_request(get(path))).await.unwrap();
                assert_eq!(response.status(), 200, "{node} {to} {path}");
                bodies.push(response.into_body());
            }
            let [kept, denied, late] = &mut bodies[..] else {
                unreachable!()
            };
            served.deny(&["/denied"]);
            is_broken_off(denied).await;
            goes_on(kept).await;
            goes_on(late).await;
            served.deny(&["/denied", "/late"]);
            is_broken_off(late).await;
            goes_on(kept).await;
        }
        let revoked = ["istio_requests_total{", "\"destination\"", "POLICY_CHANGED"];
        served.bed.counts(node, &revoked).await;
        let by_policy = [
            "weft_policy_verdicts_total{",
            "policy_name=\"deny\"",
            "verdict=\"denied\"",
            "subject=\"request\"} 4",
        ];
        served.bed.counts(node, &by_policy).await;
    }
}

#[tokio::test]
async fn requests_without_an_answer_that_new_policies_deny_are_denied() {
    for node in ["node-2", "node-1"] {
        let served = served(node).await;
        for to in served.addresses {
            served.deny(&["/other"]);
            let mut sender = connect_http2(&served.client, to).await;
            let response = in_time(sender.send_request(get("/kept"))).await.unwrap();
            let mut kept = response.into_body();
            let upload =
                Request::post("http://web/wait/upload").body(Endless::new().boxed_unsync());
            let grpc = Request::post("http://web/wait/grpc")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Endless::new().boxed_unsync());
            let waiting = [get("/wait"), upload.unwrap(), grpc.unwrap()];
            let waiting = waiting.map(|request| tokio::spawn(sender.send_request(request)));
            let arrived = ["weft_http_connections_opened_total{", "inbound"];
            served.bed.counts(node, &arrived).await;
            goes_on(&mut kept).await;
            served.deny(&["/wait", "/wait/*"]);
            let [get, upload, grpc] = waiting;
            for denied in [get, upload] {
                let denied = in_time(denied).await.unwrap().unwrap();
                assert_eq!(denied.status(), StatusCode::FORBIDDEN, "{node} {to}");
                let reason = &denied.headers()["x-weft-reason"];
                assert_eq!(reason, "AUTHORIZATION_DENIED", "{node} {to}");
            }
            let denied = in_time(grpc).await.unwrap().unwrap();
            assert_eq!(denied.headers()["grpc-status"], "7", "{node} {to}");
            goes_on(&mut kept).await;
        }
    }
}

/// Reads up to a text.
async fn read_until(stream: &mut TcpStream, text: &str) {
    let mut read = Vec::new();
    while !read.ends_with(text.as_bytes()) {
        read.push(in_time(stream.read_u8()).await.unwrap());
    }
}

#[tokio::test]
async fn a_response_of_http1_is_broken_off_and_does_not_look_complete() {
    for node in ["node-2", "node-1"] {
        let served = served(node).await;
        for to in served.addresses {
            served.deny(&["/other"]);
            let [mut kept, mut denied] = {
                let ask = async |path| {
                    let mut stream = served.client.connect(to).await.unwrap();
                    let request = format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n");
                    stream.write_all(request.as_bytes()).await.unwrap();
                    read_until(&mut stream, "\r\n\r\n1\r\nx\r\n").await;
                    stream
                };
                [ask("/kept").await, ask("/denied").await]
            };
            served.deny(&["/denied"]);
            let mut rest = Vec::new();
            let _ = in_time(denied.read_to_end(&mut rest)).await;
            assert!(!rest.ends_with(b"0\r\n\r\n"), "{node} {to}: complete");
            read_until(&mut kept, "1\r\nx\r\n").await;
        }
    }
}

/// A client that doesn't read can't go on to send by that.
#[tokio::test]
async fn a_client_that_does_not_read_sends_no_more_either() {
    let served = served("node-2").await;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let to = application(&served.server, move |stream| {
        let told = told.clone();
        async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let told = told.clone();
                tokio::spawn(async move {
                    let mut body = request.into_body();
                    while let Some(Ok(_)) = body.frame().await {
                        let _ = told.send(true);
                    }
                    let _ = told.send(false);
                });
                // More than any window has room for.
                let flood = Full::new(Bytes::from(vec![0; 64 << 20]));
                async move { Ok::<_, Infallible>(Response::new(flood)) }
            });
            let http = auto::Builder::new(TokioExecutor::new());
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    let endpoints = [(to.ip(), Some(&served.server))];
    let bed = &served.bed;
    let _declared = bed.service_that_declares("http", "flood", to.port(), &endpoints);
    served.deny(&["/other"]);
    let mut sender = connect_http2(&served.client, to).await;
    let upload = Request::post("http://web/up").body(Endless::new().boxed_unsync());
    let unread = in_time(sender.send_request(upload.unwrap())).await.unwrap();
    assert_eq!(in_time(heard.recv()).await, Some(true));
    served.deny(&["/up"]);
    while in_time(heard.recv())
        .await
        .expect("the application is there")
    {}
    drop(unread);
}
