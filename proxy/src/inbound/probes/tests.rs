use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use weft_model::authorization::{PlaintextDenied, PlaintextGrant, PlaintextOrigin};
use weft_model::authorization_policy::{AuthorizationMembership, DefaultAuthorization};
use weft_model::mesh::Change;
use weft_model::mtls::MtlsMode;
use weft_model::node_access::{GRPC_HEALTH_CHECK, NodeAccess, Probe, ProbeKind};
use weft_model::workload::Workload;
use weft_testing::fixtures;
use weft_testing::tcp::{self, listen};
use weft_testing::wait::{in_time, wait_until};
use weft_testing::web::{WebServer, text};

use crate::component::Component;
use crate::fixtures::{LoopbackSockets, tcp_pair};
use crate::inbound::application::admit_accepted;
use crate::inbound::arrival::Arrival;
use crate::inbound::authorize::Credentials;
use crate::inbound::deliver::deliver;
use crate::inbound::error::InboundError;
use crate::node::Node;
use crate::pod::Pod;
use crate::settings::Settings;
use crate::stream::Stream;

/// A strict pod with an application, for which it declares probes.
struct Bed {
    pod: Arc<Pod>,
    application: SocketAddr,
}

impl Bed {
    fn new(application: SocketAddr, kinds: &[ProbeKind]) -> Self {
        let node = Arc::new(Node::new(
            "node-1",
            Component::NodeAgent,
            Settings::default(),
        ));
        let bed = Self {
            pod: Arc::new(Pod::new(
                Arc::clone(&node),
                Arc::new(Self::strict(application, kinds)),
                Arc::<LoopbackSockets>::default(),
            )),
            application,
        };
        bed.declare(kinds);
        bed
    }

    fn strict(application: SocketAddr, kinds: &[ProbeKind]) -> Workload {
        let probes = kinds.iter().map(|kind| Probe {
            port: application.port(),
            kind: kind.clone(),
        });
        Workload {
            mtls_mode: MtlsMode::Strict,
            node_access: NodeAccess::Probes(probes.collect()),
            ..fixtures::workload("server", application.ip(), "node-1")
        }
    }

    /// The pod declares these from now on.
    fn declare(&self, kinds: &[ProbeKind]) {
        let workload = Self::strict(self.application, kinds);
        self.pod.node.store.apply([Change::Workload(workload)]);
    }

    /// Policies let nobody in to the pod, whose mode and access of the node are these.
    fn deny_all(&self, mtls_mode: MtlsMode, node_access: NodeAccess) {
        let workload = Workload {
            mtls_mode,
            node_access,
            authorization: Arc::new(AuthorizationMembership {
                default: DefaultAuthorization::Deny,
                ..AuthorizationMembership::default()
            }),
            ..Self::strict(self.application, &[])
        };
        self.pod.node.store.apply([Change::Workload(workload)]);
    }

    /// What becomes of connections that are open, as is done whenever the mesh changes.
    async fn recheck(&self) {
        let mesh = self.pod.node.store.snapshot();
        let connections = self.pod.telemetry.connections();
        connections.recheck(&mesh, &self.pod.workload(&mesh)).await;
    }

    fn arrival(&self, origin: PlaintextOrigin, client: SocketAddr, port: u16) -> Arrival {
        let credentials = Credentials::Plaintext { origin };
        let destination = (self.application.ip(), port).into();
        Arrival::new(&self.pod, credentials, client, destination)
    }

    /// Kubelet's end of a connection to the application.
    async fn kubelet(&self) -> TcpStream {
        let (client, accepted) = tcp_pair().await;
        let peer = accepted.peer_addr().unwrap();
        let arrival = self.arrival(PlaintextOrigin::Kubelet, peer, self.application.port());
        let admitted = admit_accepted(&arrival).await.unwrap();
        let (record, draining) = (arrival.record(), CancellationToken::new());
        let stream = Stream::Tcp(accepted);
        tokio::spawn(deliver(arrival, admitted, stream, record, draining));
        client
    }

