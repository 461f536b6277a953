//! Clients that have proven nothing, at the port where tunnels arrive.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use weft_model::ports::HBONE_PORT;
use weft_testing::tcp::{echo, exchange};
use weft_testing::wait::in_time;

use super::application;
use super::bed::Bed;

/// A connection from that address, on which nothing is said; `None` where it was refused before
/// connect() returned.
async fn silent(from: Ipv4Addr, to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    match socket.connect(to).await {
        Ok(stream) => Some(stream),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
        Err(error) => panic!("{error}"),
    }
}

/// How many of them were ended by the other side.
async fn refused(connections: &mut [Option<TcpStream>]) -> usize {
    let mut refused = 0;
    for connection in connections {
        let Some(connection) = connection else {
            refused += 1;
            continue;
        };
        let mut byte = [0];
        let ended = tokio::time::timeout(Duration::from_millis(20), connection.read(&mut byte));
        refused += usize::from(ended.await.is_ok());
    }
    refused
}

#[tokio::test]
async fn strangers_that_begin_handshakes_take_none_of_a_pods_connections() {
    let mut bed = Bed::with(|settings| settings.connections_per_pod = 2);
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let address = application(&server, echo).await;
    let mut strangers = Vec::new();
    for _ in 0..40 {
        let stranger = silent(Ipv4Addr::LOCALHOST, server.at(HBONE_PORT)).await;
        strangers.push(stranger.unwrap());
    }
    let mut stream = client.connect(address).await.unwrap();
    assert_eq!(exchange(&mut stream, "hello").await, "hello");
    // Their time is limited, too.
    for stranger in &mut strangers {
        assert!(!matches!(in_time(stranger.read(&mut [0])).await, Ok(1..)));
    }
    bed.counts("node-2", &["connections_failed_total", "TLS_FAILURE", "40"])
        .await;
}

#[tokio::test]
async fn one_address_takes_only_a_part_of_the_handshakes_that_a_pod_may_have_under_way() {
    let mut bed = Bed::with(|settings| {
        settings.handshakes_per_pod = 8;
        settings.handshakes_per_address = 4;
        settings.handshake_timeout = Duration::from_secs(60);
    });
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-2", "server"));
    let address = application(&server, echo).await;
    let to = server.at(HBONE_PORT);
    let mut flood = Vec::new();
    for _ in 0..20 {
        flood.push(silent(Ipv4Addr::LOCALHOST, to).await);
    }
    bed.counts("node-2", &["connections_failed_total", "LIMIT", "16"])
        .await;
    assert_eq!(refused(&mut flood).await, 16);
    // All others together have the rest.
    let mut stream = client.connect(address).await.unwrap();
    assert_eq!(exchange(&mut stream, "hello").await, "hello");
    let other = Ipv4Addr::new(127, 255, 7, 7);
    let mut others = Vec::new();
    for _ in 0..6 {
        others.push(silent(other, to).await);
    }
    bed.counts("node-2", &["connections_failed_total", "LIMIT"])
        .await;
    assert_eq!(refused(&mut others).await, 2);
    assert_eq!(exchange(&mut stream, "still").await, "still");
}
