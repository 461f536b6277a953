use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use prometheus_client::metrics::gauge::Gauge;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::{JoinHandle, JoinSet};

use super::*;
use weft_testing::wait::in_time;

use crate::fixtures::{tcp_pair, tls_pair, tunnel_pair};
use crate::memory::{MemoryAccount, PodMemory};

const NEVER: IdleTimeouts = IdleTimeouts {
    open: None,
    half_closed: None,
};

/// The kind of an end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Tcp,
    Tls,
    Tunnel,
}

const KINDS: [Kind; 3] = [Kind::Tcp, Kind::Tls, Kind::Tunnel];

fn combinations() -> impl Iterator<Item = (Kind, Kind)> {
    KINDS
        .into_iter()
        .flat_map(|downstream| KINDS.map(|upstream| (downstream, upstream)))
}

/// An application's end, and the relay's.
async fn pair(kind: Kind) -> (Stream, Stream) {
    match kind {
        Kind::Tcp => {
            let (application, accepted) = tcp_pair().await;
            (application.into(), accepted.into())
        }
        Kind::Tls => tls_pair().await,
        Kind::Tunnel => {
            let (application, accepted) = tunnel_pair().await;
            (application.into(), accepted.into())
        }
    }
}

/// A relay that runs, between a client and a server.
struct Running {
    client: Stream,
    server: Stream,
    progress: Arc<Progress>,
    relay: JoinHandle<CloseReason>,
}

impl Running {
    async fn start(kinds: (Kind, Kind)) -> Self {
        Self::start_with(kinds, (&[], &[]), NEVER).await
    }

    /// With first bytes that were read of either end, and these timeouts.
    async fn start_with(
        kinds: (Kind, Kind),
        first: (&[u8], &[u8]),
        timeouts: IdleTimeouts,
    ) -> Self {
        Self::start_in(&Arc::default(), kinds, first, timeouts).await
    }

    /// The same, of a pod whose connections hold that.
    async fn start_in(
        memory: &Arc<PodMemory>,
        (downstream, upstream): (Kind, Kind),
        (first_of_client, first_of_server): (&[u8], &[u8]),
        timeouts: IdleTimeouts,
    ) -> Self {
        let ((client, downstream), (server, upstream)) =
            (pair(downstream).await, pair(upstream).await);
        let downstream = PrefixedStream::with_prefix(BytesMut::from(first_of_client), downstream);
        let upstream = PrefixedStream::with_prefix(BytesMut::from(first_of_server), upstream);
        let progress = Arc::<Progress>::default();
        let shown = Arc::clone(&progress);
        let memory = Arc::clone(memory);
        let relay = tokio::spawn(async move {
            let memory = RelayMemory::new(&memory);
            let directions = Directions::Both;
            relay(downstream, upstream, directions, &shown, timeouts, memory).await
        });
        Self {
            client,
            server,
            progress,
            relay,
        }
    }

    async fn reason(self) -> CloseReason {
        in_time(self.relay).await.unwrap()
    }
}

fn carried(progress: &Progress) -> (u64, u64) {
    let bytes = progress.bytes();
    (bytes.sent, bytes.received)
}

/// Bytes that tell where they belong.
fn pattern(length: usize, seed: usize) -> Vec<u8> {
    let byte = |position: usize| ((position + seed).wrapping_mul(2_654_435_761) >> 13) as u8;
    (0..length).map(byte).collect()
}

async fn write_in_pieces(sink: &mut (impl AsyncWrite + Unpin), bytes: &[u8], pieces: &[usize]) {
    let (mut left, mut pieces) = (bytes, pieces.iter().cycle());
    while !left.is_empty() {
        let (piece, rest) = left.split_at(left.len().min(*pieces.next().unwrap()));
        sink.write_all(piece).await.unwrap();
        sink.flush().await.unwrap();
        left = rest;
    }
    sink.shutdown().await.unwrap();
}

