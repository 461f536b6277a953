//! Requests: routes, filters, shares, retries, timeouts, copies, sessions and other
//! protocols, with real connections and real TLS.

mod client_ends;
mod expectations;
mod paths;
mod raw_server;
mod resets;
mod responses;
mod smuggling;
mod stream_resets;
mod uploads;
mod versions;
mod wire;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weft_model::Change;
use weft_model::route::filter::{HeaderModifier, Mirror, PathModifier, Rewrite};
use weft_model::route::matching::{PathMatch, RequestMatch};
use weft_model::route::{
    Backend, BackendTarget, Filter, Retry, RouteKind, Rule, SessionCarrier, SessionPersistence,
    Timeouts,
};
use weft_model::service::EndpointKey;
use weft_testing::fixtures::{self, backend, below, named, rule};
use weft_testing::tcp::{echo, exchange};
use weft_testing::wait::{DEADLINE, wait_until};
use weft_testing::web::{WebServer, status, text};

use super::bed::{Bed, Pod};

/// A web server in a pod.
pub(super) async fn web<B: Into<Bytes> + 'static>(
    pod: &Pod,
    respond: impl Fn(usize, &Request<Bytes>) -> Response<B> + Send + Sync + 'static,
) -> WebServer {
    let listener = TcpListener::bind(pod.at(0)).await.unwrap();
    WebServer::start(listener, respond)
}

/// A service of one web server in a pod.
fn service(bed: &Bed, name: &str, web: &WebServer, pod: &Pod) -> SocketAddr {
    bed.service(name, web.address.port(), &[(web.address.ip(), Some(pod))])
}

/// Attaches rules to a service.
fn route(bed: &Bed, kind: RouteKind, service: &str, rules: Vec<Rule>) {
    bed.tell(&Change::Route(fixtures::route(kind, service, rules)));
}

/// A client's connection of HTTP/1.
pub(super) struct Client(http1::SendRequest<Full<Bytes>>);

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Client {
    pub(super) async fn connect(pod: &Pod, to: SocketAddr) -> Self {
        let stream = pod.connect(to).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Self(sender)
    }

    pub(super) async fn ask(&mut self, request: Request<Full<Bytes>>) -> Answer {
        self.0.ready().await.unwrap();
        let response = tokio::time::timeout(DEADLINE, self.0.send_request(request));
        read(response.await.expect("no answer in time").unwrap()).await
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.ask(get(path)).await
    }
}

pub(super) fn get(path: &str) -> Request<Full<Bytes>> {
    let request = Request::get(path).header("host", "web");
    request.body(Full::default()).unwrap()
}

