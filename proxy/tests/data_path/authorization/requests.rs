//! Requests, each of which is decided: to a Service and to a pod's own address, on the same node
//! and on another, of every version of HTTP and what it changes to.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use weft_testing::web::{WebServer, text};

use super::*;
use crate::http::{Client, get, web};

/// A client on `node-1`, a web server on `node`, and both of its addresses: the pod's own and its
/// Service's. The port is declared as HTTP.
pub(super) struct Served {
    pub(super) client: Pod,
    pub(super) server: Pod,
    pub(super) web: WebServer,
    pub(super) addresses: [SocketAddr; 2],
}

pub(super) async fn served(bed: &mut Bed, node: &'static str) -> Served {
    served_as(bed, node, "http").await
}

async fn served_as(bed: &mut Bed, node: &'static str, app_protocol: &str) -> Served {
    bed.node(node);
    let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
    let web = web(&server, text("hello")).await;
    let endpoints = [(web.address.ip(), Some(&server))];
    let port = web.address.port();
    let service = bed.service_that_declares(app_protocol, "web", port, &endpoints);
    Served {
        client,
        server,
        addresses: [web.address, service],
        web,
    }
}

/// What a node has recorded of requests that policies denied.
async fn denied(bed: &Bed, node: &str, reporter: &str, more: &[&str]) {
    let reporter = format!("reporter=\"{reporter}\"");
    let mut parts = vec![
        "istio_requests_total{",
        &reporter,
        "response_flags=\"AUTHORIZATION_DENIED\"",
    ];
    parts.extend(more);
    bed.counts(node, &parts).await;
}

#[tokio::test]
async fn each_request_of_a_connection_is_decided_for_itself() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let served = served(&mut bed, node).await;
        let allowed = policy("allow-get", Action::Allow, vec![to_methods(&["GET"])]);
        let admin = policy("deny-admin", Action::Deny, vec![to_paths(&["/admin/*"])]);
        bed.authorize(&served.server, vec![allowed, admin]);
        for to in served.addresses {
            let mut connection = Client::connect(&served.client, to).await;
            for _ in 0..2 {
                let before = served.web.count();
                assert_eq!(connection.get("/").await.status, 200, "{node} {to}");
                let refused = connection.get("/admin/users").await;
                assert_eq!(refused.status, 403, "{node} {to}");
                let reason = &refused.headers["x-weft-reason"];
                assert_eq!(reason, "AUTHORIZATION_DENIED", "{node} {to}");
                assert!(!refused.body.contains("deny-admin"), "{}", refused.body);
                let post = Request::post("/").header("host", "web");
                let post = post.body(Full::from("a body")).unwrap();
                assert_eq!(connection.ask(post).await.status, 403, "{node} {to}");
                assert_eq!(served.web.count(), before + 1, "{node} {to}");
            }
        }
        denied(&bed, node, "destination", &["response_code=\"403\"", "} 8"]).await;
    }
}

#[tokio::test]
async fn without_a_rule_that_allows_nothing_gets_in_and_clients_of_http_are_told_so() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let served = served(&mut bed, node).await;
        bed.authorize(
            &served.server,
            vec![policy("allow-nothing", Action::Allow, vec![])],
        );
        let [pod, service] = served.addresses;
        let mut connection = Client::connect(&served.client, service).await;
        let refused = connection.get("/").await;
        assert_eq!(refused.status, 403, "{node}");
        assert_eq!(refused.headers["x-weft-reason"], "AUTHORIZATION_DENIED");
        // Nobody on this side speaks HTTP.
        assert!(!is_let_in(&served.client, pod).await, "{node}");
        assert_eq!(served.web.connections(), 0, "{node}");
    }
}