async fn read_all(source: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// One half's bytes: first ones that were read already, the rest, and how it is cut.
type Traffic = (usize, usize, Vec<usize>);

fn traffic() -> impl Strategy<Value = Traffic> {
    let size = prop_oneof![Just(0), 1usize..200, 1usize..300_000];
    let pieces = prop::collection::vec(prop_oneof![1usize..100, 1usize..200_000], 1..6);
    (prop_oneof![Just(0), 1usize..20_000], size, pieces).prop_map(|(first, rest, pieces)| {
        // Small pieces of much data would only take long.
        let smallest = rest / 400 + 1;
        let pieces = pieces.into_iter().map(|piece| piece.max(smallest));
        (first, rest, pieces.collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Both halves at once; each ends when its sender does, whatever the other does.
    #[test]
    fn what_goes_in_comes_out_in_every_combination(up in traffic(), down in traffic()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for combination in combinations() {
            let (up, down) = (up.clone(), down.clone());
            runtime.block_on(in_time(async move {
                let (sent, received) = (pattern(up.0 + up.1, 1), pattern(down.0 + down.1, 2));
                let first = (&sent[..up.0], &received[..down.0]);
                let running = Running::start_with(combination, first, NEVER).await;
                let Running { client, server, progress, relay } = running;
                let (mut from_relay, mut to_relay) = tokio::io::split(client);
                let (mut at_server, mut of_server) = tokio::io::split(server);
                let (got_up, got_down, (), ()) = tokio::join!(
                    read_all(&mut at_server),
                    read_all(&mut from_relay),
                    write_in_pieces(&mut to_relay, &sent[up.0..], &up.2),
                    write_in_pieces(&mut of_server, &received[down.0..], &down.2),
                );
                assert!(got_up == sent, "{combination:?}: {} of {}", got_up.len(), sent.len());
                assert!(got_down == received, "{combination:?}: {} of {}", got_down.len(), received.len());
                assert_eq!(relay.await.unwrap(), CloseReason::Finished, "{combination:?}");
                assert_eq!(carried(&progress), (sent.len() as u64, received.len() as u64));
            }));
        }
    }
}

#[tokio::test]
async fn the_kernel_is_asked_about_both_ends_whatever_they_are() {
    for combination in combinations() {
        let mut running = Running::start(combination).await;
        in_time(write_in_pieces(&mut running.client, &[1; 3000], &[3000])).await;
        in_time(read_all(&mut running.server)).await;
        in_time(write_in_pieces(&mut running.server, b"ok", &[2])).await;
        in_time(read_all(&mut running.client)).await;
        let progress = Arc::clone(&running.progress);
        assert_eq!(running.reason().await, CloseReason::Finished);
        let TcpReports {
            downstream,
            upstream,
        } = progress.tcp();
        assert!(downstream.is_some(), "{combination:?}");
        let upstream = upstream.unwrap();
        assert!(upstream.statistics.smoothed_rtt.is_some(), "{upstream:?}");
        assert!(upstream.new_delivered_bytes >= 3000, "{upstream:?}");
    }
}

#[tokio::test]
async fn a_question_that_has_ended_can_still_be_answered() {
    for combination in combinations() {
        for client_asks in [true, false] {
            let mut running = Running::start(combination).await;
            let (asking, answering) = match client_asks {
                true => (&mut running.client, &mut running.server),
                false => (&mut running.server, &mut running.client),
            };
            in_time(write_in_pieces(asking, b"question", &[3])).await;
            assert_eq!(in_time(read_all(answering)).await, b"question");
            let answer = pattern(200_000, 3);
            let (answered, ()) = in_time(async {
                tokio::join!(
                    read_all(asking),
                    write_in_pieces(answering, &answer, &[70_000])
                )
            })
            .await;
            assert!(answered == answer, "{combination:?}");
            assert_eq!(running.reason().await, CloseReason::Finished);
        }
    }
}

#[tokio::test]
async fn a_reset_of_either_end_reaches_the_other_one_as_a_reset() {
    for combination in combinations() {
        for client_breaks in [true, false] {
            let mut running = Running::start(combination).await;
            running.client.write_all(b"x").await.unwrap();
            in_time(running.server.read_exact(&mut [0])).await.unwrap();
            let Running {
                mut client,
                mut server,
                progress: _,
                relay,
            } = running;
            let (mut left, expected) = match client_breaks {
                true => {
                    client.reset_on_close();
                    drop(client);
                    (server, CloseReason::DownstreamReset)
                }
                false => {
                    server.reset_on_close();
                    drop(server);
                    (client, CloseReason::UpstreamReset)
                }
            };
            let error = in_time(left.read(&mut [0])).await.unwrap_err();
            assert_eq!(
                error.kind(),
                io::ErrorKind::ConnectionReset,
                "{combination:?}"
            );
            assert_eq!(in_time(relay).await.unwrap(), expected, "{combination:?}");
        }
    }
}

#[tokio::test]
async fn what_was_sent_before_a_reset_arrives_before_it() {
    let sent = pattern(40_000, 5);
    for (breaking, other) in [Kind::Tcp, Kind::Tunnel]
        .into_iter()
        .flat_map(|breaking| KINDS.map(|other| (breaking, other)))
    {
        for client_breaks in [true, false].into_iter().cycle().take(20) {
            let combination = match client_breaks {
                true => (breaking, other),
                false => (other, breaking),
            };
            let running = Running::start(combination).await;
            let (mut broken, mut left) = match client_breaks {
                true => (running.client, running.server),
                false => (running.server, running.client),
            };
            // The kernel at the other end has all of it, which is less than its window.
            broken.write_all(&sent).await.unwrap();
            in_time(poll_fn(|context| broken.poll_break_off(context))).await;
            broken.reset();
            let mut received = Vec::new();
            let ended = in_time(left.read_to_end(&mut received)).await;
            assert!(received == sent, "{combination:?}: {}", received.len());
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    }
}

/// What it reads has ended before, and nobody writes: only the tunnel itself tells.
#[tokio::test]
async fn a_tunnel_that_is_cut_reaches_an_application_that_is_silent() {
    for kind in KINDS {
        for tunnel_is_upstream in [true, false] {
            let combination = match tunnel_is_upstream {
                true => (kind, Kind::Tunnel),
                false => (Kind::Tunnel, kind),
            };
            let running = Running::start(combination).await;
            let (mut cut, mut silent, expected) = match tunnel_is_upstream {
                true => (running.server, running.client, CloseReason::UpstreamReset),
                false => (running.client, running.server, CloseReason::DownstreamReset),
            };
            cut.shutdown().await.unwrap();
            assert!(in_time(read_all(&mut silent)).await.is_empty());
            cut.reset_on_close();
            assert_eq!(
                in_time(running.relay).await.unwrap(),
                expected,
                "{combination:?}"
            );
            let broken = async {
                while silent.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            in_time(broken).await;
        }
    }
}

/// Otherwise a look at first bytes would turn a reset into an orderly end.
#[tokio::test]
async fn an_error_that_a_look_has_met_breaks_the_relay_after_the_first_bytes() {
    for (downstream, upstream) in combinations() {
        let ((mut client, relay_end), (mut server, upstream)) =
            (pair(downstream).await, pair(upstream).await);
        let mut relay_end = PrefixedStream::new(relay_end);
        client.write_all(b"half a").await.unwrap();
        while relay_end.prefix() != b"half a" {
            in_time(relay_end.read_more()).await.unwrap();
        }
        client.reset_on_close();
        drop(client);
        in_time(relay_end.read_more()).await.unwrap_err();
        let progress = Progress::default();
        let reason = relay(
            relay_end,
            PrefixedStream::new(upstream),
            Directions::Both,
            &progress,
            NEVER,
            RelayMemory::new(&Arc::default()),
        );
        assert_eq!(in_time(reason).await, CloseReason::DownstreamReset);
        assert_eq!(carried(&progress), (6, 0));
        let mut read = Vec::new();
        let ended = in_time(server.read_to_end(&mut read)).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_silent_connection_is_cut_on_both_sides() {
    let timeouts = IdleTimeouts {
        open: Some(Duration::from_millis(40)),
        half_closed: None,
    };
    for combination in combinations() {
        let running = Running::start_with(combination, (&[], &[]), timeouts).await;
        assert_eq!(
            in_time(running.relay).await.unwrap(),
            CloseReason::IdleTimeout
        );
        for mut end in [running.client, running.server] {
            let error = in_time(end.read(&mut [0])).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    }
}

#[tokio::test]
async fn a_connection_whose_other_half_never_ends_is_cut_sooner() {
    let timeouts = IdleTimeouts {
        open: Some(Duration::from_millis(200)),
        half_closed: Some(Duration::from_millis(10)),
    };
    for combination in combinations() {
        let mut running = Running::start_with(combination, (&[], &[]), timeouts).await;
        running.client.shutdown().await.unwrap();
        assert_eq!(running.reason().await, CloseReason::IdleTimeout);
    }
}

#[tokio::test]
async fn a_relay_that_is_given_up_cuts_both_ends() {
    for combination in combinations() {
        let mut running = Running::start(combination).await;
        running.client.write_all(b"x").await.unwrap();
        in_time(running.server.read_exact(&mut [0])).await.unwrap();
        running.relay.abort();
        for mut end in [running.client, running.server] {
            let error = in_time(end.read(&mut [0])).await.unwrap_err();
            assert_eq!(
                error.kind(),
                io::ErrorKind::ConnectionReset,
                "{combination:?}"
            );
        }
    }
}

/// Bytes stop being taken once the buffers on the way are full, and go on after that.
#[tokio::test]
async fn a_reader_that_is_slow_holds_up_its_writer() {
    for combination in combinations() {
        let mut running = Running::start(combination).await;
        let block = pattern(1 << 20, 4);
        let mut written = 0;
        let stall = Duration::from_millis(300);
        while let Ok(count) = tokio::time::timeout(stall, running.client.write(&block)).await {
            written += count.unwrap();
            assert!(written < 64 << 20, "{combination:?}: nothing holds it up");
        }
        let (read, finished) = in_time(async {
            tokio::join!(read_all(&mut running.server), running.client.shutdown())
        })
        .await;
        finished.unwrap();
        assert_eq!(read.len(), written, "{combination:?}");
    }
}

/// Otherwise it would hold its part of the tunnel's windows for as long as that end lives.
#[tokio::test]
async fn a_reset_ends_a_relay_whose_other_end_takes_nothing() {
    for combination in [
        (Kind::Tcp, Kind::Tunnel),
        (Kind::Tunnel, Kind::Tunnel),
        (Kind::Tunnel, Kind::Tcp),
        (Kind::Tunnel, Kind::Tls),
    ] {
        for client_sends in [true, false] {
            let combination = match client_sends {
                true => combination,
                false => (combination.1, combination.0),
            };
            let running = Running::start(combination).await;
            let (mut sending, silent, expected) = match client_sends {
                true => (running.client, running.server, CloseReason::DownstreamReset),
                false => (running.server, running.client, CloseReason::UpstreamReset),
            };
            let (block, stall) = (pattern(1 << 20, 6), Duration::from_millis(300));
            while let Ok(written) = tokio::time::timeout(stall, sending.write(&block)).await {
                written.unwrap();
            }
            sending.reset_on_close();
            drop(sending);
            assert_eq!(
                in_time(running.relay).await.unwrap(),
                expected,
                "{combination:?}"
            );
            drop(silent);
        }
    }
}

/// Writes until told to stop, then ends its side.
async fn write_until(stop: &AtomicBool, mut sink: impl AsyncWrite + Unpin) {
    while !stop.load(Ordering::Relaxed) && sink.write_all(&[0; 64 * 1024]).await.is_ok() {}
    let _ = sink.shutdown().await;
}

#[tokio::test]
async fn what_waits_for_an_end_that_takes_nothing_counts_until_it_moves() {
    // What a tunnel brings counts with the tunnel's connection.
    for combination in combinations().filter(|kinds| *kinds != (Kind::Tunnel, Kind::Tcp)) {
        let shown = Gauge::default();
        let pod = Arc::new(MemoryAccount::new(1 << 30)).pod(&"pod".into(), shown.clone());
        let running = Running::start_in(&pod, combination, (&[], &[]), NEVER).await;
        let (client, mut server) = (running.client, running.server);
        let stop = Arc::<AtomicBool>::default();
        let (_from_relay, to_relay) = tokio::io::split(client);
        let stopped = Arc::clone(&stop);
        let writing = tokio::spawn(async move { write_until(&stopped, to_relay).await });
        // How much waits once everything on the way is full depends on where the last read ended.
        let blocked = async {
            let (mut before, mut looks_alike) = (0, 0);
            while looks_alike < 100 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let waiting = shown.get();
                let alike = waiting > 0 && waiting == before;
                looks_alike = if alike { looks_alike + 1 } else { 0 };
                before = waiting;
            }
        };
        in_time(blocked).await;
        stop.store(true, Ordering::Relaxed);
        in_time(read_all(&mut server)).await;
        writing.await.unwrap();
        assert_eq!(shown.get(), 0, "{combination:?}");
    }
}

#[tokio::test]
async fn connections_whose_ends_take_nothing_are_ended_once_they_hold_too_much() {
    const LIMIT: usize = 1 << 20;
    const CONNECTIONS: usize = 40;
    for combination in [
        (Kind::Tcp, Kind::Tcp),
        (Kind::Tcp, Kind::Tunnel),
        (Kind::Tls, Kind::Tcp),
    ] {
        let shown = Gauge::default();
        let pod = Arc::new(MemoryAccount::new(LIMIT)).pod(&"pod".into(), shown.clone());
        let (mut floods, mut ended) = (JoinSet::new(), JoinSet::new());
        for _ in 0..CONNECTIONS {
            let running = Running::start_in(&pod, combination, (&[], &[]), NEVER).await;
            let Running {
                client,
                server,
                relay,
                ..
            } = running;
            floods.spawn(async move {
                write_until(&AtomicBool::new(false), client).await;
                drop(server);
            });
            ended.spawn(relay);
        }
        for _ in 0..4 {
            let reason = in_time(ended.join_next()).await.unwrap().unwrap().unwrap();
            assert_eq!(reason, CloseReason::MemoryExceeded, "{combination:?}");
        }
        let held = usize::try_from(shown.get()).unwrap();
        assert!(held <= LIMIT, "{combination:?}: {held}");
    }
}
