//! Rate limits where requests arrive: whoever goes around the proxy that counts for clients comes by
//! the one that counts for the server.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_model::Change;
use weft_model::node_access::{NodeAccess, Probe, ProbeKind};
use weft_model::ports::{HBONE_PORT, INBOUND_PLAINTEXT_PORT};
use weft_model::traffic::{LocalRateLimit, TrafficPolicy};
use weft_model::workload::Workload;
use weft_testing::fixtures::{identity, named};
use weft_testing::hbone::{self, Tunnel};
use weft_testing::wait::in_time;
use weft_testing::web::{WebServer, text};

use super::bed::{Bed, Pod};
use super::http::{Client, web};

/// What a client's own proxy lets through at once, and what the server's does: half as much again, and
/// one.
const OWN: usize = 4;
const RECEIVED: usize = 7;
/// More than either.
const MANY: usize = 20;

fn hourly(requests: usize) -> Option<LocalRateLimit> {
    let requests = u32::try_from(requests).unwrap();
    Some(LocalRateLimit {
        requests,
        interval: Duration::from_secs(3600),
        burst: requests,
    })
}

/// A client on `node-1`, a web server on `node`, and both of its addresses: the pod's own and its
/// Service's.
async fn served(bed: &mut Bed, node: &'static str) -> (Pod, Pod, WebServer, [SocketAddr; 2]) {
    bed.node(node);
    let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
    let web = web(&server, text("hello")).await;
    let endpoints = [(web.address.ip(), Some(&server))];
    let service = bed.service_that_declares("http", "web", web.address.port(), &endpoints);
    let addresses = [web.address, service];
    (client, server, web, addresses)
}

fn limit(bed: &Bed, of_client: Option<LocalRateLimit>, of_all: Option<LocalRateLimit>) {
    bed.tell(&Change::TrafficPolicy(Box::new(TrafficPolicy {
        local_rate_limit: of_client,
        instance_rate_limit: of_all,
        ..TrafficPolicy::new(named("web"))
    })));
}

/// How many of many requests are served; the others are refused as too many.
async fn passed(client: &Pod, to: SocketAddr) -> usize {
    let mut connection = Client::connect(client, to).await;
    let mut passed = 0;
    for _ in 0..MANY {
        let answer = connection.get("/").await;
        if answer.status == 200 {
            passed += 1;
            continue;
        }
        assert_eq!(answer.status, 429);
        assert_eq!(answer.headers["x-weft-reason"], "RATE_LIMITED");
        let wait: u64 = answer.headers["retry-after"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!((1..=3600).contains(&wait), "{wait}");
    }
    passed
}

const GET: &str = "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";

/// Whether a request that nobody counts on its way is served.
async fn is_served(stream: impl AsyncReadExt + AsyncWriteExt + Unpin) -> bool {
    is_served_at("/", stream).await
}

async fn is_served_at(path: &str, mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) -> bool {
    let request = GET.replacen('/', path, 1);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    in_time(stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    match answer.split(' ').nth(1) {
        Some("200") => true,
        Some("429") => {
            assert!(
                answer.to_ascii_lowercase().contains("\r\nretry-after: "),
                "{answer}"
            );
            false
        }
        _ => panic!("{answer}"),
    }
}

#[tokio::test]
async fn a_client_whose_own_proxy_counts_nothing_is_limited_where_its_requests_arrive() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let (client, _server, web, [pod, _]) = served(&mut bed, node).await;
        // To the pod's own address no client's proxy counts.
        limit(&bed, hourly(OWN), None);
        assert_eq!(passed(&client, pod).await, RECEIVED, "{node}");
        assert_eq!(web.count(), RECEIVED, "{node}");
        let other = bed.pod("node-1", "other");
        assert_eq!(passed(&other, pod).await, RECEIVED, "{node}");
        let refused = [
            "reporter=\"destination\"",
            "RATE_LIMITED",
            "response_code=\"429\"",
        ];
        bed.counts(node, &refused).await;
        bed.counts(node, &["weft_refused_total{", "RATE_LIMITED", "} 26"])
            .await;
    }
}