async fn read(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

/// Two versions of a web server on other nodes than their client, behind one service.
async fn canary(bed: &mut Bed) -> (Pod, Pod, Pod, SocketAddr) {
    let client = bed.pod("node-1", "client");
    let (one, two) = (bed.pod("node-2", "one"), bed.pod("node-1", "two"));
    let (web_one, web_two) = (web(&one, text("one")).await, web(&two, text("two")).await);
    let address = service(bed, "web", &web_one, &one);
    service(bed, "v1", &web_one, &one);
    service(bed, "v2", &web_two, &two);
    (client, one, two, address)
}

#[tokio::test]
async fn shares_are_exact_whether_the_backend_is_near_or_far() {
    let mut bed = Bed::new();
    let (client, _one, _two, address) = canary(&mut bed).await;
    let backends = vec![backend("v1", 80), backend("v2", 20)];
    route(&bed, RouteKind::Http, "web", vec![rule(backends)]);
    let mut connection = Client::connect(&client, address).await;
    let mut tally = BTreeMap::<String, usize>::new();
    for _ in 0..1000 {
        let answer = connection.get("/").await;
        assert_eq!(answer.status, 200);
        *tally.entry(answer.body).or_default() += 1;
    }
    assert!((790..=810).contains(&tally["one"]), "{tally:?}");
    assert_eq!(tally["one"] + tally["two"], 1000);
    let text = super::metrics(&mut bed, "node-1");
    let counted = text.lines().find(|line| {
        line.starts_with("istio_requests_total")
            && line.contains("destination_workload=\"one\"")
            && line.contains("response_code=\"200\"")
            && line.contains("connection_security_policy=\"mutual_tls\"")
    });
    let counted = counted.unwrap_or_else(|| panic!("{text}"));
    assert!(
        counted.ends_with(&format!(" {}", tally["one"])),
        "{counted}"
    );
}

#[tokio::test]
async fn connections_are_used_again_and_never_by_another_pod() {
    let mut bed = Bed::new();
    let (client, other) = (bed.pod("node-1", "client"), bed.pod("node-1", "other"));
    let server = bed.pod("node-2", "server");
    let web = web(&server, text("server")).await;
    let address = service(&bed, "web", &web, &server);
    route(
        &bed,
        RouteKind::Http,
        "web",
        vec![rule(vec![backend("web", 1)])],
    );
    for pod in [&client, &other] {
        for _ in 0..5 {
            let mut connection = Client::connect(pod, address).await;
            assert_eq!(connection.get("/").await.body, "server");
            assert_eq!(connection.get("/").await.body, "server");
        }
    }
    assert_eq!(web.count(), 20);
    assert_eq!(web.connections(), 2, "one for each pod");
}

#[tokio::test]
async fn rules_change_requests_and_what_no_rule_is_for_is_not_found() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let web = web(&server, text("server")).await;
    let address = service(&bed, "web", &web, &server);
    let set = |name: &'static str, value: &'static str| HeaderModifier {
        set: vec![(name.parse().unwrap(), value.parse().unwrap())],
        ..Default::default()
    };
    let mut changing = below("/api", rule(vec![backend("web", 1)]));
    changing.filters = vec![
        Filter::RequestHeaders(set("x-version", "2")),
        Filter::Rewrite(Rewrite {
            hostname: Some("inner.example".parse().unwrap()),
            path: Some(PathModifier::Prefix("/v2".into())),
        }),
        Filter::ResponseHeaders(set("x-answered", "yes")),
    ];
    let missing = below(
        "/missing",
        rule(vec![Backend {
            target: BackendTarget::Invalid {
                reason: "no such service".into(),
            },
            weight: 1,
            filters: Vec::new(),
        }]),
    );
    route(&bed, RouteKind::Http, "web", vec![changing, missing]);
    let mut connection = Client::connect(&client, address).await;
    let answer = connection.get("/api/items?page=2").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "server"));
    assert_eq!(answer.headers["x-answered"], "yes");
    let seen = web.last();
    assert_eq!(seen.uri(), "/v2/items?page=2");
    assert_eq!(seen.headers()["host"], "inner.example");
    assert_eq!(seen.headers()["x-version"], "2");
    // The same connection of the client, other rules.
    let answer = connection.get("/apis").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.headers["x-weft-reason"], "NO_ROUTE");
    assert_eq!(connection.get("/missing").await.status, 500);
    assert_eq!(web.count(), 1);
}

#[tokio::test]
async fn a_changed_route_takes_effect_on_open_connections() {
    let mut bed = Bed::new();
    let (client, _one, _two, address) = canary(&mut bed).await;
    route(
        &bed,
        RouteKind::Http,
        "web",
        vec![rule(vec![backend("v1", 1)])],
    );
    let mut connection = Client::connect(&client, address).await;
    assert_eq!(connection.get("/").await.body, "one");
    route(
        &bed,
        RouteKind::Http,
        "web",
        vec![rule(vec![backend("v2", 1)])],
    );
    assert_eq!(connection.get("/").await.body, "two");
}

#[tokio::test]
async fn http2_stays_http2_and_grpc_is_refused_in_its_own_words() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let web = web(&server, text("server")).await;
    let address = service(&bed, "web", &web, &server);
    let path = PathMatch::Grpc {
        service: Some("shop.Basket".into()),
        method: None,
    };
    let mut basket = rule(vec![backend("web", 1)]);
    basket.matches = vec![RequestMatch {
        path,
        ..Default::default()
    }];
    route(&bed, RouteKind::Grpc, "web", vec![basket]);
    let stream = client.connect(address).await.unwrap();
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut ask = async |path: &str| {
        let request = Request::post(format!("http://web{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from_static(b"hello")))
            .unwrap();
        read(sender.send_request(request).await.unwrap()).await
    };
    let answer = ask("/shop.Basket/Add").await;
    assert_eq!(answer.body, "server");
    let seen = web.last();
    assert_eq!(
        (seen.version(), &seen.body()[..]),
        (Version::HTTP_2, &b"hello"[..])
    );
    assert_eq!(seen.headers()["te"], "trailers");
    let answer = ask("/shop.Till/Pay").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(answer.headers["grpc-status"], "12");
}

/// A body that begins and never ends.
struct Endless(bool);

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match std::mem::replace(&mut self.0, true) {
            false => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"begin"))))),
            true => Poll::Pending,
        }
    }
}

