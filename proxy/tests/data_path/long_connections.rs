//! Connections that last: servers that end them when they are idle or old, and those that are
//! upgraded.

use std::convert::Infallible;
use std::io::Read as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Interval, interval, timeout};
use weft_model::idle::IdleLimits;
use weft_model::network_policy::NetworkPolicy;
use weft_model::traffic::TrafficPolicy;
use weft_model::workload::{PolicyMembership, Workload};
use weft_model::{Change, NamespacedName};
use weft_testing::fixtures::{PORT, named};
use weft_testing::tcp;
use weft_testing::wait::{in_time, wait_until};

use super::application;
use super::bed::{Bed, Pod};

/// Time that [`closes_when_idle`] waits for a request.
const IDLE: Duration = Duration::from_millis(100);

/// A server that ends a connection when it was idle for just so long.
async fn closes_when_idle(mut stream: TcpStream) {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = match timeout(IDLE, stream.read(&mut buffer)).await {
            Ok(Ok(read @ 1..)) => read,
            Ok(_) => return,
            Err(_) => {
                let Some((kept, read)) = read_or_end(stream, &mut buffer) else {
                    return;
                };
                stream = kept;
                read
            }
        };
        received.extend_from_slice(&buffer[..read]);
        if received.ends_with(b"the body") {
            received.clear();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

/// Ends a connection unless the kernel has bytes of it: the runtime knows only of those that it
/// was woken for, and may wake late.
fn read_or_end(stream: TcpStream, buffer: &mut [u8]) -> Option<(TcpStream, usize)> {
    let mut stream = stream.into_std().unwrap();
    match stream.read(buffer) {
        Ok(read @ 1..) => Some((TcpStream::from_std(stream).unwrap(), read)),
        _ => None,
    }
}

/// A service of such a server: in a pod of another node, in one of the client's, and in none.
async fn near_far_and_outside<F>(
    bed: &mut Bed,
    serve: impl Fn(TcpStream) -> F + Clone + Send + 'static,
) -> (Pod, Vec<Pod>, Vec<SocketAddr>)
where
    F: Future<Output = ()> + Send + 'static,
{
    bed.node("node-2");
    let client = bed.pod("node-1", "client");
    let (mut pods, mut addresses) = (Vec::new(), Vec::new());
    for node in ["node-2", "node-1"] {
        let pod = bed.pod(node, node);
        let server = application(&pod, serve.clone()).await;
        let endpoints = [(server.ip(), Some(&pod))];
        addresses.push(bed.service_that_declares("http", node, server.port(), &endpoints));
        pods.push(pod);
    }
    let outside = tcp::serve(tcp::listen().await, serve);
    let endpoints = [(outside.ip(), None)];
    addresses.push(bed.service_that_declares("http", "outside", outside.port(), &endpoints));
    (client, pods, addresses)
}

async fn post(client: &Pod, to: SocketAddr) -> u16 {
    let stream = client.connect(to).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("/").header("host", "web");
    let request = request.body(Full::new(Bytes::from("the body"))).unwrap();
    let response = in_time(sender.send_request(request)).await.unwrap();
    response.status().as_u16()
}

#[tokio::test]
async fn a_request_that_meets_the_end_of_an_idle_connection_is_answered_all_the_same() {
    let mut bed = Bed::new();
    let (client, _pods, addresses) = near_far_and_outside(&mut bed, closes_when_idle).await;
    let failed = |address| {
        let client = &client;
        async move {
            let mut failed = Vec::new();
            for number in 0..60 {
                let status = post(client, address).await;
                if status != 200 {
                    failed.push((number, status));
                }
                // Around the moment when the server ends the connection: 98.5 to 101.5 ms.
                let offset = Duration::from_micros(50) * number;
                tokio::time::sleep(IDLE - Duration::from_micros(1500) + offset).await;
            }
            failed
        }
    };
    let (far, near, outside) = tokio::join!(
        failed(addresses[0]),
        failed(addresses[1]),
        failed(addresses[2])
    );
    // A server that is preempted between its last look and its end has bytes in its socket then:
    // the kernel resets without an end before, as for a server that has read a part, and nobody
    // can tell the two.
    let is_right = |failed: &Vec<_>| matches!(failed[..], [] | [(_, 503)]);
    let failed = [far, near, outside];
    assert!(
        failed.iter().all(is_right),
        "more than one of 60: {failed:?}"
    );
}

/// A server that answers the first request of a connection, reads a part of the second, and
/// breaks off: it may have done what it was asked to.
async fn resets_the_second(mut stream: TcpStream, seconds: Arc<AtomicUsize>) {
    let mut received = Vec::new();
    while !received.ends_with(b"the body") {
        match stream.read_u8().await {
            Ok(byte) => received.push(byte),
            Err(_) => return,
        }
    }
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    if stream.write_all(answer).await.is_ok() && stream.read_u8().await.is_ok() {
        seconds.fetch_add(1, Ordering::Relaxed);
    }
}

/// A server that answers the first request of a connection, and ends behind the second, which it
/// has read.
async fn ends_behind_the_second(mut stream: TcpStream, seconds: Arc<AtomicUsize>) {
    for number in 0..2 {
        let mut received = Vec::new();
        while !received.ends_with(b"the body") {
            match stream.read_u8().await {
                Ok(byte) => received.push(byte),
                Err(_) => return,
            }
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        match number {
            0 if stream.write_all(answer).await.is_ok() => {}
            _ => _ = seconds.fetch_add(1, Ordering::Relaxed),
        }
    }
}

#[tokio::test]
async fn a_post_of_which_a_server_may_have_read_some_is_not_sent_again() {
    for reads_all in [false, true] {
        let mut bed = Bed::new();
        let seconds = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&seconds);
        let serve = move |stream| {
            let seen = Arc::clone(&seen);
            async move {
                match reads_all {
                    true => ends_behind_the_second(stream, seen).await,
                    false => resets_the_second(stream, seen).await,
                }
            }
        };
        let (client, _pods, addresses) = near_far_and_outside(&mut bed, serve).await;
        for (number, address) in addresses.into_iter().enumerate() {
            assert_eq!(post(&client, address).await, 200);
            let status = post(&client, address).await;
            assert_eq!(status, 503, "{number}, all: {reads_all}");
            assert_eq!(seconds.load(Ordering::Relaxed), number + 1);
        }
    }
}

#[tokio::test]
async fn a_policy_for_a_port_lets_connections_be_silent_for_longer_than_the_mesh_does() {
    let mut bed = Bed::new();
    bed.node("node-2");
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let address = application(&server, tcp::echo).await;
    let service = bed.service("web", address.port(), &[(address.ip(), Some(&server))]);
    let short = IdleLimits {
        open: Some(Duration::from_millis(200)),
        half_closed: None,
    };
    for pod in [&client, &server] {
        let mut workload = Workload::clone(&pod.workload);
        workload.idle_limits = short;
        bed.tell(&Change::Workload(workload));
    }
    let mut policy = TrafficPolicy::new(named("web"));
    let never = IdleLimits {
        open: Some(Duration::ZERO),
        half_closed: None,
    };
    policy.idle_limits.ports = vec![(PORT, never)];
    bed.tell(&Change::TrafficPolicy(Box::new(policy)));
    let mut of_service = client.connect(service).await.unwrap();
    assert_eq!(tcp::exchange(&mut of_service, "hello").await, "hello");
    // To the pod itself no policy of the client's is about, and the mesh's limit holds.
    let mut of_pod = client.connect(address).await.unwrap();
    assert_eq!(tcp::exchange(&mut of_pod, "hello").await, "hello");
    assert!(in_time(of_pod.read(&mut [0])).await.is_err(), "it is cut");
    assert_eq!(tcp::exchange(&mut of_service, "again").await, "again");
}

/// A server of HTTP/2 that lets each connection become so old, then ends it in order (GOAWAY).
async fn with_greatest_age(stream: TcpStream, age: Duration) {
    let service = service_fn(async |request: Request<Incoming>| {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Ok::<_, Infallible>(Response::new(Full::new(body)))
    });
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = tokio::time::sleep(age) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

#[tokio::test]
async fn no_call_fails_because_a_server_ends_connections_that_are_old() {
    let mut bed = Bed::new();
    bed.node("node-2");
    let client = bed.pod("node-1", "client");
    for node in ["node-2", "node-1"] {
        let pod = bed.pod(node, node);
        let age = Duration::from_millis(20);
        let server = application(&pod, move |stream| with_greatest_age(stream, age)).await;
        let endpoints = [(server.ip(), Some(&pod))];
        let address = bed.service_that_declares("grpc", node, server.port(), &endpoints);
        let stream = client.connect(address).await.unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = handshake.unwrap();
        tokio::spawn(connection);
        let mut clients = JoinSet::new();
        for _ in 0..20 {
            let mut sender = sender.clone();
            clients.spawn(async move {
                for _ in 0..50 {
                    let request = Request::post("http://web/a.B/C");
                    let request = request.body(Full::new(Bytes::from("hello"))).unwrap();
                    let response = in_time(sender.send_request(request)).await.unwrap();
                    assert_eq!(response.status(), 200);
                    let body = in_time(response.into_body().collect()).await.unwrap();
                    assert_eq!(body.to_bytes(), "hello");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        clients.join_all().await;
    }
}

/// A server of HTTP/2 whose first connection ends when 10 requests have begun: it says that it did
/// nothing with all but the first two.
async fn turns_eight_away(stream: TcpStream, connections: Arc<AtomicUsize>) {
    if connections.fetch_add(1, Ordering::Relaxed) > 0 {
        return with_greatest_age(stream, Duration::from_secs(60)).await;
    }
    let mut stream = stream;
    // SETTINGS, and the acknowledgement of the client's.
    let settings = b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";
    stream.write_all(settings).await.unwrap();
    stream.read_exact(&mut [0; 24]).await.unwrap();
    let (mut begun, mut bodies) = (Vec::new(), 0);
    while begun.len() < 10 || bodies < 10 {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = usize::from(head[1]) * 256 + usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        match head[3] {
            1 => begun.push(head[8]),
            0 => bodies += 1,
            _ => {}
        }
    }
    begun.sort_unstable();
    let last = begun[1];
    let go_away = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, 0];
    stream.write_all(&go_away).await.unwrap();
    for number in &begun[..2] {
        // HEADERS that end the stream, with `:status: 200` of the static table.
        let answer = [0, 0, 1, 1, 5, 0, 0, 0, *number, 0x88];
        stream.write_all(&answer).await.unwrap();
    }
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// Makes calls at the same time on one connection of HTTP/2, and waits for the heads of their
/// answers.
async fn calls_at_once(
    client: &Pod,
    address: SocketAddr,
    count: usize,
    body: &'static str,
) -> Vec<Response<Incoming>> {
    let stream = client.connect(address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    let mut calls = JoinSet::new();
    for _ in 0..count {
        let mut sender = sender.clone();
        calls.spawn(async move {
            let request = Request::post("http://web/a.B/C");
            let request = request.body(Full::new(Bytes::from(body))).unwrap();
            in_time(sender.send_request(request)).await.unwrap()
        });
    }
    calls.join_all().await
}

#[tokio::test]
async fn calls_that_a_server_turns_away_with_their_bodies_under_way_are_sent_again() {
    let mut bed = Bed::new();
    bed.node("node-2");
    let client = bed.pod("node-1", "client");
    for node in ["node-2", "node-1"] {
        let pod = bed.pod(node, node);
        let connections = Arc::new(AtomicUsize::new(0));
        let server = application(&pod, move |stream| {
            turns_eight_away(stream, Arc::clone(&connections))
        });
        let server = server.await;
        let endpoints = [(server.ip(), Some(&pod))];
        let address = bed.service_that_declares("grpc", node, server.port(), &endpoints);
        for answer in calls_at_once(&client, address, 10, "hello").await {
            let headers = answer.headers();
            assert_eq!(answer.status(), 200, "{node}: {headers:?}");
            assert!(!headers.contains_key("grpc-status"), "{node}: {headers:?}");
        }
    }
}

/// A server of HTTP/2 that takes one request at a time on a connection, and answers none before
/// `calls` have arrived on all of them.
async fn one_at_a_time(stream: TcpStream, arrived: Arc<Barrier>) {
    let service = service_fn(move |_: Request<Incoming>| {
        let arrived = Arc::clone(&arrived);
        async move {
            arrived.wait().await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("ok"))))
        }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder.max_concurrent_streams(1);
    // Its end is the client's business.
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

#[tokio::test]
async fn a_server_that_takes_one_call_at_a_time_gets_as_many_connections_as_there_are_calls() {
    const CALLS: usize = 20;
    let mut bed = Bed::new();
    bed.node("node-2");
    let client = bed.pod("node-1", "client");
    for node in ["node-2", "node-1"] {
        let pod = bed.pod(node, node);
        let arrived = Arc::new(Barrier::new(CALLS));
        let server = application(&pod, move |stream| {
            one_at_a_time(stream, Arc::clone(&arrived))
        });
        let server = server.await;
        let endpoints = [(server.ip(), Some(&pod))];
        let address = bed.service_that_declares("grpc", node, server.port(), &endpoints);
        for answer in calls_at_once(&client, address, CALLS, "").await {
            assert_eq!(answer.status(), 200, "{node}");
        }
    }
}

/// Changes the protocol, then sends back what comes.
async fn switch_and_echo(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    if stream.write_all(SWITCHED).await.is_ok() {
        tcp::echo(stream).await;
    }
}

const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";

/// A connection of the pod's application to a service that has changed its protocol.
async fn upgraded(client: &Pod, to: SocketAddr) -> TcpStream {
    let mut stream = client.connect(to).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(in_time(stream.read_u8()).await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    stream
}

#[tokio::test]
async fn a_connection_that_changed_its_protocol_is_listed_counted_and_drained_like_any_other() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::with(|settings| settings.connections_per_pod = 2);
        bed.node("node-2");
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let address = application(&server, switch_and_echo).await;
        let endpoints = [(address.ip(), Some(&server))];
        let service = bed.service_that_declares("http", "web", address.port(), &endpoints);
        let mut stream = upgraded(&client, service).await;
        assert_eq!(client.proxy.open_connections(), 1);
        // One more has a place, and none has after it.
        let mut second = client.connect(service).await.unwrap();
        // The reset may come before connect() returns.
        let is_refused = match client.connect(service).await {
            Ok(mut third) => in_time(third.read(&mut [0])).await.is_err(),
            Err(_) => true,
        };
        assert!(is_refused, "{node}");
        second.shutdown().await.unwrap();
        let _ = in_time(second.read(&mut [0])).await;
        let deadline = Duration::from_millis(500);
        let began = Instant::now();
        let draining = tokio::spawn(client.proxy.drain(deadline));
        assert_eq!(tcp::exchange(&mut stream, "hello").await, "hello");
        draining.await.unwrap();
        assert!(began.elapsed() >= deadline, "{node}");
        assert!(
            !matches!(in_time(stream.read(&mut [0])).await, Ok(1..)),
            "{node}"
        );
    }
}

#[tokio::test]
async fn a_connection_that_changed_its_protocol_and_is_silent_for_too_long_is_ended() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        bed.node("node-2");
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let address = application(&server, switch_and_echo).await;
        let endpoints = [(address.ip(), Some(&server))];
        let service = bed.service_that_declares("http", "web", address.port(), &endpoints);
        let mut workload = Workload::clone(&client.workload);
        workload.idle_limits = IdleLimits {
            open: Some(Duration::from_millis(500)),
            half_closed: None,
        };
        bed.tell(&Change::Workload(workload));
        let mut stream = upgraded(&client, service).await;
        // It is busy for longer than it may be silent.
        for _ in 0..12 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(tcp::exchange(&mut stream, "hello").await, "hello");
        }
        let ended = in_time(stream.read(&mut [0])).await;
        assert!(!matches!(ended, Ok(1..)), "{node}: {ended:?}");
        bed.counts("node-1", &["requests_total", "IDLE_TIMEOUT"])
            .await;
        wait_until("its place is free", || client.proxy.open_connections() == 0).await;
    }
}

#[tokio::test]
async fn a_connection_that_changed_its_protocol_ends_when_policy_allows_it_no_more() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        bed.node("node-2");
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let address = application(&server, switch_and_echo).await;
        let endpoints = [(address.ip(), Some(&server))];
        let service = bed.service_that_declares("http", "web", address.port(), &endpoints);
        let mut stream = upgraded(&client, service).await;
        assert_eq!(tcp::exchange(&mut stream, "hello").await, "hello");
        // A policy that lets the client go nowhere.
        let nowhere = NamespacedName::new("default", "nowhere");
        bed.tell(&Change::NetworkPolicy(NetworkPolicy {
            key: nowhere.clone(),
            ingress: Vec::new(),
            egress: Vec::new(),
        }));
        let mut workload = Workload::clone(&client.workload);
        workload.network_policies = Arc::new(PolicyMembership {
            egress: vec![nowhere],
            ..PolicyMembership::default()
        });
        bed.tell(&Change::Workload(workload));
        let ended = in_time(stream.read(&mut [0])).await;
        assert!(!matches!(ended, Ok(1..)), "{node}: {ended:?}");
        bed.counts("node-1", &["requests_total", "POLICY_CHANGED"])
            .await;
    }
}

/// A body of 256 parts.
struct Parts {
    length: usize,
    left: usize,
    /// The time between two of them.
    pace: Option<Interval>,
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if let Some(pace) = &mut self.pace {
            ready!(pace.poll_tick(context));
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(vec![0; self.length].into()))))
    }
}

