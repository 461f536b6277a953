//! What the tests of requests run on: a pod whose sockets are this process's own, services
//! whose endpoints are servers on loopback, and clients' connections. There is no
//! namespace, no listener and no tunnel.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use weft_model::mesh::Change;
use weft_model::route::{Backend, BackendTarget, Parent, Route, RouteKey, RouteKind, Rule};
use weft_model::service::{Endpoint, EndpointKey, Service, ServiceKind, ServicePort};
use weft_model::workload::{Enrolment, Workload, WorkloadUid};
use weft_model::{NamespacedName, OriginalDestination};

use super::answer::answer;
use super::connection::ClientConnection;
use crate::fixtures::{LoopbackSockets, identity, in_time, tcp_pair, wait_until};
use crate::http::server::serve_http1;
use crate::node::Node;
use crate::outbound::connection::OutboundConnection;
use crate::pod::Pod;
use crate::settings::Settings;

/// The port of every service.
pub(super) const PORT: u16 = 80;

/// A pod, and the mesh that it knows.
pub(super) struct TestBed {
    pub(super) pod: Arc<Pod>,
}

/// The name of a service.
pub(super) fn named(service: &str) -> NamespacedName {
    NamespacedName::new("default", service)
}

/// A backend with that weight.
pub(super) fn backend(service: &str) -> Backend {
    Backend {
        target: BackendTarget::Service {
            service: named(service),
            port: PORT,
        },
        weight: 1,
        filters: Vec::new(),
    }
}

/// A rule for every request, with that backend.
pub(super) fn rule(service: &str) -> Rule {
    Rule {
        matches: vec![Default::default()],
        backends: vec![backend(service)],
        ..Rule::default()
    }
}

/// A workload of the namespace `default` on the node of the bed.
pub(super) fn workload(name: &str, address: Ipv4Addr) -> Workload {
    Workload {
        addresses: vec![address.into()],
        enrolment: Enrolment::Captured,
        ..Workload::new(WorkloadUid::from(name), identity(name), "node-1")
    }
}

impl TestBed {
    pub(super) fn new() -> Self {
        let settings = Settings {
            connect_timeout: Duration::from_secs(2),
            ..Settings::default()
        };
        let node = Arc::new(Node::new("node-1", settings));
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
        self.apply(Change::Service(Service {
            key: named(name),
            hostname: name.into(),
            kind: ServiceKind::ClusterIp(vec![address.into()]),
            ports: vec![ServicePort {
                name: "".into(),
                port: PORT,
                app_protocol: "http".into(),
            }],
        }));
        for (endpoint, pod) in endpoints {
            self.apply(Change::Endpoint(Endpoint {
                key: EndpointKey {
                    service: named(name),
                    address: endpoint.ip(),
                },
                workload: pod.map(WorkloadUid::from),
                ports: vec![(PORT, endpoint.port())],
                ready: true,
            }));
        }
    }

    /// Attaches an HTTPRoute to a service.
    pub(super) fn route(&self, service: &str, rules: Vec<Rule>) {
        self.apply(Change::Route(Route {
            key: RouteKey {
                kind: RouteKind::Http,
                name: named(service),
            },
            created: 0,
            parents: vec![Parent {
                service: named(service),
                port: None,
                section: None,
            }],
            hostnames: Vec::new(),
            rules,
        }));
    }

    /// A connection of the pod's application to a service.
    pub(super) fn connection(&self, service: &str) -> Arc<ClientConnection> {
        let mesh = self.pod.node.store.snapshot();
        let service = Arc::clone(mesh.service(&named(service)).unwrap());
        let connection = OutboundConnection {
            workload: self.pod.workload(&mesh),
            pod: Arc::clone(&self.pod),
            client: (Ipv4Addr::LOCALHOST, 40_000).into(),
            original: OriginalDestination::new((service.addresses()[0], PORT).into()),
            began: Instant::now(),
            mesh,
        };
        Arc::new(ClientConnection::new(connection, service))
    }

    /// The application's end of such a connection.
    pub(super) async fn client(&self, service: &str) -> SendRequest<Full<Bytes>> {
        let connection = self.connection(service);
        let (client, accepted) = tcp_pair().await;
        let handle = move |request| {
            let connection = Arc::clone(&connection);
            async move { Ok(answer(&connection, request).await) }
        };
        let (idle, draining) = (Duration::from_secs(60), CancellationToken::new());
        tokio::spawn(async move {
            // What it ends with is for the client to see.
            let _ = serve_http1(accepted, idle, draining, handle).await;
        });
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(client));
        let (sender, driver) = handshake.await.unwrap();
        tokio::spawn(driver.with_upgrades());
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

/// A response without a body.
pub(super) fn status(code: u16) -> Response<&'static str> {
    Response::builder().status(code).body("").unwrap()
}

/// An address that no other server of these tests has.
pub(super) async fn listen() -> TcpListener {
    static NEXT: AtomicU8 = AtomicU8::new(2);
    let host = NEXT.fetch_add(1, Ordering::Relaxed);
    let listener = TcpListener::bind((Ipv4Addr::new(127, 3, 0, host), 0)).await;
    listener.unwrap()
}

/// A web server.
pub(super) struct TestServer {
    pub(super) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request<Bytes>>>>,
    connections: Arc<AtomicUsize>,
}

impl TestServer {
    /// Responds to each request, which it gets together with its number, the first being 0.
    pub(super) async fn start(
        respond: impl Fn(usize, &Request<Bytes>) -> Response<&'static str> + Send + Sync + 'static,
    ) -> Self {
        let (requests, connections) = (Arc::<Mutex<Vec<_>>>::default(), Arc::default());
        let (seen, accepted) = (Arc::clone(&requests), Arc::clone(&connections));
        let respond = Arc::new(respond);
        let address = serve(move |stream| {
            AtomicUsize::fetch_add(&accepted, 1, Ordering::Relaxed);
            let (seen, respond) = (Arc::clone(&seen), Arc::clone(&respond));
            let service = service_fn(move |request: Request<Incoming>| {
                let (seen, respond) = (Arc::clone(&seen), Arc::clone(&respond));
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let request = Request::from_parts(head, body);
                    let number = seen.lock().unwrap().len();
                    let response = respond(number, &request);
                    seen.lock().unwrap().push(request);
                    let full = |text: &'static str| Full::new(Bytes::from_static(text.as_bytes()));
                    Ok::<_, Infallible>(response.map(full))
                }
            });
            async move {
                let http = hyper::server::conn::http1::Builder::new();
                // Its end is the client's business.
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            }
        });
        Self {
            address: address.await,
            requests,
            connections,
        }
    }

    /// Requests that arrived so far.
    pub(super) fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    /// The last one of them.
    pub(super) fn last(&self) -> Request<Bytes> {
        self.requests.lock().unwrap().last().unwrap().clone()
    }

    /// Connections that it accepted so far.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A server that does this with each connection.
pub(super) async fn serve<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = listen().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}
