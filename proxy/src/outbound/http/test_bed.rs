//! What the tests of requests run on: a pod whose sockets are this process's own, services
//! whose endpoints are servers on loopback, and clients' connections. There is no
//! namespace, no listener and no tunnel.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_util::sync::CancellationToken;
use weft_model::OriginalDestination;
use weft_model::mesh::{Change, DialledService};
use weft_model::route::{RouteKind, Rule};
use weft_model::workload::{Workload, WorkloadUid};
use weft_testing::fixtures::{self, PORT, backend, named};
use weft_testing::tcp;
use weft_testing::wait::{in_time, wait_until};
use weft_testing::web::WebServer;

use super::answer::answer;
use super::connection::ClientConnection;
use crate::component::Component;
use crate::fixtures::{LoopbackSockets, tcp_pair};
use crate::http::FieldNames;
use crate::http::server::{Buffers, Http1Options, MOST_STREAMS, serve_http1, serve_http2};
use crate::http::upgrade::UpgradeTasks;
use crate::node::Node;
use crate::outbound::connection::{BoundSource, OutboundConnection};
use crate::pod::Pod;
use crate::settings::{HeadLimits, Settings};

/// A pod, and the mesh that it knows.
pub(super) struct TestBed {
    pub(super) pod: Arc<Pod>,
}

/// A rule for every request, with that backend.
pub(super) fn rule(service: &str) -> Rule {
    fixtures::rule(vec![backend(service, 1)])
}

/// A workload on the node of the bed.
pub(super) fn workload(name: &str, address: Ipv4Addr) -> Workload {
    fixtures::workload(name, address, "node-1")
}

