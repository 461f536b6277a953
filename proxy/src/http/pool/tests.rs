use std::net::SocketAddr;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use weft_model::mesh::{Change, Transport};
use weft_model::workload::{Enrolment, Workload, WorkloadUid};
use weft_testing::fixtures::{self, PORT, named};
use weft_testing::tcp::{closed_port, listen, serve};
use weft_testing::wait::{in_time, wait_until};
use weft_testing::web::{WebServer, text};

use super::shared::RESETS_PER_CONNECTION;
use super::*;
use crate::http::body::RequestBody;
use crate::http::handshake::STREAMS_PER_CONNECTION;
use crate::stream::Stream;

const LONG: LongestIdle = LongestIdle {
    http1: Duration::from_secs(60),
    http2: Duration::from_secs(60),
};

/// A web server, its pool of connections, and how often one was dialled.
struct Bed {
    pool: HttpPool,
    service: NamespacedName,
    address: SocketAddr,
    dials: AtomicUsize,
    /// The address that the next client has bound.
    source: Option<IpAddr>,
}

impl Bed {
    async fn new() -> Self {
        let server = WebServer::start(listen().await, text("ok"));
        Self::of(server.address)
    }

    /// A pool for that server.
    fn of(address: SocketAddr) -> Self {
        Self {
            pool: HttpPool::new(LONG, HeadLimits::default(), Arc::default()),
            service: named("web"),
            address,
            dials: AtomicUsize::new(0),
            source: None,
        }
    }

    fn candidate(&self) -> Candidate {
        Candidate::outside_mesh(self.address)
    }

    /// A connection for one request to a candidate.
    async fn lease(&self, candidate: &Candidate, http2: bool) -> Result<Lease, LeaseError> {
        let target = PoolTarget {
            service: &self.service,
            port: PORT,
            candidate,
            http2,
            source: self.source,
        };
        if let Some(lease) = self.pool.reuse(target, Reuse::Any).await {
            return Ok(lease);
        }
        let connect = |candidate: Candidate| async move {
            self.dials.fetch_add(1, Ordering::Relaxed);
            let connected = TcpStream::connect(candidate.address).await;
            let stream = Stream::Tcp(connected.map_err(DialError::Connect)?);
            Ok(UpstreamConnection::new(stream))
        };
        self.pool.lease(target, connect).await
    }

    fn dials(&self) -> usize {
        self.dials.load(Ordering::Relaxed)
    }

    /// A mesh in which the server is an endpoint, and behind it this pod.
    fn mesh(&self, pod: Option<&Workload>) -> Mesh {
        let mut mesh = Mesh::default();
        if let Some(pod) = pod {
            mesh.apply(Change::Workload(pod.clone()));
        }
        mesh.apply(Change::Service(fixtures::service(
            "web",
            [10, 96, 0, 1],
            "",
        )));
        let uid = pod.map(|pod| &pod.uid);
        let (address, port) = (self.address.ip(), self.address.port());
        let endpoint = fixtures::endpoint("web", address, port, uid);
        mesh.apply(Change::Endpoint(endpoint));
        mesh
    }
}

/// Sends a request and reads all of its answer.
async fn ask(lease: &mut Lease) {
    let mut request = Request::new(RequestBody::Empty);
    *request.uri_mut() = "http://web/".parse().unwrap();
    let response = in_time(lease.send(request, None)).await;
    let response = response.unwrap_or_else(|error| panic!("{error:?}"));
    let body = in_time(response.into_body().collect()).await.unwrap();
    assert_eq!(body.to_bytes(), "ok");
}

/// A pod outside the mesh at the server's address, with that label.
fn pod(bed: &Bed, app: &str) -> Workload {
    let mut workload = fixtures::workload("server", bed.address.ip(), "node-1");
    workload.enrolment = Enrolment::Outside;
    workload.labels.app = app.into();
    workload
}

fn plaintext_to(pod: &Workload, address: SocketAddr) -> Candidate {
    let workload = Some(Arc::new(pod.clone()));
    let transport = Transport::Plaintext { workload };
    Candidate { address, transport }
}

#[tokio::test]
async fn a_connection_that_is_given_back_serves_the_next_request() {
    let bed = Bed::new().await;
    let candidate = bed.candidate();
    let mut first = bed.lease(&candidate, false).await.unwrap();
    assert!(!first.reused);
    ask(&mut first).await;
    first.give_back();
    let mut second = bed.lease(&candidate, false).await.unwrap();
    assert!(second.reused);
    ask(&mut second).await;
    // Dropped instead of given back: its answer may be unread.
    drop(second);
    assert!(!bed.lease(&candidate, false).await.unwrap().reused);
    assert_eq!(bed.dials(), 2);
}

#[tokio::test]
async fn requests_at_the_same_time_share_a_connection_only_in_http2() {
    for (http2, dials) in [(false, 3), (true, 1)] {
        let bed = Bed::new().await;
        let candidate = bed.candidate();
        let lease = || bed.lease(&candidate, http2);
        let (one, two, three) = tokio::join!(lease(), lease(), lease());
        for lease in [one, two, three] {
            ask(&mut lease.unwrap()).await;
        }
        assert_eq!(bed.dials(), dials, "HTTP/2: {http2}");
    }
}

