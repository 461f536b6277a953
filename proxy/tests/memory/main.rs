//! What floods of bytes that nobody reads take of the process's memory, beside a neighbour that
//! goes on. A process of its own, as it measures itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests"
)]

#[allow(dead_code, reason = "the bed of the other tests")]
#[path = "../data_path/bed.rs"]
mod bed;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bed::{Bed, HostSockets, Pod};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use weft_testing::tcp::{echo, exchange};

/// Bytes that all connections of a node may hold.
const LIMIT: usize = 48 << 20;
/// More memory than that is not taken: of each of two nodes half of the limit, and what thousands
/// of streams cost themselves, those of connections that were just ended among them.
const MOST: usize = 192 << 20;
/// How long a flood lasts.
const LASTS: Duration = Duration::from_secs(4);
/// How long one may take for as much memory as there is without a limit: the machine may be slow.
const LASTS_WITHOUT_LIMIT: Duration = Duration::from_secs(30);
const CONNECTIONS: usize = 4;
/// Of strangers, each of which gets smaller windows.
const CONNECTIONS_OF_STRANGERS: usize = 64;
const STREAMS: usize = 600;
/// Of each stranger: what a stream itself costs, at all its four ends in this process, is none of
/// the bytes that nobody reads.
const STREAMS_OF_STRANGERS: usize = 60;
/// What the other end of a flood, which is in this process, holds of a connection: of responses,
/// or of requests.
const WINDOW: u32 = 64 * 1024;
const BLOCK: &[u8] = &[0; 64 * 1024];
/// Bytes of a head that has no end.
const LONG_HEAD: usize = 1 << 20;
/// Connections that begin with one, at the same time.
const HEADS: usize = 30;

/// Resident bytes of this process (proc(5), statm).
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// A body without an end.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(BLOCK)))))
    }
}

type EndlessBody = BoxBody<Bytes, Infallible>;

async fn answer(request: Request<Incoming>) -> Result<Response<EndlessBody>, Infallible> {
    if request.uri().path() != "/download" {
        let _request = request;
        std::future::pending::<()>().await;
    }
    Ok(Response::new(Endless.boxed()))
}

/// A server of HTTP/2 that sends without an end, or takes nothing.
async fn by_the_path(stream: TcpStream) {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // What it holds itself is in this process, too.
    builder
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    // Its end is the client's business.
    let _ = builder
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await;
}

/// Requests of one connection whose bodies, or responses, nobody reads.
async fn requests(client: &HostSockets, to: SocketAddr, path: &'static str, streams: usize) {
    let Ok(stream) = client.connect(to).await else {
        return;
    };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .initial_max_send_streams(streams)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let connected = builder.handshake::<_, EndlessBody>(TokioIo::new(stream));
    let Ok((sender, connection)) = connected.await else {
        return;
    };
    let mut stalled = JoinSet::new();
    for _ in 0..streams {
        let mut sender = sender.clone();
        stalled.spawn(async move {
            let body = match path {
                "/download" => Empty::new().boxed(),
                _ => Endless.boxed(),
            };
            let request = Request::post(format!("http://web{path}"));
            let response = sender.send_request(request.body(body).unwrap()).await;
            let _held = response;
            std::future::pending::<()>().await;
        });
    }
    drop(sender);
    let _ = connection.await;
}

/// Connections whose bytes nobody reads: the server sends, or the client.
async fn connections(client: &HostSockets, to: SocketAddr, server_sends: bool) {
    let mut held = Vec::new();
    for _ in 0..STREAMS / 2 {
        let Ok(mut stream) = client.connect(to).await else {
            return;
        };
        let kind = if server_sends { b"d" } else { b"u" };
        if stream.write_all(kind).await.is_err() {
            return;
        }
        let (read, mut write) = stream.into_split();
        held.push(read);
        tokio::spawn(async move {
            while !server_sends && write.write_all(BLOCK).await.is_ok() {}
            std::future::pending::<()>().await;
        });
    }
    std::future::pending().await
}

