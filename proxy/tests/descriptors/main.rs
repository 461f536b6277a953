//! A process that has no descriptor left. One of its own, as its limit is lowered.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

#[allow(dead_code, reason = "the bed of the other tests")]
#[path = "../data_path/bed.rs"]
mod bed;

use std::time::Duration;

use bed::Bed;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use weft_model::ports::{HBONE_PORT, OUTBOUND_PORT};
use weft_testing::tcp::{echo, exchange};

/// The lowest descriptor that is free: as many as are lower are in use.
fn lowest_free() -> u64 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&socket);
    u64::try_from(descriptor).unwrap()
}

#[tokio::test]
async fn a_connection_without_a_descriptor_is_refused_and_the_next_with_one_served() {
    let mut bed = Bed::new();
    let (client, server) = (bed.pod("node-1", "client"), bed.pod("node-1", "server"));
    let address = server.serve(0, echo).await;
    let mut before = client.connect(address).await.unwrap();
    assert_eq!(exchange(&mut before, "before").await, "before");
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // They have their own descriptors, and there is none for their other ends.
    let to = [client.at(OUTBOUND_PORT), server.at(HBONE_PORT)];
    let sockets: Vec<_> = to
        .iter()
        .cycle()
        .take(10)
        .map(|to| (TcpSocket::new_v4().unwrap(), *to))
        .collect();
    setrlimit(Resource::RLIMIT_NOFILE, lowest_free(), hard).unwrap();
    // Kept: an end of them would free a descriptor, and another connection be served by it.
    let (mut kept, mut in_their_place) = (Vec::new(), Vec::new());
    let refused = async {
        for (socket, to) in sockets {
            match socket.connect(to).await {
                Ok(mut stream) => {
                    assert!(!matches!(stream.read(&mut [0]).await, Ok(1..)));
                    kept.push(stream);
                }
                // The reset came before connect() returned.
                Err(_) => in_their_place.push(std::fs::File::open("/dev/null").unwrap()),
            }
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(10), refused).await;
    assert_eq!(exchange(&mut before, "during").await, "during");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    assert!(in_time.is_ok(), "they wait");
    bed.counts("node-1", &["connections_failed_total", "LIMIT"])
        .await;
    let mut after = client.connect(address).await.unwrap();
    assert_eq!(exchange(&mut after, "after").await, "after");
}