#[tokio::test]
async fn a_full_connection_of_http2_gets_a_sibling() {
    let bed = Bed::new().await;
    let candidate = bed.candidate();
    let mut leases = Vec::new();
    for _ in 0..STREAMS_PER_CONNECTION as usize {
        leases.push(bed.lease(&candidate, true).await.unwrap());
    }
    assert_eq!(bed.dials(), 1);
    leases.push(bed.lease(&candidate, true).await.unwrap());
    assert_eq!(bed.dials(), 2);
    leases.pop();
    leases.pop();
    leases.push(bed.lease(&candidate, true).await.unwrap());
    assert_eq!(bed.dials(), 2, "a stream that ended makes room for another");
}

#[tokio::test]
async fn one_failure_to_connect_is_one_requests_own() {
    let bed = Bed::new().await;
    let nobody = Candidate::outside_mesh(closed_port().await);
    for http2 in [false, true] {
        let error = bed.lease(&nobody, http2).await.unwrap_err();
        let is_expected = matches!(error, LeaseError::Dial(DialError::Connect(_)));
        assert!(is_expected, "{error}");
        ask(&mut bed.lease(&bed.candidate(), http2).await.unwrap()).await;
    }
}

#[tokio::test]
async fn a_successor_on_the_same_address_gets_connections_of_its_own() {
    let bed = Bed::new().await;
    let (old, mut new) = (pod(&bed, "web"), pod(&bed, "web"));
    new.uid = WorkloadUid::from("server-2");
    for http2 in [false, true] {
        let (old, new) = (
            plaintext_to(&old, bed.address),
            plaintext_to(&new, bed.address),
        );
        let mut lease = bed.lease(&old, http2).await.unwrap();
        ask(&mut lease).await;
        lease.give_back();
        let mut lease = bed.lease(&new, http2).await.unwrap();
        assert!(!lease.reused, "HTTP/2: {http2}");
        ask(&mut lease).await;
        lease.give_back();
        assert!(bed.lease(&new, http2).await.unwrap().reused);
    }
}

#[tokio::test]
async fn a_label_that_changed_closes_nothing() {
    let bed = Bed::new().await;
    let (before, after) = (pod(&bed, "web"), pod(&bed, "shop"));
    let mut lease = bed
        .lease(&plaintext_to(&before, bed.address), false)
        .await
        .unwrap();
    ask(&mut lease).await;
    lease.give_back();
    bed.pool.drop_unused(&bed.mesh(Some(&after)), "node-1");
    let after = plaintext_to(&after, bed.address);
    assert!(bed.lease(&after, false).await.unwrap().reused);
}

#[tokio::test]
async fn what_was_idle_for_too_long_is_not_used() {
    for http2 in [false, true] {
        let mut bed = Bed::new().await;
        bed.pool.longest_idle = LongestIdle {
            http1: Duration::ZERO,
            http2: Duration::ZERO,
        };
        let candidate = bed.candidate();
        for _ in 0..2 {
            let mut lease = bed.lease(&candidate, http2).await.unwrap();
            assert!(!lease.reused, "HTTP/2: {http2}");
            ask(&mut lease).await;
            lease.give_back();
            bed.pool.drop_unused(&bed.mesh(None), "node-1");
        }
    }
}

#[tokio::test]
async fn what_leads_nowhere_any_more_is_dropped() {
    for http2 in [false, true] {
        let bed = Bed::new().await;
        let candidate = bed.candidate();
        let used = || async {
            let mut lease = bed.lease(&candidate, http2).await.unwrap();
            ask(&mut lease).await;
            let was_reused = lease.reused;
            lease.give_back();
            was_reused
        };
        assert!(!used().await);
        bed.pool.drop_unused(&bed.mesh(None), "node-1");
        assert!(used().await, "an endpoint's connections stay");
        bed.pool.drop_unused(&Mesh::default(), "node-1");
        assert!(!used().await, "its endpoint is gone");
        bed.pool.close();
        assert!(!used().await, "the pool was closed");
    }
}

#[tokio::test]
async fn nothing_is_given_back_to_an_endpoint_that_is_gone() {
    let bed = Bed::new().await;
    let candidate = bed.candidate();
    let mut lease = bed.lease(&candidate, false).await.unwrap();
    bed.pool.drop_unused(&Mesh::default(), "node-1");
    // The request that is under way goes on.
    ask(&mut lease).await;
    lease.give_back();
    assert!(!bed.lease(&candidate, false).await.unwrap().reused);
}