/// Requests whose heads have no end, each on a connection of its own.
async fn heads(client: &Arc<HostSockets>, to: SocketAddr) {
    let mut connections = JoinSet::new();
    for _ in 0..HEADS {
        let client = Arc::clone(client);
        connections.spawn(async move {
            loop {
                // Until it is answered, or ended.
                let _ = begin_head(&client, to).await;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
    }
    std::future::pending().await
}

async fn begin_head(client: &HostSockets, to: SocketAddr) -> io::Result<u8> {
    let mut stream = client.connect(to).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: web\r\nname: ")
        .await?;
    for _ in 0..LONG_HEAD / BLOCK.len() {
        stream.write_all(&[b'x'; BLOCK.len()]).await?;
        // It is memory that is to run short, not time: each byte is looked at.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    stream.read_u8().await
}

/// A server that sends without an end, or takes nothing.
async fn by_the_first_byte(mut stream: TcpStream) {
    if let Ok(b'd') = stream.read_u8().await {
        while stream.write_all(BLOCK).await.is_ok() {}
    }
    std::future::pending().await
}

/// The kinds of floods.
#[derive(Clone, Copy, Debug)]
enum Flood {
    /// Requests from somewhere else, to an application that reads no bodies.
    Stranger,
    /// Requests of the pod's own application, to such a server.
    OwnRequests,
    /// Heads of requests without an end, from somewhere else.
    StrangersHeads,
    /// The same, of the pod's own application.
    OwnHeads,
    /// Responses to a client that reads none.
    Responses,
    /// Bytes of a server to a client that reads none, in tunnels.
    Downloads,
    /// The other way.
    Uploads,
}

impl Flood {
    const ALL: [Self; 7] = [
        Self::Stranger,
        Self::OwnRequests,
        Self::StrangersHeads,
        Self::OwnHeads,
        Self::Responses,
        Self::Downloads,
        Self::Uploads,
    ];

    /// How many connections, or groups of them, it consists of.
    fn connections(self) -> usize {
        match self {
            Self::Stranger => CONNECTIONS_OF_STRANGERS,
            _ => CONNECTIONS,
        }
    }
}

/// One connection, or many, of a flood after the other.
async fn flood(kind: Flood, client: Arc<HostSockets>, server: SocketAddr, service: SocketAddr) {
    loop {
        match kind {
            Flood::Stranger => requests(&client, server, "/upload", STREAMS_OF_STRANGERS).await,
            Flood::OwnRequests => requests(&client, service, "/upload", STREAMS).await,
            Flood::StrangersHeads => heads(&client, server).await,
            Flood::OwnHeads => heads(&client, service).await,
            Flood::Responses => requests(&client, service, "/download", STREAMS).await,
            Flood::Downloads => connections(&client, server, true).await,
            Flood::Uploads => connections(&client, server, false).await,
        }
        // What was just ended is on its way out for a moment.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A neighbour's connections, each new; counts those that were answered.
async fn neighbour(client: &Pod, to: SocketAddr, answered: &AtomicUsize) {
    loop {
        let mut stream = client.connect(to).await.unwrap();
        assert_eq!(exchange(&mut stream, "hello").await, "hello");
        answered.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A flood's end: without a limit, as soon as it has taken more than there is with one.
async fn end_of_flood(is_limited: bool, at_first: usize, most: &AtomicUsize) {
    if is_limited {
        return tokio::time::sleep(LASTS).await;
    }
    let deadline = Instant::now() + LASTS_WITHOUT_LIMIT;
    while most.load(Ordering::Relaxed) - at_first <= MOST && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Bytes that the process has at most, more than at first.
async fn memory_that_is_taken(kind: Flood, is_limited: bool, at_first: usize) -> usize {
    let limit = if is_limited { LIMIT } else { usize::MAX };
    let mut bed = Bed::with(|settings| {
        settings.buffer_bytes = limit;
        // Fewer connections make as much.
        settings.heads.bytes = LONG_HEAD + BLOCK.len();
    });
    bed.node("node-2");
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let near = bed.pod("node-1", "near-neighbour");
    let far = bed.pod("node-2", "far-neighbour");
    let address = match kind {
        Flood::Downloads | Flood::Uploads => server.serve(0, by_the_first_byte).await,
        _ => server.serve(0, by_the_path).await,
    };
    let of_neighbour = far.serve(0, echo).await;
    let protocol = match kind {
        Flood::Downloads | Flood::Uploads => "",
        Flood::StrangersHeads | Flood::OwnHeads => "http",
        _ => "grpc",
    };
    let endpoints = [(address.ip(), Some(&server))];
    let service = bed.service_that_declares(protocol, "web", address.port(), &endpoints);
    let answered = AtomicUsize::new(0);
    let most = Arc::new(AtomicUsize::new(at_first));
    let watched = Arc::clone(&most);
    let watching = std::thread::spawn(move || {
        while Arc::strong_count(&watched) > 1 {
            watched.fetch_max(resident(), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let mut floods = JoinSet::new();
    for _ in 0..kind.connections() {
        floods.spawn(flood(kind, Arc::clone(&client.sockets), address, service));
    }
    tokio::select! {
        () = end_of_flood(is_limited, at_first, &most) => {}
        () = neighbour(&near, of_neighbour, &answered) => unreachable!("it has no end"),
    }
    floods.shutdown().await;
    // Each of them, however slow the machine is.
    let answered = answered.load(Ordering::Relaxed);
    println!("{kind:?}: {answered} connections of the neighbour were answered");
    assert!(!is_limited || answered >= 1, "{kind:?}: {answered}");
    let taken = most.load(Ordering::Relaxed) - at_first;
    drop(most);
    watching.join().unwrap();
    taken
}

/// Names the flood of a process.
const FLOOD: &str = "WEFT_TEST_FLOOD";
/// Is set where its limit is lifted.
const UNLIMITED: &str = "WEFT_TEST_FLOOD_UNLIMITED";
/// Comes before the number of bytes that one took.
const TAKEN: &str = "bytes taken: ";

/// One flood, in a process of its own: allocators keep what was freed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the test below runs it"]
async fn one_flood() {
    let name = std::env::var(FLOOD).unwrap();
    let kind = Flood::ALL
        .into_iter()
        .find(|kind| format!("{kind:?}") == name);
    let is_limited = std::env::var_os(UNLIMITED).is_none();
    let taken = memory_that_is_taken(kind.unwrap(), is_limited, resident()).await;
    println!("{TAKEN}{taken}");
}

/// MiB that a flood takes in a process of its own.
fn taken_by(kind: Flood, is_limited: bool) -> usize {
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["one_flood", "--exact", "--ignored", "--nocapture"]);
    process.env(FLOOD, format!("{kind:?}"));
    if !is_limited {
        process.env(UNLIMITED, "");
    }
    let output = process.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{kind:?}: {text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (_, taken) = text.split_once(TAKEN).unwrap();
    let taken: usize = taken.lines().next().unwrap().parse().unwrap();
    taken >> 20
}

#[test]
fn no_flood_of_bytes_that_nobody_reads_takes_more_memory_than_there_is_for_it() {
    let limited = Flood::ALL.map(|kind| (kind, taken_by(kind, true)));
    println!("MiB taken: {limited:?}");
    assert!(
        limited.iter().all(|(_, mib)| *mib < MOST >> 20),
        "{limited:?}"
    );
    // It is the limit that holds them.
    let unlimited = Flood::ALL.map(|kind| (kind, taken_by(kind, false)));
    println!("MiB taken without a limit: {unlimited:?}");
    assert!(
        unlimited.iter().all(|(_, mib)| *mib >= MOST >> 20),
        "{unlimited:?}"
    );
}