impl TestBed {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    /// A bed with other settings.
    pub(super) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings {
            connect_timeout: Duration::from_secs(2),
            ..Settings::default()
        };
        change(&mut settings);
        let node = Arc::new(Node::new("node-1", Component::NodeAgent, settings));
        let client = workload("client", Ipv4Addr::LOCALHOST);
        node.store.apply([Change::Workload(client.clone())]);
        let sockets = Arc::<LoopbackSockets>::default();
        let pod = Arc::new(Pod::new(node, Arc::new(client), sockets));
        Self { pod }
    }

    /// Changes the mesh.
    pub(super) fn apply(&self, change: Change) {
        self.pod.node.store.apply([change]);
    }

    /// Adds a service with these endpoints, each on an address of its own.
    pub(super) fn service(&self, name: &str, endpoints: &[SocketAddr]) {
        self.service_of_pods(
            name,
            &endpoints.iter().map(|at| (*at, None)).collect::<Vec<_>>(),
        );
    }

    /// The same for endpoints that may be pods.
    pub(super) fn service_of_pods(&self, name: &str, endpoints: &[(SocketAddr, Option<&str>)]) {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let address = Ipv4Addr::new(10, 96, 0, NEXT.fetch_add(1, Ordering::Relaxed));
        self.apply(Change::Service(fixtures::service(name, address, "http")));
        for (endpoint, pod) in endpoints {
            let pod = pod.map(WorkloadUid::from);
            let endpoint = fixtures::endpoint(name, endpoint.ip(), endpoint.port(), pod.as_ref());
            self.apply(Change::Endpoint(endpoint));
        }
    }

    /// Attaches an HTTPRoute to a service.
    pub(super) fn route(&self, service: &str, rules: Vec<Rule>) {
        let route = fixtures::route(RouteKind::Http, service, rules);
        self.apply(Change::Route(route));
    }

    /// A connection of the pod's application to a service.
    pub(super) fn connection(&self, service: &str) -> Arc<ClientConnection> {
        let mesh = self.pod.node.store.snapshot();
        let service = Arc::clone(mesh.service(&named(service)).unwrap());
        let connection = OutboundConnection {
            bound_source: BoundSource::default(),
            workload: self.pod.workload(&mesh),
            pod: Arc::clone(&self.pod),
            client: (Ipv4Addr::LOCALHOST, 40_000).into(),
            original: OriginalDestination::new((service.addresses()[0], PORT).into()),
            began: Instant::now(),
            mesh,
        };
        let upgrades = UpgradeTasks::default();
        let dialled = DialledService {
            service,
            port: PORT,
        };
        Arc::new(ClientConnection::new(connection, dialled, upgrades))
    }

    /// The application's end of such a connection.
    pub(super) async fn client(&self, service: &str) -> SendRequest<Full<Bytes>> {
        let connection = self.connection(service);
        let (client, accepted) = tcp_pair().await;
        let draining = CancellationToken::new();
        let options = Http1Options {
            idle: None,
            heads: HeadLimits::default(),
            names: FieldNames::AsSent,
            client: connection.end.clone(),
            interim: connection.interim.clone(),
            response_break: connection.response_break.clone(),
            ended: CancellationToken::new(),
        };
        let handle = move |request| {
            let connection = Arc::clone(&connection);
            async move { answer(&connection, request).await }
        };
        tokio::spawn(async move {
            // What it ends with is for the client to see.
            let _ = serve_http1(accepted, options, Arc::default(), draining, handle).await;
        });
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(client));
        let (sender, driver) = handshake.await.unwrap();
        tokio::spawn(driver.with_upgrades());
        sender
    }

    /// The same with HTTP/2.
    pub(super) async fn http2_client(&self, service: &str) -> http2::SendRequest<Full<Bytes>> {
        let connection = self.connection(service);
        let (client, accepted) = tcp_pair().await;
        let handle = move |request| {
            let connection = Arc::clone(&connection);
            async move { answer(&connection, request).await }
        };
        tokio::spawn(async move {
            let (heads, draining) = (HeadLimits::default(), CancellationToken::new());
            let (buffers, memory) = (Buffers::OWN_CLIENT, Arc::default());
            let most = MOST_STREAMS;
            // What it ends with is for the client to see.
            let _ = serve_http2(accepted, buffers, heads, most, memory, draining, handle).await;
        });
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(client));
        let (sender, mut driver) = handshake.await.unwrap();
        // An extended CONNECT may come once the server has said that it knows it (RFC 8441).
        let settings = poll_fn(|context| {
            let ended = Pin::new(&mut driver).poll(context);
            assert!(ended.is_pending(), "{ended:?}");
            match driver.is_extended_connect_protocol_enabled() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        in_time(settings).await;
        tokio::spawn(driver);
        sender
    }

    /// Waits until one line of the metrics has all of these parts.
    pub(super) async fn counts(&self, parts: &[&str]) {
        let has_all = |line: &str| parts.iter().all(|part| line.contains(part));
        wait_until(&format!("{parts:?}"), || {
            let text = self.pod.node.telemetry.encode().unwrap();
            text.lines().any(has_all)
        })
        .await;
    }
}

/// Sends a request and reads all of its answer.
pub(super) async fn ask(
    client: &mut SendRequest<Full<Bytes>>,
    request: Request<&'static str>,
) -> Response<Bytes> {
    in_time(client.ready()).await.unwrap();
    let request = request.map(|body| Full::new(Bytes::from_static(body.as_bytes())));
    let response = in_time(client.send_request(request)).await.unwrap();
    let (head, body) = response.into_parts();
    let body = in_time(body.collect()).await.unwrap().to_bytes();
    Response::from_parts(head, body)
}

/// A request for `/`.
pub(super) fn get() -> Request<&'static str> {
    Request::get("/").header("host", "web").body("").unwrap()
}

/// A request with a body.
pub(super) fn post(body: &'static str) -> Request<&'static str> {
    Request::post("/").header("host", "web").body(body).unwrap()
}

/// A web server at an address of its own.
pub(super) async fn web(
    respond: impl Fn(usize, &Request<Bytes>) -> Response<&'static str> + Send + Sync + 'static,
) -> WebServer {
    WebServer::start(tcp::listen().await, respond)
}