#[tokio::test]
async fn a_connection_is_used_again_by_clients_of_the_same_source_only() {
    let mut bed = Bed::new().await;
    let candidate = bed.candidate();
    for (source, is_used_again) in [
        (None, false),
        (Some(IpAddr::from([10, 0, 0, 200])), false),
        (None, true),
        (Some(IpAddr::from([10, 0, 0, 200])), true),
    ] {
        bed.source = source;
        let mut lease = bed.lease(&candidate, false).await.unwrap();
        assert_eq!(lease.reused, is_used_again, "{source:?}");
        ask(&mut lease).await;
        lease.give_back();
    }
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_not_used() {
    let bed = Bed::new().await;
    let listener = listen().await;
    let candidate = Candidate::outside_mesh(listener.local_addr().unwrap());
    let lease = bed.lease(&candidate, false).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    lease.give_back();
    drop(accepted);
    let target = PoolTarget {
        service: &bed.service,
        port: PORT,
        candidate: &candidate,
        http2: false,
        source: None,
    };
    let reused = async || bed.pool.reuse(target, Reuse::Any).await;
    in_time(async {
        while let Some(lease) = reused().await {
            lease.give_back();
        }
    })
    .await;
}

/// A server of HTTP/2 that takes so many requests at once; it answers when it is let.
async fn http2_server(most_streams: u32, answer: Arc<Semaphore>) -> SocketAddr {
    serve(listen().await, move |stream| {
        let answer = Arc::clone(&answer);
        let service = service_fn(move |_: Request<Incoming>| {
            let answer = Arc::clone(&answer);
            async move {
                answer.acquire().await.unwrap().forget();
                let body = http_body_util::Full::new(bytes::Bytes::from("ok"));
                Ok::<_, hyper::Error>(Response::new(body))
            }
        });
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.max_concurrent_streams(most_streams);
        builder.max_pending_accept_reset_streams(1000);
        async move {
            // Its end is the client's business.
            let _ = builder
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    })
}

#[tokio::test]
async fn no_more_requests_are_put_on_a_connection_than_its_server_takes_at_once() {
    let answers = Arc::new(Semaphore::new(0));
    let bed = Bed::of(http2_server(1, Arc::clone(&answers)).await);
    let candidate = bed.candidate();
    let requests = futures_all((0..50).map(|_| async {
        let mut lease = bed.lease(&candidate, true).await.unwrap();
        ask(&mut lease).await;
        lease
    }));
    let all_wait = async {
        // Nobody is answered before all have arrived.
        wait_until("each has a connection", || bed.dials() == 50).await;
        answers.add_permits(50);
    };
    let (leases, ()) = tokio::join!(requests, all_wait);
    assert_eq!(bed.dials(), 50);
    leases.into_iter().for_each(Lease::give_back);
    answers.add_permits(1);
    ask(&mut bed.lease(&candidate, true).await.unwrap()).await;
    assert_eq!(bed.dials(), 50, "they are used again");
}

/// Waits for all of these.
async fn futures_all<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut done = true;
        for (future, output) in &mut all {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(ready) => *output = Some(ready),
                    Poll::Pending => done = false,
                }
            }
        }
        if done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    all.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test]
async fn requests_that_are_given_up_cost_those_of_others_nothing() {
    let answers = Arc::new(Semaphore::new(0));
    let bed = Bed::of(http2_server(1000, Arc::clone(&answers)).await);
    let candidate = bed.candidate();
    let sentinel = async {
        ask(&mut bed.lease(&candidate, true).await.unwrap()).await;
    };
    let given_up = async {
        for _ in 0..100 {
            let round = futures_all((0..50).map(|_| async {
                let mut lease = bed.lease(&candidate, true).await.unwrap();
                let mut asked = Box::pin(ask(&mut lease));
                std::future::poll_fn(|context| {
                    let _ = asked.as_mut().poll(context);
                    Poll::Ready(())
                })
                .await;
                tokio::task::yield_now().await;
            }));
            round.await;
        }
        answers.add_permits(1000);
    };
    tokio::join!(sentinel, given_up);
    let connections = 5000 / RESETS_PER_CONNECTION + 2;
    assert!(bed.dials() <= connections, "{}", bed.dials());
    assert!(bed.dials() > 1, "a connection takes no more after many");
}

#[tokio::test]
async fn a_change_of_the_mesh_looks_each_port_up_once() {
    let bed = Bed::new().await;
    let mut mesh = Mesh::default();
    mesh.apply(Change::Service(fixtures::service(
        "web",
        [10, 96, 0, 1],
        "",
    )));
    for host in 1..=200 {
        let address = std::net::Ipv4Addr::new(10, 0, 0, host);
        mesh.apply(Change::Endpoint(fixtures::endpoint(
            "web", address, 80, None,
        )));
        let candidate = Candidate::outside_mesh((address, 80).into());
        bed.pool.connections_to(PoolTarget {
            service: &bed.service,
            port: PORT,
            candidate: &candidate,
            http2: false,
            source: None,
        });
    }
    let mut known = KnownCandidates::new(&mesh, "node-1");
    let endpoints = lock(&bed.pool.endpoints);
    assert_eq!(endpoints.len(), 200);
    for (id, connections) in endpoints.iter() {
        assert!(known.contain(id, &connections.candidate));
    }
    assert_eq!(known.by_port.len(), 1);
}