#[tokio::test]
async fn the_newest_policies_decide_about_requests_on_open_connections() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let served = served(&mut bed, node).await;
        for to in served.addresses {
            bed.authorize(&served.server, vec![]);
            let mut connection = Client::connect(&served.client, to).await;
            assert_eq!(connection.get("/a").await.status, 200, "{node} {to}");
            let deny = policy("deny", Action::Deny, vec![to_paths(&["/a"])]);
            bed.authorize(&served.server, vec![deny]);
            assert_eq!(connection.get("/a").await.status, 403, "{node} {to}");
            assert_eq!(connection.get("/b").await.status, 200, "{node} {to}");
            bed.authorize(&served.server, vec![]);
            assert_eq!(connection.get("/a").await.status, 200, "{node} {to}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_carries_requests_is_cut_when_none_of_them_could_pass() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let served = served(&mut bed, node).await;
        let [pod, service] = served.addresses;
        let mut to_service = Client::connect(&served.client, service).await;
        assert_eq!(to_service.get("/").await.status, 200);
        let mut to_pod = served.client.connect(pod).await.unwrap();
        to_pod
            .write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
            .await
            .unwrap();
        in_time(to_pod.read_exact(&mut [0; 12])).await.unwrap();
        let deny = policy("deny", Action::Deny, vec![from_account("client")]);
        bed.authorize(&served.server, vec![deny]);
        let mut rest = Vec::new();
        let _ = in_time(to_pod.read_to_end(&mut rest)).await;
        // The client's own proxy keeps its side, and tells why.
        assert_eq!(to_service.get("/").await.status, 403, "{node}");
        let cut = ["weft_http_connections_closed_total{", "POLICY_CHANGED"];
        bed.counts(node, &cut).await;
    }
}

/// A client's connection of HTTP/2.
pub(super) async fn connect_http2(client: &Pod, to: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = client.connect(to).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn streams_of_http2_are_decided_one_by_one() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let served = served(&mut bed, node).await;
        let deny = policy("deny-admin", Action::Deny, vec![to_paths(&["/admin/*"])]);
        bed.authorize(&served.server, vec![deny]);
        for to in served.addresses {
            let mut sender = connect_http2(&served.client, to).await;
            for (path, status) in [
                ("/", 200),
                ("/admin/x", 403),
                ("/%61dmin/x", 403),
                ("/", 200),
            ] {
                let request = Request::get(format!("http://web{path}"));
                let request = request.body(Full::default()).unwrap();
                let response = in_time(sender.send_request(request)).await.unwrap();
                assert_eq!(response.status(), status, "{node} {to} {path}");
                response.into_body().collect().await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn the_host_of_http2_is_the_one_that_counts() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let served = served(&mut bed, node).await;
        let admin = to_operation(OperationMatch {
            hosts: Values::any_of(["admin.example".parse().unwrap()]),
            ..OperationMatch::default()
        });
        bed.authorize(
            &served.server,
            vec![policy("deny", Action::Deny, vec![admin])],
        );
        for to in served.addresses {
            let mut sender = connect_http2(&served.client, to).await;
            for (authority, host, status) in [
                ("web", None, 200),
                ("admin.example", None, 403),
                ("ADMIN.example:80", None, 403),
                ("admin.example.", None, 403),
                ("user@admin.example", None, 403),
                ("admin.example", Some("web"), 403),
                // The application sees no other host than policies did.
                ("web", Some("admin.example"), 200),
            ] {
                let mut request = Request::get(format!("http://{authority}/"));
                if let Some(host) = host {
                    request = request.header("host", host);
                }
                let request = request.body(Full::default()).unwrap();
                let response = in_time(sender.send_request(request)).await.unwrap();
                assert_eq!(
                    response.status(),
                    status,
                    "{node} {to} {authority} {host:?}"
                );
                response.into_body().collect().await.unwrap();
            }
            let last = served.web.last();
            let hosts: Vec<_> = last.headers().get_all("host").iter().collect();
            assert!(hosts.iter().all(|host| *host == "web"), "{hosts:?}");
        }
    }
}

#[tokio::test]
async fn a_call_of_grpc_is_denied_in_its_own_form() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        bed.node(node);
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let web = web(&server, |_, _| {
            let response = Response::builder().header("grpc-status", "0");
            response.body("").unwrap()
        })
        .await;
        let endpoints = [(web.address.ip(), Some(&server))];
        let port = web.address.port();
        let service = bed.service_that_declares("grpc", "web", port, &endpoints);
        let deny = policy("deny", Action::Deny, vec![to_paths(&["/shop.Cart/Drop"])]);
        bed.authorize(&server, vec![deny]);
        for to in [web.address, service] {
            let mut sender = connect_http2(&client, to).await;
            for (method, grpc_status) in [("Add", "0"), ("Drop", "7"), ("Add", "0")] {
                let request = Request::post(format!("http://web/shop.Cart/{method}"))
                    .header("content-type", "application/grpc")
                    .header("te", "trailers");
                let request = request.body(Full::from("\0\0\0\0\0")).unwrap();
                let response = in_time(sender.send_request(request)).await.unwrap();
                assert_eq!(response.status(), 200);
                let status = &response.headers()["grpc-status"];
                assert_eq!(status, grpc_status, "{node} {to} {method}");
                response.into_body().collect().await.unwrap();
            }
        }
        let recorded = ["grpc_response_status=\"7\"", "request_protocol=\"grpc\""];
        denied(&bed, node, "destination", &recorded).await;
    }
}

