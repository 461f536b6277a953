//! The data path end to end: real TLS, HTTP/2 and sockets between proxies of
//! different nodes, on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod authorization;
mod bed;
mod connection_routes;
mod early;
mod egress;
mod http;
mod http_only;
mod inbound_connections;
mod inbound_http;
mod long_connections;
mod policies;
mod rate_limits;
mod refusals;
mod revocation;
mod sidecar;
mod stalled_streams;
mod strangers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bed::{Bed, Counter, Pod};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_model::ports::HBONE_PORT;
use weft_testing::tcp::{self, echo, exchange, fresh_address};
use weft_testing::wait::{DEADLINE, wait_until};

/// An application in a pod: what it does with each connection.
async fn application<F>(pod: &Pod, serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    pod.serve(0, serve).await
}

fn metrics(bed: &mut Bed, node: &'static str) -> String {
    bed.node(node).node.telemetry.encode().unwrap()
}

#[tokio::test]
async fn a_connection_to_another_node_goes_through_a_tunnel_with_both_identities() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let address = application(&server, echo).await;
    let mut stream = client.connect(address).await.unwrap();
    assert_eq!(exchange(&mut stream, "hello").await, "hello");
    assert_eq!(client.dials(HBONE_PORT), 1);
    let shown = server.sockets.shown.lock().unwrap()[0];
    assert_eq!(shown.ip(), client.address());
    assert_eq!(
        shown.port(),
        stream.local_addr().unwrap().port(),
        "the client's own port"
    );
    let open =
        serde_json::to_string(&bed.node("node-2").node.telemetry.connections().list()).unwrap();
    assert!(
        open.contains("spiffe://cluster.local/ns/default/sa/client"),
        "{open}"
    );
    drop(stream);
    wait_until("recorded", || bed_closed(&server)).await;
    let (text, served) = (metrics(&mut bed, "node-1"), metrics(&mut bed, "node-2"));
    for line in [&text, &served] {
        assert!(
            line.contains("connection_security_policy=\"mutual_tls\""),
            "{line}"
        );
        assert!(line.contains("source_principal=\"spiffe://cluster.local/ns/default/sa/client\""));
    }
}

fn bed_closed(pod: &Pod) -> bool {
    pod.proxy.open_connections() == 0
}

#[tokio::test]
async fn a_connection_on_the_same_node_is_handed_over_without_a_tunnel() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-1", "server"));
    let address = application(&server, echo).await;
    let mut stream = client.connect(address).await.unwrap();
    assert_eq!(exchange(&mut stream, "hello").await, "hello");
    assert_eq!(
        (client.dials(HBONE_PORT), client.dials(address.port())),
        (0, 0)
    );
    assert_eq!(
        server.sockets.shown.lock().unwrap()[0].ip(),
        client.address()
    );
    assert_eq!(
        (
            client.proxy.open_connections(),
            server.proxy.open_connections()
        ),
        (1, 1)
    );
    drop(stream);
    wait_until("both ends closed", || {
        bed_closed(&client) && bed_closed(&server)
    })
    .await;
}

#[tokio::test]
async fn what_is_outside_the_mesh_is_reached_as_the_application_asked() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let address = tcp::serve(tcp::listen().await, echo);
    let mut stream = client.connect(address).await.unwrap();
    assert_eq!(exchange(&mut stream, "plain").await, "plain");
}

#[tokio::test]
async fn half_closes_are_passed_on_in_both_directions() {
    let mut bed = Bed::new();
    for node in ["node-1", "node-2"] {
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let address = application(&server, async |mut stream: TcpStream| {
            // Answers only once the client has finished, then more than one write.
            let mut request = String::new();
            stream.read_to_string(&mut request).await.unwrap();
            stream
                .write_all(format!("got {request}").as_bytes())
                .await
                .unwrap();
        });
        let mut stream = client.connect(address.await).await.unwrap();
        stream.write_all(b"all of it").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await;
        read.expect("no answer in time").unwrap();
        assert_eq!(answer, "got all of it");
    }
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let address = application(&server, async |mut stream: TcpStream| {
        stream.write_all(b"220 ready").await.unwrap();
        let _ = stream.read(&mut [0; 1]).await;
    });
    let mut stream = client.connect(address.await).await.unwrap();
    let mut greeting = [0; 9];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut greeting))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&greeting, b"220 ready");
}

