//! Against real gRPC servers on loopback.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::{HeaderMap, Method};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use weft_model::NamespacedName;
use weft_model::mesh::Candidate;
use weft_model::route::path::PathNormalization;
use weft_model::traffic::{DescriptorEntry, LocalRateLimit};
use weft_proto::envoy::service::ratelimit::v3::rate_limit_response::Code as Overall;
use weft_proto::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};

use super::*;
use crate::fixtures::client_of;
use weft_testing::control_plane::FakeControlPlane;

const DEADLINE: Duration = Duration::from_secs(20);

/// What a server does with a question.
#[derive(Clone, Copy)]
enum Behaviour {
    Say(Overall),
    Fail(Code),
    Hang,
}

/// A rate limit service in plaintext.
struct Rls {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<RateLimitRequest>>>,
    behaviour: Arc<Mutex<Behaviour>>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

struct Protocol {
    asked: Arc<Mutex<Vec<RateLimitRequest>>>,
    behaviour: Arc<Mutex<Behaviour>>,
}

#[tonic::async_trait]
impl RateLimitService for Protocol {
    async fn should_rate_limit(
        &self,
        call: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        self.asked.lock().unwrap().push(call.into_inner());
        let behaviour = *self.behaviour.lock().unwrap();
        match behaviour {
            Behaviour::Say(code) => Ok(Response::new(RateLimitResponse {
                overall_code: code.into(),
                ..Default::default()
            })),
            Behaviour::Fail(code) => Err(Status::new(code, "not today")),
            Behaviour::Hang => std::future::pending().await,
        }
    }
}

impl Rls {
    async fn start(behaviour: Behaviour) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), behaviour).await
    }

    async fn start_at(address: SocketAddr, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, behaviour) = (Arc::default(), Arc::new(Mutex::new(behaviour)));
        let protocol = Protocol {
            asked: Arc::clone(&asked),
            behaviour: Arc::clone(&behaviour),
        };
        let (stop, stopped) = oneshot::channel();
        let serving = Server::builder()
            .add_service(RateLimitServiceServer::new(protocol))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                // Its end means the same.
                let _ = stopped.await;
            });
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            address,
            asked,
            behaviour,
            stop,
            server,
        }
    }

    /// Closes its connections and ends.
    async fn stop(self) -> SocketAddr {
        drop(self.stop);
        self.server.await.unwrap();
        self.address
    }

    fn does(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// A pod that asks, and counts its connections.
struct Pod {
    limits: RateLimits,
    connections: Arc<AtomicUsize>,
    method: Method,
    headers: HeaderMap,
}

impl Pod {
    fn new(control_plane: Option<ControlPlane>) -> Self {
        Self {
            limits: RateLimits::new(control_plane),
            connections: Arc::default(),
            method: Method::GET,
            headers: HeaderMap::new(),
        }
    }

    async fn ask(&self, limit: &GlobalRateLimit, servers: &[SocketAddr]) -> RateLimitDecision {
        let servers = servers.iter().copied().map(Candidate::outside_mesh);
        let servers: Vec<_> = servers.collect();
        let facts = RequestAttributes {
            source: None,
            method: &self.method,
            path: "/buy",
            path_normalization: PathNormalization::Strict,
            headers: &self.headers,
        };
        let connections = Arc::clone(&self.connections);
        let connect = move |candidate: Candidate| {
            connections.fetch_add(1, Ordering::Relaxed);
            TcpStream::connect(candidate.address)
        };
        self.limits.check(limit, &facts, &servers, connect).await
    }

    async fn error(&self, limit: &GlobalRateLimit, servers: &[SocketAddr]) -> RateLimitError {
        match self.ask(limit, servers).await {
            RateLimitDecision::Unavailable(error) => error,
            other => panic!("{other:?}"),
        }
    }

    async fn is_allowed(&self, limit: &GlobalRateLimit, servers: &[SocketAddr]) -> bool {
        match self.ask(limit, servers).await {
            RateLimitDecision::Allowed(_) => true,
            RateLimitDecision::Limited(_) => false,
            RateLimitDecision::Unavailable(error) => panic!("{error}"),
        }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn limit() -> GlobalRateLimit {
    GlobalRateLimit {
        server: Some((NamespacedName::new("shop", "limits"), 8081)),
        domain: "shop".into(),
        descriptors: vec![vec![DescriptorEntry::Path]],
        limit: Some(LocalRateLimit {
            requests: 10,
            interval: Duration::from_secs(60),
            burst: 0,
        }),
        timeout: DEADLINE,
        fail_open: false,
    }
}

#[tokio::test]
async fn a_service_is_asked_over_one_connection_and_its_word_holds() {
    let rls = Rls::start(Behaviour::Say(Overall::Ok)).await;
    let pod = Pod::new(None);
    assert!(pod.is_allowed(&limit(), &[rls.address]).await);
    rls.does(Behaviour::Say(Overall::OverLimit));
    assert!(!pod.is_allowed(&limit(), &[rls.address]).await);
    assert_eq!(pod.connections(), 1);
    let asked = rls.asked.lock().unwrap()[0].clone();
    assert_eq!(asked.domain, "shop");
    let descriptor = &asked.descriptors[0];
    assert_eq!(
        (&*descriptor.entries[0].key, &*descriptor.entries[0].value),
        ("path", "/buy")
    );
    let bound = descriptor.limit.as_ref().unwrap();
    assert_eq!((bound.requests_per_unit, bound.unit), (10, 2));
}

#[tokio::test]
async fn a_request_that_no_descriptor_fits_passes_unasked() {
    let pod = Pod::new(None);
    let mut limit = limit();
    limit.descriptors = vec![vec![DescriptorEntry::SourceIdentity]];
    assert!(pod.is_allowed(&limit, &[]).await);
    assert_eq!(pod.connections(), 0);
}

#[tokio::test]
async fn a_server_that_refuses_fails_or_is_missing_is_unavailable() {
    let rls = Rls::start(Behaviour::Fail(Code::InvalidArgument)).await;
    let pod = Pod::new(None);
    let error = pod.error(&limit(), &[rls.address]).await;
    assert!(error.to_string().contains("not today"), "{error}");
    assert_eq!(
        rls.asked(),
        1,
        "a question that was not liked is not asked again"
    );
    rls.does(Behaviour::Fail(Code::Unavailable));
    pod.error(&limit(), &[rls.address]).await;
    assert_eq!(rls.asked(), 3);
    assert!(matches!(
        pod.error(&limit(), &[]).await,
        RateLimitError::NoEndpoint
    ));
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let error = pod.error(&limit(), &[address]).await.to_string();
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn another_endpoint_is_asked_where_one_fails() {
    let good = Rls::start(Behaviour::Say(Overall::Ok)).await;
    let bad = Rls::start(Behaviour::Fail(Code::Unavailable)).await;
    let pod = Pod::new(None);
    for _ in 0..20 {
        assert!(pod.is_allowed(&limit(), &[bad.address, good.address]).await);
    }
    assert!(bad.asked() <= 2, "{}", bad.asked());
    assert!(pod.connections() <= 2);
}

#[tokio::test]
async fn a_restarted_server_is_found_again() {
    let rls = Rls::start(Behaviour::Say(Overall::Ok)).await;
    let pod = Pod::new(None);
    assert!(pod.is_allowed(&limit(), &[rls.address]).await);
    let address = rls.stop().await;
    let error = pod.error(&limit(), &[address]).await.to_string();
    assert!(error.contains("refused"), "{error}");
    let _rls = Rls::start_at(address, Behaviour::Say(Overall::Ok)).await;
    assert!(pod.is_allowed(&limit(), &[address]).await);
    assert_eq!(pod.limits.channels.len(), 1);
}

#[tokio::test]
async fn the_timeout_holds_and_a_dead_connection_is_made_again() {
    let rls = Rls::start(Behaviour::Hang).await;
    let pod = Pod::new(None);
    let mut limit = limit();
    limit.timeout = Duration::from_millis(50);
    for _ in 0..3 {
        let began = std::time::Instant::now();
        let error = pod.error(&limit, &[rls.address]).await;
        assert!(began.elapsed() < DEADLINE / 2);
        assert!(error.to_string().contains("50 ms"), "{error}");
    }
    assert_eq!(rls.asked(), 3);
    assert_eq!(pod.limits.channels.len(), 0);
    rls.does(Behaviour::Say(Overall::Ok));
    limit.timeout = DEADLINE;
    assert!(pod.is_allowed(&limit, &[rls.address]).await);
    assert_eq!(pod.connections(), 2);
}

#[tokio::test]
async fn connections_are_bounded_and_forgotten_when_unused() {
    let rls = Rls::start(Behaviour::Say(Overall::Ok)).await;
    let pod = Pod::new(None);
    let mut limit = limit();
    limit.timeout = DEADLINE;
    assert!(pod.is_allowed(&limit, &[rls.address]).await);
    for last in 2..40 {
        // Nobody listens there.
        pod.error(&limit, &[format!("127.1.1.{last}:1").parse().unwrap()])
            .await;
    }
    assert_eq!(pod.limits.channels.len(), 16);
    pod.limits.forget_unused();
    assert_eq!(pod.limits.channels.len(), 16);
    pod.limits.channels.age(Duration::from_secs(301));
    pod.limits.forget_unused();
    assert_eq!(pod.limits.channels.len(), 0);
}

#[tokio::test]
async fn more_questions_than_may_be_under_way_are_not_asked() {
    let rls = Rls::start(Behaviour::Say(Overall::Ok)).await;
    let pod = Pod::new(None);
    let all = pod
        .limits
        .asking
        .try_acquire_many(u32::try_from(MOST_ASKING).unwrap());
    let error = pod.error(&limit(), &[rls.address]).await;
    assert!(matches!(error, RateLimitError::Busy), "{error}");
    drop(all);
    assert!(pod.is_allowed(&limit(), &[rls.address]).await);
}

#[tokio::test]
async fn the_control_plane_is_asked_with_the_agents_token_as_it_is_now() {
    let server = FakeControlPlane::start().await;
    let pod = Pod::new(Some(client_of(&server)));
    let mut limit = limit();
    limit.server = None;
    assert!(pod.is_allowed(&limit, &[]).await);
    server.replace_token("second-token");
    assert!(pod.is_allowed(&limit, &[]).await);
    std::fs::write(server.token_file(), "stolen").unwrap();
    server.accept_token("third-token");
    let error = pod.error(&limit, &[]).await;
    assert!(error.to_string().contains("no good token"), "{error}");
    std::fs::remove_file(server.token_file()).unwrap();
    let error = pod.error(&limit, &[]).await;
    assert!(matches!(error, RateLimitError::ControlPlane(_)), "{error}");
}

#[tokio::test]
async fn without_a_control_plane_nobody_answers() {
    let mut limit = limit();
    limit.server = None;
    let error = Pod::new(None).error(&limit, &[]).await;
    assert!(matches!(error, RateLimitError::NoControlPlane), "{error}");
}
