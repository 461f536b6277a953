//! What a TrafficPolicy does to connections that carry no requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use weft_model::Change;
use weft_model::traffic::{
    Balancer, CircuitBreaker, HashKey, Limits, OutlierDetection, TrafficPolicy,
};
use weft_testing::fixtures::named;
use weft_testing::tcp::{echo, exchange, fresh_address};
use weft_testing::wait::{DEADLINE, wait_until};

use crate::application;
use crate::bed::{Bed, Pod};

fn policy(bed: &Bed, change: impl FnOnce(TrafficPolicy) -> TrafficPolicy) {
    let policy = TrafficPolicy::new(named("web"));
    bed.tell(&Change::TrafficPolicy(Box::new(change(policy))));
}

/// Whether a connection is taken and answered.
async fn is_served(client: &Pod, service: SocketAddr) -> Option<TcpStream> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // A reset may come as early as this.
    let mut stream = client.connect(service).await.ok()?;
    let asked = async {
        stream.write_all(b"x").await?;
        stream.read_exact(&mut [0]).await
    };
    let answer = tokio::time::timeout(DEADLINE, asked).await;
    answer.expect("no answer in time").ok().map(|_| stream)
}

#[tokio::test]
async fn a_connection_over_the_limit_is_refused_and_another_takes_its_place() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let address = application(&server, echo).await;
    let endpoints = [(server.address().into(), Some(&server))];
    let service = bed.service("web", address.port(), &endpoints);
    policy(&bed, |policy| TrafficPolicy {
        limits: Limits {
            connections: Some(1),
            ..Limits::default()
        },
        ..policy
    });
    let first = is_served(&client, service).await.expect("the first");
    assert!(is_served(&client, service).await.is_none());
    bed.counts("node-1", &["response_flags=\"TOO_MANY_CONNECTIONS\""])
        .await;
    bed.counts("node-1", &["reason=\"TOO_MANY_CONNECTIONS\""])
        .await;
    // What is no Service isn't counted, nor limited.
    assert!(is_served(&client, address).await.is_some());
    drop(first);
    let connections = Arc::clone(bed.node("node-1").node.telemetry.connections());
    wait_until("the first connection ended", || connections.is_empty()).await;
    assert!(is_served(&client, service).await.is_some());
}

#[tokio::test]
async fn an_endpoint_that_takes_no_connections_is_ejected() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let address = application(&server, echo).await;
    let dead = fresh_address().into();
    let endpoints = [(dead, None), (server.address().into(), Some(&server))];
    let service = bed.service("web", address.port(), &endpoints);
    policy(&bed, |policy| TrafficPolicy {
        balancer: Balancer::RoundRobin,
        outlier_detection: Some(OutlierDetection {
            consecutive_failures: Some(3),
            failure_ratio: None,
            minimum_requests: 1,
            window: Duration::from_secs(10),
            base_ejection: Duration::from_secs(600),
            max_ejection: Duration::from_secs(600),
            max_ejected_percent: 50,
        }),
        ..policy
    });
    for _ in 0..20 {
        let mut stream = client.connect(service).await.unwrap();
        assert_eq!(exchange(&mut stream, "hello").await, "hello");
    }
    assert_eq!(client.dials(address.port()), 3, "and never again");
    bed.counts("node-1", &["weft_endpoint_ejections_total{"])
        .await;
}

#[tokio::test]
async fn the_breaker_opens_for_connections_too() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let dead = fresh_address().into();
    let service = bed.service("web", 18_081, &[(dead, None)]);
    policy(&bed, |policy| TrafficPolicy {
        circuit_breaker: Some(CircuitBreaker {
            consecutive_failures: Some(2),
            failure_ratio: None,
            minimum_requests: 1,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(600),
            probes: 1,
        }),
        ..policy
    });
    for _ in 0..5 {
        assert!(is_served(&client, service).await.is_none());
    }
    assert_eq!(client.dials(18_081), 2, "and then none was tried");
    bed.counts("node-1", &["reason=\"CIRCUIT_OPEN\""]).await;
}

#[tokio::test]
async fn a_source_is_kept_with_its_endpoint() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let servers = [bed.pod("node-2", "a"), bed.pod("node-2", "b")];
    let port = 18_082;
    for server in &servers {
        server.serve(port, echo).await;
    }
    let endpoints = servers
        .each_ref()
        .map(|server| (server.address().into(), Some(server)));
    let service = bed.service("web", port, &endpoints);
    policy(&bed, |policy| TrafficPolicy {
        balancer: Balancer::ConsistentHash(HashKey::Source),
        ..policy
    });
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(is_served(&client, service).await.unwrap());
    }
    let served = servers.each_ref().map(|s| s.proxy.open_connections());
    assert!(served.contains(&10) && served.contains(&0), "{served:?}");
}
