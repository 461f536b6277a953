use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_model::mesh::Change;
use weft_model::route::{Retry, Rule};
use weft_model::workload::Workload;
use weft_testing::tcp::{closed_port, listen, serve};
use weft_testing::web::status;

use super::super::test_bed::*;
use crate::stream::Stream;
use crate::telemetry::{
    ConnectionInfo, ConnectionRecord, Hop, Peer, PodTelemetry, RequestDescription, RequestRecord,
    Security,
};
use crate::upstream::{
    HandOver, ReceivedRequest, RequestHead, RequestReceiver, SameNodeArrival, SameNodeInbound,
    SameNodeSide, UpstreamConnection,
};

/// A server that answers the first `good` requests of each connection, and breaks the
/// connection off at the next one.
async fn tires(good: usize, arrived: &Arc<AtomicUsize>) -> SocketAddr {
    let arrived = Arc::clone(arrived);
    serve(listen().await, move |mut stream| {
        let arrived = Arc::clone(&arrived);
        async move {
            for number in 0.. {
                if stream.read(&mut [0; 4096]).await.unwrap_or(0) == 0 {
                    return;
                }
                arrived.fetch_add(1, Ordering::Relaxed);
                if number == good {
                    return;
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.unwrap();
            }
        }
    })
}

#[tokio::test]
async fn an_endpoint_that_takes_no_connection_is_passed_over() {
    let bed = TestBed::new();
    let closed = closed_port().await;
    let server = web(|_, _| status(200)).await;
    bed.service("web", &[closed, server.address]);
    let mut client = bed.client("web").await;
    for _ in 0..8 {
        assert_eq!(ask(&mut client, post("body")).await.status(), 200);
    }
    assert_eq!(server.last().body(), "body");
}

#[tokio::test]
async fn where_no_endpoint_takes_a_connection_the_reply_says_so() {
    let bed = TestBed::new();
    let closed = closed_port().await;
    bed.service("web", &[closed]);
    let mut client = bed.client("web").await;
    let response = ask(&mut client, get()).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["x-weft-reason"], "CONNECT");
}