/// Changes to an echo, whatever the request is.
pub(super) async fn switches(mut stream: TcpStream) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        if head.contains("upgrade: websocket") {
            let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                           Upgrade: websocket\r\n\r\n";
            let _ = stream.write_all(answer).await;
            return echo(stream).await;
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        let _ = stream.write_all(answer).await;
    }
}

/// The status of the response to an upgrade, whose connection goes on.
async fn upgrade(stream: &mut TcpStream, path: &str) -> String {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(in_time(stream.read_u8()).await.unwrap());
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or_default()];
    in_time(stream.read_exact(&mut body)).await.unwrap();
    head.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_upgrade_is_decided_as_a_request_and_revoked_as_a_connection() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        bed.node(node);
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let to = application(&server, switches).await;
        let endpoints = [(to.ip(), Some(&server))];
        let service = bed.service_that_declares("http", "web", to.port(), &endpoints);
        for to in [to, service] {
            let deny = policy("deny", Action::Deny, vec![to_paths(&["/denied"])]);
            bed.authorize(&server, vec![deny]);
            let mut stream = client.connect(to).await.unwrap();
            assert_eq!(upgrade(&mut stream, "/denied").await, "403", "{node} {to}");
            // The same connection may still ask for something else.
            assert_eq!(upgrade(&mut stream, "/allowed").await, "101", "{node} {to}");
            assert_eq!(exchange(&mut stream, "before").await, "before");
            let deny = policy("deny", Action::Deny, vec![to_paths(&["/denied", "/other"])]);
            bed.authorize(&server, vec![deny]);
            assert_eq!(exchange(&mut stream, "still").await, "still");
            let deny = policy("deny", Action::Deny, vec![to_paths(&["/allowed"])]);
            bed.authorize(&server, vec![deny]);
            ends(stream).await;
        }
        let revoked = ["istio_requests_total{", "\"destination\"", "POLICY_CHANGED"];
        bed.counts(node, &revoked).await;
    }
}

#[tokio::test]
async fn requests_in_plaintext_are_decided_by_what_needs_no_identity() {
    let mut bed = Bed::new();
    let served = served(&mut bed, "node-2").await;
    let port = served.web.address.port();
    *served.server.sockets.steered_for.lock().unwrap() = Some(port);
    let mut known = to_paths(&["/known"]);
    known.from = from_account("client").from;
    let policies = vec![policy(
        "allow",
        Action::Allow,
        vec![to_paths(&["/open"]), known],
    )];
    bed.authorize(&served.server, policies);
    let stream = TcpStream::connect(served.server.at(INBOUND_PLAINTEXT_PORT)).await;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream.unwrap())).await;
    let (mut sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    for (path, status) in [
        ("/open", 200),
        ("/known", 403),
        ("/other", 403),
        ("/open", 200),
    ] {
        sender.ready().await.unwrap();
        let response = in_time(sender.send_request(get(path))).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        response.into_body().collect().await.unwrap();
    }
    let mut of_mesh = Client::connect(&served.client, served.web.address).await;
    assert_eq!(of_mesh.get("/known").await.status, 200);
}

#[tokio::test]
async fn requests_are_audited_and_tried_without_being_denied() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let served = served(&mut bed, node).await;
        let audited = policy("audit", Action::Audit, vec![to_paths(&["/*"])]);
        let tried = AuthorizationPolicy {
            is_dry_run: true,
            ..policy("try", Action::Deny, vec![to_methods(&["GET"])])
        };
        bed.authorize(&served.server, vec![audited, tried]);
        for to in served.addresses {
            let mut connection = Client::connect(&served.client, to).await;
            assert_eq!(connection.get("/").await.status, 200, "{node} {to}");
        }
    }
}