    /// Everything that kubelet is answered to these bytes; what there is of it when the
    /// connection breaks.
    async fn ask(&self, bytes: &[u8]) -> String {
        let mut stream = self.kubelet().await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = in_time(stream.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn refusal(&self, origin: PlaintextOrigin, port: u16) -> Option<PlaintextDenied> {
        let client = "127.0.0.1:40000".parse().unwrap();
        match admit_accepted(&self.arrival(origin, client, port)).await {
            Ok(_) => None,
            Err(InboundError::Plaintext(denied)) => Some(denied),
            Err(error) => panic!("{error}"),
        }
    }

    fn metrics(&self) -> String {
        self.pod.node.telemetry.encode().unwrap()
    }
}

fn http(target: &str) -> ProbeKind {
    ProbeKind::Http(target.into())
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n")
}

async fn web() -> WebServer {
    WebServer::start(listen().await, text("healthy"))
}

#[tokio::test]
async fn declared_probes_are_answered_by_the_application() {
    let web = web().await;
    let bed = Bed::new(web.address, &[http("/healthz"), http("/ready?full=1")]);
    for target in ["/healthz", "/ready?full=1"] {
        let answer = bed.ask(get(target).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("healthy"), "{answer}");
        assert_eq!(web.last().uri(), target);
    }
    assert!(!bed.metrics().contains("istio_requests_total{"));
}

#[tokio::test]
async fn what_a_node_sends_that_may_send_anything_is_no_probe() {
    let web = web().await;
    let bed = Bed::new(web.address, &[http("/healthz")]);
    let is_probe = || {
        let client = "127.0.0.1:40000".parse().unwrap();
        let arrival = bed.arrival(PlaintextOrigin::Kubelet, client, web.address.port());
        arrival.info().is_probe
    };
    assert!(is_probe());
    bed.deny_all(MtlsMode::Strict, NodeAccess::All);
    assert!(!is_probe());
}

#[tokio::test]
async fn what_no_probe_declares_never_reaches_the_application() {
    let web = web().await;
    let bed = Bed::new(web.address, &[http("/healthz")]);
    let host = "Host: pod\r\n";
    for request in [
        get("/admin"),
        get("/"),
        get("/healthz/"),
        get("//healthz"),
        get("/healthz?a=b"),
        get("/healthz/../admin"),
        get("/healthz/%2e%2e/admin"),
        get("/%68ealthz"),
        get("/healthz%2f"),
        get("/healthz;a=b"),
        get("http://pod/healthz"),
        format!("POST /healthz HTTP/1.1\r\n{host}Content-Length: 0\r\n\r\n"),
        format!("HEAD /healthz HTTP/1.1\r\n{host}\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{host}Content-Length: 1\r\n\r\na"),
        format!("GET /healthz HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("GET /healthz HTTP/1.1\r\n{host}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        format!("CONNECT pod:80 HTTP/1.1\r\n{host}\r\n"),
    ] {
        let answer = bed.ask(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{request}: {answer}");
        let reason = answer.to_ascii_lowercase();
        assert!(
            reason.contains("x-weft-reason: deny"),
            "{request}: {answer}"
        );
    }
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SELECT 1;\n",
        b"\0\0\0\0",
    ] {
        assert_eq!(bed.ask(bytes).await, "", "{bytes:?}");
    }
    assert_eq!(web.count(), 0);
    let refused = "response_flags=\"DENY\"";
    wait_until("refusals are counted", || bed.metrics().contains(refused)).await;
}

#[tokio::test]
async fn each_request_of_a_connection_is_looked_at_and_the_first_wrong_one_ends_it() {
    let web = web().await;
    let bed = Bed::new(web.address, &[http("/healthz")]);
    let ask = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: pod\r\n\r\n");
    let mut stream = bed.kubelet().await;
    for _ in 0..3 {
        stream.write_all(ask("/healthz").as_bytes()).await.unwrap();
        let mut answer = [0; 1024];
        let read = in_time(stream.read(&mut answer)).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
    }
    // All in one piece: nothing behind the wrong one is answered.
    let requests = ["/healthz", "/admin", "/healthz"].map(ask).concat();
    stream.write_all(requests.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = in_time(stream.read_to_string(&mut answer)).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 403").count(), 1, "{answer}");
    assert_eq!(web.count(), 4);
    assert!(
        web.requests()
            .iter()
            .all(|request| request.uri() == "/healthz")
    );
}

#[tokio::test]
async fn kubelet_follows_where_the_application_sends_it_and_nowhere_else() {
    let web = WebServer::start(listen().await, |_, request: &Request<Bytes>| match request
        .uri()
        .path()
    {
        "/" => Response::builder()
            .status(302)
            .header("location", "/login")
            .body("")
            .unwrap(),
        _ => Response::new("healthy"),
    });
    let bed = Bed::new(web.address, &[http("/")]);
    let ask = async |target: &str| bed.ask(get(target).as_bytes()).await;
    assert!(ask("/login").await.starts_with("HTTP/1.1 403"));
    assert!(ask("/").await.starts_with("HTTP/1.1 302"));
    assert!(ask("/login").await.starts_with("HTTP/1.1 200"));
    assert!(ask("/admin").await.starts_with("HTTP/1.1 403"));
    let posted = b"POST /login HTTP/1.1\r\nHost: pod\r\nContent-Length: 0\r\n\r\n";
    assert!(bed.ask(posted).await.starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn kubelet_follows_to_no_port_without_an_http_probe() {
    let web = WebServer::start(listen().await, |_, request: &Request<Bytes>| {
        let moved = Response::builder().status(302);
        // The request names the place that it is sent to.
        let to = request.uri().query().unwrap_or_default().to_owned();
        moved.header("location", to).body("").unwrap()
    });
    let (pod, port) = (web.address.ip(), web.address.port());
    let undeclared = port ^ 1;
    let probes = [pod, "10.0.0.8".parse().unwrap()].map(|host| {
        let target = format!("/?http://{host}:{undeclared}/healthz");
        http(&target)
    });
    let bed = Bed::new(web.address, &probes);
    for probe in &probes {
        let ProbeKind::Http(target) = probe else {
            panic!("{probe:?}");
        };
        let answer = bed.ask(get(target).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 302"), "{answer}");
        // A redirect opens no port, whichever it leads to.
        let denied = bed.refusal(PlaintextOrigin::Kubelet, undeclared).await;
        assert!(matches!(denied, Some(PlaintextDenied::NotAProbe(_))));
        assert!(
            bed.ask(get("/healthz").as_bytes())
                .await
                .starts_with("HTTP/1.1 403"),
            "nor the same path here"
        );
    }
}

#[tokio::test]
async fn a_tcp_probe_connects_and_says_nothing() {
    let (saw, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let application = tcp::serve(listen().await, move |mut stream| {
        let saw = saw.clone();
        async move {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes).await;
            saw.send(bytes).unwrap();
        }
    });
    let bed = Bed::new(application, &[ProbeKind::Tcp]);
    drop(bed.kubelet().await);
    for bytes in [&b"x"[..], get("/").as_bytes()] {
        assert_eq!(bed.ask(bytes).await, "");
    }
    for _ in 0..3 {
        let bytes = in_time(seen.recv()).await.unwrap();
        assert_eq!(bytes, b"");
    }
}

#[tokio::test]
async fn a_grpc_probe_may_check_the_health_and_nothing_else() {
    let web = web().await;
    let bed = Bed::new(web.address, &[ProbeKind::Grpc]);
    for (target, status) in [(GRPC_HEALTH_CHECK, "-"), ("/shop.Cart/Empty", "7")] {
        let stream = TokioIo::new(bed.kubelet().await);
        let handshake = http2::handshake(TokioExecutor::new(), stream);
        let (mut sender, connection) = in_time(handshake).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://pod{target}"))
            .header("content-type", "application/grpc")
            .body(Full::new(Bytes::from_static(b"\0\0\0\0\0")));
        let sent = sender.send_request(request.unwrap());
        let response = in_time(sent).await.unwrap();
        let found = response.headers().get("grpc-status");
        let found = found.map_or("-", |status| status.to_str().unwrap());
        assert_eq!(found, status, "{target}");
    }
    assert_eq!(web.count(), 1);
    assert_eq!(bed.ask(get("/").as_bytes()).await, "");
}

#[tokio::test]
async fn the_tls_of_an_https_probe_is_the_applications() {
    let application = tcp::serve(listen().await, tcp::echo);
    let bed = Bed::new(application, &[ProbeKind::Https]);
    let hello = b"\x16\x03\x01\x00\x05hello";
    let mut stream = bed.kubelet().await;
    stream.write_all(hello).await.unwrap();
    let mut echoed = [0; 10];
    in_time(stream.read_exact(&mut echoed)).await.unwrap();
    assert_eq!(&echoed, hello);
    assert_eq!(bed.ask(get("/").as_bytes()).await, "");
}

#[tokio::test]
async fn nobody_but_kubelet_and_no_other_port_is_let_in() {
    let web = web().await;
    let bed = Bed::new(web.address, &[http("/healthz")]);
    let port = web.address.port();
    assert_eq!(bed.refusal(PlaintextOrigin::Kubelet, port).await, None);
    let denied = bed.refusal(PlaintextOrigin::Node, port).await;
    assert_eq!(denied, Some(PlaintextDenied::NotKubelet));
    let denied = bed.refusal(PlaintextOrigin::Network, port).await;
    assert_eq!(denied, Some(PlaintextDenied::Network));
    let denied = bed.refusal(PlaintextOrigin::Kubelet, port ^ 1).await;
    assert!(matches!(denied, Some(PlaintextDenied::NotAProbe(_))));
}

#[tokio::test]
async fn a_probe_that_is_declared_no_more_is_cut() {
    let web = web().await;
    let bed = Bed::new(web.address, &[http("/healthz")]);
    let mut stream = bed.kubelet().await;
    let request = b"GET /healthz HTTP/1.1\r\nHost: pod\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let read = in_time(stream.read(&mut [0; 1024])).await.unwrap();
    assert!(read > 0);
    bed.declare(&[]);
    bed.recheck().await;
    let _ = in_time(stream.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn declared_probes_pass_whatever_authorization_policies_say_and_nothing_else_of_the_node() {
    for mtls_mode in [MtlsMode::Strict, MtlsMode::Permissive] {
        let web = web().await;
        let bed = Bed::new(web.address, &[]);
        let port = web.address.port();
        let probe = Probe {
            port,
            kind: http("/healthz"),
        };
        bed.deny_all(mtls_mode, NodeAccess::Probes([probe].into()));
        let answer = bed.ask(get("/healthz").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{mtls_mode}: {answer}");
        let answer = bed.ask(get("/admin").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{mtls_mode}: {answer}");
        assert_eq!(web.count(), 1);
        let client = "127.0.0.1:40000".parse().unwrap();
        for (origin, port) in [
            (PlaintextOrigin::Kubelet, port ^ 1),
            (PlaintextOrigin::Node, port),
            (PlaintextOrigin::Network, port),
        ] {
            let refused = admit_accepted(&bed.arrival(origin, client, port)).await;
            assert!(refused.is_err(), "{mtls_mode} {origin:?} {port}");
        }
    }
}

#[tokio::test]
async fn whoever_may_be_kubelet_probes_a_permissive_pod_whatever_policies_say() {
    let web = web().await;
    let (bed, port) = (Bed::new(web.address, &[]), web.address.port());
    let kind = http("/healthz");
    bed.deny_all(
        MtlsMode::Permissive,
        NodeAccess::Probes([Probe { port, kind }].into()),
    );
    let client = "127.0.0.1:40000".parse().unwrap();
    let arrival = |port| bed.arrival(PlaintextOrigin::NodeAddress, client, port);
    let admitted = admit_accepted(&arrival(port)).await.unwrap();
    assert!(matches!(
        admitted.grant.plaintext,
        PlaintextGrant::Probes(_)
    ));
    assert!(admit_accepted(&arrival(port ^ 1)).await.is_err());
    // It may as well be a client whose requests are told of.
    assert!(!arrival(port).info().is_probe);
}

#[tokio::test]
async fn a_probe_of_a_permissive_pod_goes_on_when_policies_come_and_no_more_than_a_probe() {
    let web = web().await;
    let bed = Bed::new(web.address, &[]);
    let access = || {
        let kind = http("/healthz");
        let port = web.address.port();
        NodeAccess::Probes([Probe { port, kind }].into())
    };
    bed.deny_all(MtlsMode::Permissive, access());
    let request = b"GET /healthz HTTP/1.1\r\nHost: pod\r\n\r\n";
    let mut stream = bed.kubelet().await;
    for _ in 0..2 {
        stream.write_all(request).await.unwrap();
        let read = in_time(stream.read(&mut [0; 1024])).await.unwrap();
        assert!(read > 0);
        bed.recheck().await;
    }
    bed.deny_all(MtlsMode::Permissive, NodeAccess::default());
    bed.recheck().await;
    let _ = in_time(stream.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn kubelet_passes_policies_where_all_of_the_node_was_let_in_and_other_processes_do_not() {
    let web = web().await;
    let bed = Bed::new(web.address, &[]);
    bed.deny_all(MtlsMode::Strict, NodeAccess::All);
    let answer = bed.ask(get("/anything").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let client = "127.0.0.1:40000".parse().unwrap();
    let arrival = bed.arrival(PlaintextOrigin::Node, client, web.address.port());
    let refused = admit_accepted(&arrival).await;
    assert!(matches!(refused, Err(InboundError::Authorization(_))));
}