/// A server of HTTP/2 that answers with 4 MiB, or with a byte each few milliseconds.
async fn large_or_slow(stream: TcpStream) {
    let service = service_fn(async |request: Request<Incoming>| {
        let is_slow = request.uri().path() == "/tick";
        Ok::<_, Infallible>(Response::new(Parts {
            length: if is_slow { 1 } else { 16 * 1024 },
            left: 256,
            pace: is_slow.then(|| interval(Duration::from_millis(10))),
        }))
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder.max_pending_accept_reset_streams(1000);
    // Its end is the client's business.
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn http2_client(pod: &Pod, to: SocketAddr) -> http2::SendRequest<Empty<Bytes>> {
    let stream = TokioIo::new(pod.connect(to).await.unwrap());
    let mut builder = http2::Builder::new(TokioExecutor::new());
    // Of this client itself nothing is asked here.
    builder.max_concurrent_reset_streams(100_000);
    builder.max_local_error_reset_streams(None);
    let (sender, connection) = builder.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn requests_that_are_cancelled_by_thousands_cost_those_of_others_nothing() {
    let mut bed = Bed::new();
    bed.node("node-2");
    let client = bed.pod("node-1", "client");
    for node in ["node-2", "node-1"] {
        let pod = bed.pod(node, node);
        let server = application(&pod, large_or_slow).await;
        let endpoints = [(server.ip(), Some(&pod))];
        let address = bed.service_that_declares("grpc", node, server.port(), &endpoints);
        let mut sentinel = http2_client(&client, address).await;
        let request = Request::get("http://web/tick").body(Empty::new()).unwrap();
        let ticking = in_time(sentinel.send_request(request)).await.unwrap();
        let load = http2_client(&client, address).await;
        let cancelled = async {
            for _ in 0..25 {
                let mut round = JoinSet::new();
                for _ in 0..90 {
                    let mut load = load.clone();
                    round.spawn(async move {
                        let request = Request::get("http://web/").body(Empty::new());
                        let response = in_time(load.send_request(request.unwrap())).await;
                        let mut response = response.unwrap();
                        assert_eq!(response.status(), 200);
                        // Given up with its first data.
                        in_time(response.frame()).await.unwrap().unwrap();
                    });
                }
                round.join_all().await;
            }
        };
        let (ticks, ()) = tokio::join!(ticking.into_body().collect(), cancelled);
        assert_eq!(ticks.unwrap().to_bytes().len(), 256, "{node}");
    }
}