#[tokio::test]
async fn a_reset_is_passed_on_as_a_reset() {
    let mut bed = Bed::new();
    for node in ["node-1", "node-2"] {
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let address = application(&server, async |mut stream: TcpStream| {
            let _ = stream.read(&mut [0; 1]).await;
            stream.set_zero_linger().unwrap();
        });
        let mut stream = client.connect(address.await).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        let read = tokio::time::timeout(DEADLINE, stream.read(&mut [0; 1]))
            .await
            .unwrap();
        let error = read.expect_err("an end instead of a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_client_that_resets_reaches_the_server_as_a_reset() {
    let mut bed = Bed::new();
    for node in ["node-1", "node-2"] {
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let resets = Counter::default();
        let seen = Arc::clone(&resets);
        let address = application(&server, move |mut stream| {
            let seen = Arc::clone(&seen);
            async move {
                let mut received = Vec::new();
                if stream.read_to_end(&mut received).await.is_err() {
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let mut stream = client.connect(address.await).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        wait_until("connected", || server.proxy.open_connections() == 1).await;
        stream.set_zero_linger().unwrap();
        drop(stream);
        wait_until("the server saw a reset", || {
            resets.load(Ordering::Relaxed) == 1
        })
        .await;
    }
}

#[tokio::test]
async fn bulk_goes_through_whole_in_both_directions_at_once() {
    const SIZE: usize = 48 << 20;
    let mut bed = Bed::new();
    for node in ["node-1", "node-2"] {
        let (client, server) = (bed.pod("node-1", "client"), bed.pod(node, "server"));
        let address = application(&server, echo).await;
        let (mut read, mut write) = client.connect(address).await.unwrap().into_split();
        let byte = |position: usize| (position.wrapping_mul(2_654_435_761) >> 13) as u8;
        let sent = tokio::spawn(async move {
            for start in (0..SIZE).step_by(1 << 16) {
                let block: Vec<u8> = (start..start + (1 << 16)).map(byte).collect();
                write.write_all(&block).await.unwrap();
            }
            write.shutdown().await.unwrap();
        });
        let (mut position, mut block) = (0, vec![0; 1 << 16]);
        loop {
            let count = tokio::time::timeout(DEADLINE, read.read(&mut block))
                .await
                .unwrap()
                .unwrap();
            if count == 0 {
                break;
            }
            let wrong = block[..count]
                .iter()
                .enumerate()
                .find(|(i, b)| **b != byte(position + i));
            assert_eq!(wrong, None, "after {position} bytes");
            position += count;
        }
        assert_eq!(position, SIZE);
        sent.await.unwrap();
    }
}

#[tokio::test]
async fn tunnels_share_connections_until_these_are_full() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let address = application(&server, echo).await;
    let mut open = Vec::new();
    for expected in [1, 2] {
        // At once: one dials, the others wait for its connection.
        let connecting: Vec<_> = (0..80).map(|_| client.connect(address)).collect();
        for connecting in connecting {
            open.push(connecting.await.unwrap());
        }
        for stream in &mut open {
            assert_eq!(exchange(stream, "x").await, "x");
        }
        assert_eq!(client.dials(HBONE_PORT), expected);
    }
}

#[tokio::test]
async fn a_dead_endpoint_is_left_for_a_live_one() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let address = application(&server, echo).await;
    let dead = fresh_address().into();
    let endpoints = [(dead, None), (server.address().into(), Some(&server))];
    let service = bed.service("web", address.port(), &endpoints);
    for _ in 0..20 {
        let mut stream = client.connect(service).await.unwrap();
        assert_eq!(exchange(&mut stream, "hello").await, "hello");
    }
    assert!(
        client.dials(address.port()) >= 1,
        "the dead one was never tried"
    );
}

#[tokio::test]
async fn connections_spread_over_the_endpoints_of_a_service() {
    let mut bed = Bed::new();
    let client = bed.pod("node-1", "client");
    let servers = [bed.pod("node-2", "a"), bed.pod("node-2", "b")];
    let port = 18_080;
    for server in &servers {
        server.serve(port, echo).await;
    }
    let endpoints = servers
        .each_ref()
        .map(|server| (server.address().into(), Some(server)));
    let service = bed.service("web", port, &endpoints);
    let mut open = Vec::new();
    for _ in 0..40 {
        let mut stream = client.connect(service).await.unwrap();
        assert_eq!(exchange(&mut stream, "x").await, "x");
        open.push(stream);
    }
    for server in &servers {
        let served = server.proxy.open_connections();
        // Choice goes by latency too, which a busy machine makes uneven.
        assert!((4..=36).contains(&served), "{served} of 40");
    }
}

#[tokio::test]
async fn a_draining_pod_finishes_what_is_open_and_takes_nothing_new() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let address = application(&server, echo).await;
    let mut stream = client.connect(address).await.unwrap();
    assert_eq!(exchange(&mut stream, "before").await, "before");
    let draining = tokio::spawn(server.proxy.drain(DEADLINE));
    let refused = async {
        loop {
            let mut late = client.connect(address).await.unwrap();
            if late.write_all(b"x").await.is_err() || late.read(&mut [0; 1]).await.unwrap_or(0) == 0
            {
                break;
            }
        }
    };
    tokio::time::timeout(DEADLINE, refused)
        .await
        .expect("still taking connections");
    assert_eq!(exchange(&mut stream, "during").await, "during");
    assert!(!draining.is_finished());
    drop(stream);
    tokio::time::timeout(DEADLINE, draining)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_even_if_connections_do_not() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let address = application(&server, echo).await;
    let mut stream = client.connect(address).await.unwrap();
    assert_eq!(exchange(&mut stream, "before").await, "before");
    server.proxy.drain(Duration::from_millis(50)).await;
    let read = tokio::time::timeout(DEADLINE, stream.read(&mut [0; 1]))
        .await
        .unwrap();
    assert!(!matches!(read, Ok(1..)), "{read:?}");
}

#[tokio::test]
async fn a_pod_may_come_back_while_its_earlier_proxy_still_drains() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let neighbour = bed.pod("node-2", "neighbour");
    let address = application(&server, echo).await;
    let mut old = client.connect(address).await.unwrap();
    assert_eq!(exchange(&mut old, "old").await, "old");

    let Pod {
        workload,
        sockets,
        proxy,
    } = server;
    proxy.stop_accepting();
    let draining = tokio::spawn(proxy.drain(Duration::from_millis(500)));
    let _later = bed.again(&workload, &sockets);
    let mut new = neighbour.connect(address).await.unwrap();
    assert_eq!(exchange(&mut new, "new").await, "new");
    assert_eq!(exchange(&mut old, "still").await, "still");

    tokio::time::timeout(DEADLINE, draining)
        .await
        .unwrap()
        .unwrap();
    assert!(
        !matches!(old.read(&mut [0; 1]).await, Ok(1..)),
        "outlived its proxy"
    );
    assert_eq!(exchange(&mut new, "after").await, "after");
    for from in [&client, &neighbour] {
        let mut next = from.connect(address).await.unwrap();
        assert_eq!(exchange(&mut next, "next").await, "next");
    }
}

#[tokio::test]
async fn series_of_a_removed_pod_are_gone() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let address = application(&server, echo).await;
    exchange(&mut client.connect(address).await.unwrap(), "x").await;
    assert!(metrics(&mut bed, "node-1").contains("source_workload=\"client\""));
    wait_until("closed", || bed_closed(&client)).await;
    drop(client);
    assert!(!metrics(&mut bed, "node-1").contains("source_workload=\"client\""));
}