#[tokio::test]
async fn an_answer_comes_before_the_end_of_a_body_that_nobody_reads() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let silent = super::application(&server, async |mut stream: TcpStream| {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let endpoints = [(silent.ip(), Some(&server))];
    let address = bed.service("web", silent.port(), &endpoints);
    let mut timed = below("/timed", rule(vec![backend("web", 1)]));
    timed.timeouts.request = Some(Duration::from_millis(50));
    let nobody = below("/nobody", rule(vec![backend("nobody", 1)]));
    route(&bed, RouteKind::Http, "web", vec![timed, nobody]);
    let stream = client.connect(address).await.unwrap();
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    for (path, status) in [("/none", 404), ("/timed", 504), ("/nobody", 503)] {
        for _ in 0..20 {
            let request = Request::post(format!("http://web{path}"));
            let request = request.body(Endless(false)).unwrap();
            let response = tokio::time::timeout(DEADLINE, sender.send_request(request));
            let response = response.await.expect("no answer in time");
            assert_eq!(response.unwrap().status(), status, "{path}");
        }
    }
}

#[tokio::test]
async fn a_client_that_still_sends_is_not_reset_for_an_early_answer() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let web = web(&server, text("server")).await;
    let address = service(&bed, "web", &web, &server);
    let only = below("/only", rule(vec![backend("web", 1)]));
    route(&bed, RouteKind::Http, "web", vec![only]);
    let stream = client.connect(address).await.unwrap();
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://web/none").body(()).unwrap();
    let (response, mut send) = requests
        .ready()
        .await
        .unwrap()
        .send_request(request, false)
        .unwrap();
    send.send_data(Bytes::from_static(b"begin"), false).unwrap();
    let response = tokio::time::timeout(DEADLINE, response);
    let response = response.await.expect("no answer in time").unwrap();
    assert_eq!(response.status(), 404);
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        data.unwrap();
    }
    let reset = std::future::poll_fn(|context| send.poll_reset(context));
    let reset = tokio::time::timeout(Duration::from_millis(200), reset).await;
    assert!(reset.is_err(), "{reset:?}");
    send.send_data(Bytes::from_static(b"end"), true).unwrap();
}

