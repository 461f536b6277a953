//! Streams whose bytes nobody takes, beside others on the same connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use weft_testing::tcp;
use weft_testing::wait::in_time;

use super::application;
use super::bed::{Bed, Counter, Pod};

/// Streams that stall: all that are put on one connection, but the one that goes on.
const STALLED: usize = 99;
const BLOCK: &[u8] = &[0; 64 * 1024];
/// Longer than anything that still moves takes a break.
const STILL: Duration = Duration::from_millis(500);

/// Sends without an end, and counts what was taken.
async fn fill(stream: &mut TcpStream, taken: &Counter) {
    while let Ok(written) = stream.write(BLOCK).await {
        taken.fetch_add(written, Ordering::Relaxed);
    }
}

/// Waits until nothing was taken any more for a while.
async fn stalled(taken: &Counter) {
    let mut before = 0;
    loop {
        tokio::time::sleep(STILL).await;
        match taken.load(Ordering::Relaxed) {
            now if now == before && now > 0 => return,
            now => before = now,
        }
    }
}

/// A server that, by the first byte, sends back what comes, sends without an end, or takes
/// nothing.
async fn by_the_first_byte(mut stream: TcpStream, taken: Counter) {
    match stream.read_u8().await {
        Ok(b'e') => tcp::echo(stream).await,
        Ok(b'd') => fill(&mut stream, &taken).await,
        _ => std::future::pending().await,
    }
}

async fn far(bed: &mut Bed) -> (Pod, Pod) {
    bed.node("node-2");
    (bed.pod("node-1", "client"), bed.pod("node-2", "server"))
}

#[tokio::test]
async fn connections_that_nobody_reads_hold_up_no_other_one_of_their_tunnel() {
    for kind in [b'd', b'u'] {
        let mut bed = Bed::new();
        let (client, server) = far(&mut bed).await;
        let taken = Counter::default();
        let counted = Counter::clone(&taken);
        let serve = move |stream| by_the_first_byte(stream, Counter::clone(&counted));
        let address = application(&server, serve).await;
        let mut other = client.connect(address).await.unwrap();
        other.write_all(b"e").await.unwrap();
        assert_eq!(tcp::exchange(&mut other, "before").await, "before");
        let mut held = JoinSet::new();
        for _ in 0..STALLED {
            let mut stream = client.connect(address).await.unwrap();
            stream.write_all(&[kind]).await.unwrap();
            let taken = Counter::clone(&taken);
            held.spawn(async move {
                if kind == b'u' {
                    fill(&mut stream, &taken).await;
                }
                let _held = stream;
                std::future::pending::<()>().await;
            });
        }
        stalled(&taken).await;
        assert_eq!(tcp::exchange(&mut other, "after").await, "after");
    }
}

/// A body without an end.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = Frame::data(Bytes::from_static(BLOCK));
        std::task::Poll::Ready(Some(Ok(frame)))
    }
}

/// A server of HTTP/2 that, by the path, sends the body back, sends without an end, or takes
/// nothing; it has room for all of that itself.
async fn by_the_path(stream: TcpStream) {
    let service = service_fn(async |request: Request<Incoming>| {
        let body: BoxBody<Bytes, Infallible> = match request.uri().path() {
            "/echo" => {
                let body = request.into_body().collect().await.unwrap();
                Full::new(body.to_bytes()).boxed()
            }
            "/download" => Endless.boxed(),
            _ => {
                let _request = request;
                std::future::pending().await
            }
        };
        Ok::<_, Infallible>(Response::new(body))
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(64 << 20);
    // Its end is the client's business.
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type Sender = http2::SendRequest<BoxBody<Bytes, Infallible>>;

/// The application's connection: it holds up nothing itself.
async fn connected(client: &Pod, to: SocketAddr) -> Sender {
    let stream = client.connect(to).await.unwrap();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(64 << 20);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn echo(sender: &mut Sender) -> Bytes {
    let body = Full::new(Bytes::from("hello")).boxed();
    let request = Request::post("http://web/echo").body(body).unwrap();
    let response = in_time(sender.send_request(request)).await.unwrap();
    in_time(response.into_body().collect())
        .await
        .unwrap()
        .to_bytes()
}

#[tokio::test]
async fn responses_and_requests_that_nobody_reads_hold_up_no_other_one_of_their_connection() {
    for path in ["/download", "/upload"] {
        let mut bed = Bed::new();
        let (client, server) = far(&mut bed).await;
        let address = application(&server, by_the_path).await;
        let endpoints = [(address.ip(), Some(&server))];
        let service = bed.service_that_declares("grpc", "web", address.port(), &endpoints);
        let mut sender = connected(&client, service).await;
        assert_eq!(echo(&mut sender).await, "hello");
        let mut stalled = JoinSet::new();
        for _ in 0..STALLED {
            let mut sender = sender.clone();
            stalled.spawn(async move {
                let body = match path {
                    "/upload" => Endless.boxed(),
                    _ => Empty::new().boxed(),
                };
                let request = Request::post(format!("http://web{path}"));
                let response = sender.send_request(request.body(body).unwrap()).await;
                let _held = response;
                std::future::pending::<()>().await;
            });
        }
        tokio::time::sleep(3 * STILL).await;
        assert_eq!(echo(&mut sender).await, "hello", "{path}");
    }
}
