use std::net::SocketAddr;

use http_body_util::BodyExt;
use tokio::net::TcpStream;
use weft_model::mesh::{Change, Transport};
use weft_model::workload::{Enrolment, Workload, WorkloadUid};
use weft_testing::fixtures::{self, PORT, named};
use weft_testing::tcp::{closed_port, listen};
use weft_testing::wait::{in_time, wait_until};
use weft_testing::web::{WebServer, text};

use http::Request;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::endpoint::STREAMS_PER_CONNECTION;
use super::*;
use crate::http::body::RequestBody;
use crate::stream::Stream;

const LONG: Duration = Duration::from_secs(60);

/// A web server, its pool of connections, and how often one was dialled.
struct Bed {
    pool: HttpPool,
    service: NamespacedName,
    address: SocketAddr,
    dials: AtomicUsize,
}

impl Bed {
    async fn new() -> Self {
        let server = WebServer::start(listen().await, text("ok"));
        Self {
            pool: HttpPool::new(HeadLimits::default()),
            service: named("web"),
            address: server.address,
            dials: AtomicUsize::new(0),
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
        };
        if let Some(lease) = self.pool.reuse(target) {
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
    let response = response.unwrap_or_else(|error| panic!("{}", error.error));
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
    assert!(!first.is_reused());
    ask(&mut first).await;
    first.give_back();
    let mut second = bed.lease(&candidate, false).await.unwrap();
    assert!(second.is_reused());
    ask(&mut second).await;
    // Dropped instead of given back: its answer may be unread.
    drop(second);
    assert!(!bed.lease(&candidate, false).await.unwrap().is_reused());
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
    for _ in 0..STREAMS_PER_CONNECTION {
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
        assert!(!lease.is_reused(), "HTTP/2: {http2}");
        ask(&mut lease).await;
        lease.give_back();
        assert!(bed.lease(&new, http2).await.unwrap().is_reused());
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
    bed.pool
        .drop_unused(&bed.mesh(Some(&after)), "node-1", LONG);
    let after = plaintext_to(&after, bed.address);
    assert!(bed.lease(&after, false).await.unwrap().is_reused());
}

#[tokio::test]
async fn what_was_idle_for_long_or_leads_nowhere_any_more_is_dropped() {
    for http2 in [false, true] {
        let bed = Bed::new().await;
        let candidate = bed.candidate();
        let used = || async {
            let mut lease = bed.lease(&candidate, http2).await.unwrap();
            ask(&mut lease).await;
            let was_reused = lease.is_reused();
            lease.give_back();
            was_reused
        };
        assert!(!used().await);
        bed.pool.drop_unused(&bed.mesh(None), "node-1", LONG);
        assert!(used().await, "an endpoint's connections stay");
        bed.pool
            .drop_unused(&bed.mesh(None), "node-1", Duration::ZERO);
        assert!(!used().await, "idle for too long");
        bed.pool.drop_unused(&Mesh::default(), "node-1", LONG);
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
    bed.pool.drop_unused(&Mesh::default(), "node-1", LONG);
    // The request that is under way goes on.
    ask(&mut lease).await;
    lease.give_back();
    assert!(!bed.lease(&candidate, false).await.unwrap().is_reused());
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
    };
    wait_until("it is noticed", || match bed.pool.reuse(target) {
        Some(lease) => {
            lease.give_back();
            false
        }
        None => true,
    })
    .await;
}