#[tokio::test]
async fn failed_requests_are_tried_again_with_their_body() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let web = web(&server, |number, _| match number {
        0 | 1 => status(503),
        _ => Response::new("at last"),
    })
    .await;
    let address = service(&bed, "web", &web, &server);
    let mut retried = rule(vec![backend("web", 1)]);
    retried.retry = Some(Retry {
        codes: vec![StatusCode::SERVICE_UNAVAILABLE],
        attempts: 2,
        backoff: Duration::from_millis(1),
    });
    let once = below("/once", rule(vec![backend("web", 1)]));
    route(&bed, RouteKind::Http, "web", vec![retried, once]);
    let post = |path: &str, body: Bytes| {
        let request = Request::post(path).header("host", "web");
        request.body(Full::new(body)).unwrap()
    };
    let mut connection = Client::connect(&client, address).await;
    let answer = connection
        .ask(post("/", Bytes::from_static(b"keep me")))
        .await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "at last"));
    assert_eq!(web.count(), 3);
    let all = web.requests();
    assert!(all.iter().all(|seen| seen.body() == "keep me"), "{all:?}");
    // What is more than is kept goes once.
    web.forget_requests();
    let large = Bytes::from(vec![b'x'; 200 * 1024]);
    let answer = connection.ask(post("/", large.clone())).await;
    assert_eq!((answer.status, web.count()), (503, 1));
    assert_eq!(web.last().body(), &large);
    web.forget_requests();
    let answer = connection.ask(post("/once", Bytes::new())).await;
    assert_eq!(
        (answer.status, web.count()),
        (503, 1),
        "nobody asked for retries"
    );
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_for() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let address = super::application(&server, async |mut stream: TcpStream| {
        // Never answers.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let endpoints = [(address.ip(), Some(&server))];
    let address = bed.service("web", address.port(), &endpoints);
    let timeouts = |request: Option<u64>, backend: Option<u64>| Timeouts {
        request: request.map(Duration::from_millis),
        backend_request: backend.map(Duration::from_millis),
    };
    let mut whole = below("/whole", rule(vec![backend("web", 1)]));
    whole.timeouts = timeouts(Some(50), None);
    let mut attempt = below("/attempt", rule(vec![backend("web", 1)]));
    attempt.timeouts = timeouts(None, Some(50));
    route(&bed, RouteKind::Http, "web", vec![whole, attempt]);
    for path in ["/whole", "/attempt"] {
        let mut connection = Client::connect(&client, address).await;
        let answer = connection.get(path).await;
        assert_eq!(answer.status, 504, "{path}");
        assert_eq!(answer.headers["x-weft-reason"], "TIMEOUT");
    }
}

#[tokio::test]
async fn copies_get_the_same_body_and_never_the_word() {
    let mut bed = Bed::new();
    let (client, server, shadow) = (
        bed.pod("node-1", "client"),
        bed.pod("node-2", "server"),
        bed.pod("node-2", "shadow"),
    );
    let web_server = web(&server, text("server")).await;
    let web_shadow = web(&shadow, |_, _| status(500)).await;
    let address = service(&bed, "web", &web_server, &server);
    service(&bed, "shadow", &web_shadow, &shadow);
    let mut mirrored = rule(vec![backend("web", 1)]);
    mirrored.filters = vec![Filter::Mirror(Mirror {
        target: backend("shadow", 1).target,
        numerator: 50,
        denominator: 100,
    })];
    route(&bed, RouteKind::Http, "web", vec![mirrored]);
    let mut connection = Client::connect(&client, address).await;
    let body = Bytes::from(vec![b'y'; 100 * 1024]);
    for _ in 0..40 {
        let request = Request::post("/").header("host", "web");
        let request = request.body(Full::new(body.clone())).unwrap();
        assert_eq!(connection.ask(request).await.body, "server");
    }
    // Half of them; wherever the rule's sequence begins, at most two more or fewer.
    wait_until("the copies", || web_shadow.count() >= 18).await;
    assert!(web_shadow.count() <= 22, "{}", web_shadow.count());
    let copies = web_shadow.requests();
    assert!(copies.iter().all(|seen| *seen.body() == body));
}

#[tokio::test]
async fn a_session_stays_with_its_endpoint() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let (one, two) = (bed.pod("node-2", "one"), bed.pod("node-2", "two"));
    let (web_one, web_two) = (web(&one, text("one")).await, web(&two, text("two")).await);
    let address = service(&bed, "web", &web_one, &one);
    service(&bed, "v1", &web_one, &one);
    service(&bed, "v2", &web_two, &two);
    let mut sticky = rule(vec![backend("v1", 1), backend("v2", 1)]);
    sticky.session = Some(SessionPersistence {
        name: "basket".into(),
        carrier: SessionCarrier::Cookie { lifetime: None },
    });
    route(&bed, RouteKind::Http, "web", vec![sticky]);
    let mut connection = Client::connect(&client, address).await;
    let first = connection.get("/").await;
    let cookie = first.headers["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    for _ in 0..20 {
        let request = Request::get("/")
            .header("host", "web")
            .header("cookie", &cookie);
        let answer = connection.ask(request.body(Full::default()).unwrap()).await;
        assert_eq!(answer.body, first.body);
        assert!(!answer.headers.contains_key("set-cookie"), "it knows");
    }
    let mut others = Vec::new();
    for _ in 0..10 {
        others.push(connection.get("/").await.body);
    }
    assert!(
        others.iter().any(|other| *other != first.body),
        "{others:?}"
    );
}

#[tokio::test]
async fn a_connection_may_change_its_protocol() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let address = super::application(&server, async |mut stream: TcpStream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.contains("upgrade: echo"), "{head}");
        assert!(head.contains("connection: upgrade"), "{head}");
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello";
        stream.write_all(switch).await.unwrap();
        echo(stream).await;
    })
    .await;
    let endpoints = [(address.ip(), Some(&server))];
    let address = bed.service("web", address.port(), &endpoints);
    route(
        &bed,
        RouteKind::Http,
        "web",
        vec![rule(vec![backend("web", 1)])],
    );
    let mut connection = Client::connect(&client, address).await;
    let request = Request::get("/").header("host", "web");
    let request = request
        .header("connection", "Upgrade")
        .header("upgrade", "echo");
    let request = request.body(Full::default()).unwrap();
    let response = connection.0.send_request(request).await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["upgrade"], "echo");
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut read = [0; 10];
    stream.read_exact(&mut read[..5]).await.unwrap();
    stream.write_all(b"there").await.unwrap();
    let rest = tokio::time::timeout(DEADLINE, stream.read_exact(&mut read[5..]));
    rest.await.unwrap().unwrap();
    assert_eq!(&read, b"hellothere");
}