#[tokio::test]
async fn a_client_that_keeps_to_its_limit_is_not_counted_against_it_twice() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let (client, _server, web, [_, service]) = served(&mut bed, node).await;
        limit(&bed, hourly(OWN), None);
        assert_eq!(passed(&client, service).await, OWN, "{node}");
        let other = bed.pod("node-1", "other");
        assert_eq!(
            passed(&other, service).await,
            OWN,
            "nobody uses up another's"
        );
        assert_eq!(web.count(), 2 * OWN, "{node}");
        let text = super::metrics(&mut bed, node);
        let is_received =
            |line: &str| line.contains("reporter=\"destination\"") && line.contains("RATE_LIMITED");
        assert!(!text.lines().any(is_received), "{node}");
    }
}

#[tokio::test]
async fn a_pod_takes_no_more_of_all_clients_together_than_its_service_allows() {
    for node in ["node-2", "node-1"] {
        let mut bed = Bed::new();
        let (client, _server, web, [pod, service]) = served(&mut bed, node).await;
        let other = bed.pod("node-1", "other");
        limit(&bed, None, hourly(RECEIVED));
        assert_eq!(passed(&client, service).await, RECEIVED, "{node}");
        assert_eq!(passed(&other, service).await, 0, "{node}");
        assert_eq!(passed(&other, pod).await, 0, "{node}");
        assert_eq!(web.count(), RECEIVED, "{node}");
        limit(&bed, None, None);
        assert_eq!(passed(&other, service).await, MANY, "{node}");
    }
}

/// A hostile agent that opens tunnels itself, however it names its client.
#[tokio::test]
async fn a_tunnel_that_no_proxy_of_ours_has_opened_is_limited_by_its_certificate() {
    let mut bed = Bed::new();
    let (_client, server, web, [pod, _]) = served(&mut bed, "node-2").await;
    limit(&bed, hourly(OWN), None);
    let ask = async |name: &str, number: usize| {
        let presented = bed.authority.workload(&identity(name));
        let mut request = hbone::connect(pod);
        let forged = format!("for=\"10.0.0.{number}:4000\"").parse().unwrap();
        request.headers_mut().insert("forwarded", forged);
        let config = hbone::client(Some(&presented));
        let tunnel = Tunnel::open(server.at(HBONE_PORT), config, request);
        let tunnel = in_time(tunnel).await.unwrap();
        assert_eq!(tunnel.status, 200);
        let answer = in_time(tunnel.request(GET)).await.unwrap();
        answer.starts_with("HTTP/1.1 200")
    };
    let mut served = 0;
    for number in 1..=MANY {
        served += usize::from(ask("client", number).await);
    }
    assert_eq!(served, RECEIVED);
    // Another identity has its own.
    assert!(ask("other", 1).await);
    assert_eq!(web.count(), RECEIVED + 1);
}

#[tokio::test]
async fn plaintext_of_no_proxy_is_limited_by_its_address() {
    let mut bed = Bed::new();
    let (_client, server, web, [pod, _]) = served(&mut bed, "node-2").await;
    *server.sockets.steered_for.lock().unwrap() = Some(pod.port());
    limit(&bed, hourly(OWN), None);
    let mut served = 0;
    for _ in 0..MANY {
        let to = server.at(INBOUND_PLAINTEXT_PORT);
        served += usize::from(is_served(TcpStream::connect(to).await.unwrap()).await);
    }
    assert_eq!(served, RECEIVED);
    assert_eq!(web.count(), RECEIVED);
}

/// Else whoever overloads a pod would have kubelet restart it.
#[tokio::test]
async fn what_kubelet_may_probe_has_no_rate() {
    let mut bed = Bed::new();
    let (_client, server, _web, [pod, _]) = served(&mut bed, "node-2").await;
    *server.sockets.steered_for.lock().unwrap() = Some(pod.port());
    server.sockets.is_from_node.store(true, Ordering::Relaxed);
    let (port, kind) = (pod.port(), ProbeKind::Http("/healthz".into()));
    bed.tell(&Change::Workload(Workload {
        node_access: NodeAccess::Probes([Probe { port, kind }].into()),
        ..Workload::clone(&server.workload)
    }));
    limit(&bed, None, hourly(OWN));
    let ask = async |path: &str| {
        let stream = TcpStream::connect(server.at(INBOUND_PLAINTEXT_PORT)).await;
        is_served_at(path, stream.unwrap()).await
    };
    for _ in 0..MANY {
        assert!(ask("/healthz").await);
    }
    let mut served = 0;
    for _ in 0..MANY {
        served += usize::from(ask("/").await);
    }
    assert_eq!(served, OWN, "anything else has");
    assert!(ask("/healthz").await);
}