#[tokio::test]
async fn a_connection_that_breaks_under_a_request_is_not_tried_again_unasked() {
    let bed = TestBed::new();
    let arrived = Arc::default();
    bed.service("web", &[tires(0, &arrived).await]);
    let mut client = bed.client("web").await;
    let response = ask(&mut client, get()).await;
    assert_eq!(response.headers()["x-weft-reason"], "UPSTREAM_RESET");
    assert_eq!(arrived.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn on_a_connection_that_was_used_before_only_what_changes_nothing_is_sent_again() {
    let bed = TestBed::new();
    let arrived = Arc::default();
    bed.service("web", &[tires(1, &arrived).await]);
    let mut client = bed.client("web").await;
    // Each connection answers once, so every second request meets one that tires.
    for _ in 0..4 {
        assert_eq!(ask(&mut client, get()).await.status(), 200);
    }
    assert_eq!(arrived.load(Ordering::Relaxed), 7);
    let response = ask(&mut client, post("body")).await;
    assert_eq!(response.headers()["x-weft-reason"], "UPSTREAM_RESET");
}

#[tokio::test]
async fn a_whole_answer_that_is_worth_another_attempt_leaves_its_connection() {
    let bed = TestBed::new();
    let server = web(|number, _| status(if number < 2 { 503 } else { 200 })).await;
    bed.service("web", &[server.address]);
    let retry = Some(Retry {
        codes: vec![StatusCode::SERVICE_UNAVAILABLE],
        attempts: 2,
        backoff: Duration::from_millis(1),
    });
    bed.route(
        "web",
        vec![Rule {
            retry,
            ..rule("web")
        }],
    );
    let mut client = bed.client("web").await;
    assert_eq!(ask(&mut client, post("body")).await.status(), 200);
    assert_eq!((server.count(), server.connections()), (3, 1));
    assert_eq!(server.last().body(), "body");
}

/// The inbound side of a pod of this node whose application is a server of the tests.
#[derive(Debug)]
struct Neighbour {
    workload: Arc<Workload>,
    telemetry: PodTelemetry,
}

/// Begins that pod's records of requests, and decides about them.
#[derive(Debug)]
struct Receiver {
    telemetry: PodTelemetry,
    info: Arc<ConnectionInfo>,
}

impl RequestReceiver for Receiver {
    /// Denies what is not for that path.
    fn receive(&self, request: RequestDescription, head: &RequestHead<'_>) -> ReceivedRequest {
        ReceivedRequest {
            record: RequestRecord::start(&self.telemetry, Arc::clone(&self.info), request),
            is_allowed: head.path == "/",
            under_way: None,
        }
    }
}

impl SameNodeInbound for Neighbour {
    fn hand_over(&self, arrival: SameNodeArrival) -> HandOver<'_> {
        Box::pin(async move {
            let source = Peer::from_workload(&arrival.source, Some(arrival.client));
            let to = arrival.destination;
            let (security, hop) = (Security::SameNode, Hop::SameNode);
            let info = ConnectionInfo::inbound(&self.workload, source, to, security, hop);
            let info = Arc::new(info);
            let record =
                ConnectionRecord::start(&self.telemetry, Arc::clone(&info), Instant::now());
            let receiver = Receiver {
                telemetry: self.telemetry.clone(),
                info,
            };
            let stream = TcpStream::connect(to).await.unwrap();
            Ok(UpstreamConnection {
                stream: Stream::Tcp(stream),
                same_node: Some(SameNodeSide {
                    record,
                    receiver: Some(Arc::new(receiver)),
                    delivery: None,
                    admission: None,
                }),
                descriptor: None,
            })
        })
    }
}

/// A bed with a pod `server` on the same node, whose application is at `address`.
fn with_neighbour(address: SocketAddr) -> TestBed {
    let bed = TestBed::new();
    let SocketAddr::V4(v4) = address else {
        panic!("{address}");
    };
    let server = workload("server", *v4.ip());
    bed.apply(Change::Workload(server.clone()));
    let server = Arc::new(server);
    let neighbour = Neighbour {
        telemetry: bed.pod.node.telemetry.for_pod(&server),
        workload: Arc::clone(&server),
    };
    let neighbours = &bed.pod.node.neighbours;
    neighbours.insert(server.uid.clone(), Arc::new(neighbour));
    bed.service_of_pods("web", &[(address, Some("server"))]);
    bed
}

#[tokio::test]
async fn both_pods_of_a_node_record_a_request_between_them() {
    let server = web(|_, _| status(201)).await;
    let bed = with_neighbour(server.address);
    let mut client = bed.client("web").await;
    assert_eq!(ask(&mut client, post("abcde")).await.status(), 201);
    for reporter in ["source", "destination"] {
        let reporter = format!("reporter=\"{reporter}\"");
        let code = "response_code=\"201\"";
        let labels = ["istio_requests_total{", &reporter, code, "} 1"];
        bed.counts(&labels).await;
        bed.counts(&["istio_request_bytes_sum{", &reporter, "} 5"])
            .await;
    }
}

#[tokio::test]
async fn both_pods_of_a_node_record_that_the_application_broke_off() {
    let arrived = Arc::default();
    let bed = with_neighbour(tires(0, &arrived).await);
    let mut client = bed.client("web").await;
    assert_eq!(ask(&mut client, get()).await.status(), 503);
    for reporter in ["source", "destination"] {
        let reporter = format!("reporter=\"{reporter}\"");
        let flag = "response_flags=\"UPSTREAM_RESET\"";
        bed.counts(&["istio_requests_total{", &reporter, flag, "} 1"])
            .await;
    }
}

#[tokio::test]
async fn what_the_receiving_pod_denies_is_never_sent_and_costs_no_connection() {
    let server = web(|_, _| status(201)).await;
    let bed = with_neighbour(server.address);
    let mut client = bed.client("web").await;
    for _ in 0..3 {
        assert_eq!(ask(&mut client, post("abcde")).await.status(), 201);
        let mut denied = post("abcde");
        *denied.uri_mut() = "/denied".parse().unwrap();
        assert_eq!(ask(&mut client, denied).await.status(), 403);
    }
    assert_eq!((server.count(), server.connections()), (3, 1));
    for reporter in ["source", "destination"] {
        let reporter = format!("reporter=\"{reporter}\"");
        let flag = "response_flags=\"AUTHORIZATION_DENIED\"";
        bed.counts(&["istio_requests_total{", &reporter, flag, "} 3"])
            .await;
    }
}