/// Reads the head of a message, byte by byte.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(DEADLINE, stream.read_u8()).await;
        head.push(byte.expect("no head in time").unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A service whose application sees bytes and grants every change of protocol, asked by
/// `request`; its answer's head, and the connection, which lives as long as the rest.
async fn change_protocol(request: &str) -> (String, TcpStream, [Pod; 2], Bed) {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let address = super::application(&server, async |mut stream: TcpStream| {
        let head = read_head(&mut stream).await;
        let fields = head.to_ascii_lowercase();
        let mut body = vec![
            0;
            if fields.contains("content-length: 4") {
                4
            } else {
                0
            }
        ];
        stream.read_exact(&mut body).await.unwrap();
        let body = String::from_utf8(body).unwrap();
        let answer = if head.starts_with("CONNECT other:80 HTTP/1.1\r\n") {
            "HTTP/1.1 200 OK\r\n\r\n".to_owned()
        } else if let Some((_, protocol)) = fields.split_once("upgrade: ") {
            let protocol = protocol.lines().next().unwrap();
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                 upgrade: {protocol}\r\nx-body: {body}\r\n\r\n"
            )
        } else {
            format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-body: {body}\r\n\r\n")
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
        echo(stream).await;
    })
    .await;
    let endpoints = [(address.ip(), Some(&server))];
    let address = bed.service("web", address.port(), &endpoints);
    let rules = vec![rule(vec![backend("web", 1)])];
    route(&bed, RouteKind::Http, "web", rules);
    let mut stream = client.connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    (head, stream, [client, server], bed)
}

#[tokio::test]
async fn connect_leads_to_the_other_end() {
    let request = "CONNECT other:80 HTTP/1.1\r\nHost: other:80\r\n\r\n";
    let (head, mut stream, _pods, _bed) = change_protocol(request).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(exchange(&mut stream, "PRI * x").await, "PRI * x");
}

#[tokio::test]
async fn the_body_of_a_request_for_another_protocol_arrives() {
    let request = "POST /attach HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\n\
                   Upgrade: tcp\r\nContent-Length: 4\r\n\r\n{\"\"}";
    let (head, mut stream, _pods, _bed) = change_protocol(request).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.contains("x-body: {\"\"}"), "{head}");
    assert_eq!(exchange(&mut stream, "ls -l").await, "ls -l");
}

#[tokio::test]
async fn an_upgrade_to_http2_is_not_passed_on() {
    let request = "POST / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                   Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\
                   Content-Length: 4\r\n\r\nbody";
    let (head, _stream, _pods, _bed) = change_protocol(request).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("x-body: body"), "{head}");
}

#[tokio::test]
async fn connections_end_with_their_endpoint() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let (near, far) = (bed.pod("node-1", "near"), bed.pod("node-2", "far"));
    let (web_near, web_far) = (web(&near, text("near")).await, web(&far, text("far")).await);
    let address = service(&bed, "web", &web_near, &near);
    service(&bed, "v1", &web_near, &near);
    service(&bed, "v2", &web_far, &far);
    let backends = vec![backend("v1", 1), backend("v2", 1)];
    route(&bed, RouteKind::Http, "web", vec![rule(backends)]);
    let mut connection = Client::connect(&client, address).await;
    for _ in 0..4 {
        assert_eq!(connection.get("/").await.status, 200);
    }
    assert_eq!(near.proxy.open_connections(), 1);
    assert_eq!(far.proxy.open_connections(), 1);
    for (name, web) in [("v1", &web_near), ("v2", &web_far), ("web", &web_near)] {
        bed.tell(&Change::EndpointRemoved(EndpointKey {
            service: named(name),
            address: web.address.ip(),
        }));
    }
    wait_until("idle connections to end", || {
        near.proxy.open_connections() + far.proxy.open_connections() == 0
    })
    .await;
    let answer = connection.get("/").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers["x-weft-reason"], "NO_ENDPOINT");
}
