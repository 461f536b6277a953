use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use weft_model::Mesh;
use weft_model::workload::Workload;

use super::super::test_support::{Bed, access_lines, field, inbound, pod};
use super::*;
use crate::sockets::TcpStatistics;
use crate::telemetry::{TcpReport, TcpReports};

const OPENED: &str = "istio_tcp_connections_opened_total";
const CLOSED: &str = "istio_tcp_connections_closed_total";
const FAILED: &str = "istio_tcp_connections_failed_total";
const SENT: &str = "istio_tcp_sent_bytes_total";
const RECEIVED: &str = "istio_tcp_received_bytes_total";
const HTTP_OPENED: &str = "weft_http_connections_opened_total";
const HTTP_CLOSED: &str = "weft_http_connections_closed_total";

impl Bed {
    /// A connection that may stay while the pod's service account is `client`.
    fn open_while_allowed(&self) -> ConnectionRecord {
        let mut record = self.start();
        let allowed = |_: &Mesh, now: &Arc<Workload>| now.identity.service_account() == "client";
        record.opened(Duration::ZERO, Some(Box::new(allowed)));
        record
    }
}

fn error() -> io::Error {
    io::Error::other("nobody listens")
}

/// A way for a record to end.
type Exit = fn(ConnectionRecord);

#[test]
fn each_exit_is_recorded_once_in_metrics_and_access_log() {
    let exits: [(Exit, &str, &str); 8] = [
        (|record| record.close(CloseReason::Finished), "-", "absent"),
        (
            |record| record.close(CloseReason::DownstreamReset),
            "DOWNSTREAM_RESET",
            "absent",
        ),
        (
            |record| record.close(CloseReason::UpstreamReset),
            "UPSTREAM_RESET",
            "absent",
        ),
        (
            |record| record.close(CloseReason::IdleTimeout),
            "IDLE_TIMEOUT",
            "absent",
        ),
        (
            |record| record.cut_off(CutReason::PolicyChanged),
            "POLICY_CHANGED",
            "cut: the connection is not allowed any more",
        ),
        (
            |record| record.cut_off(CutReason::ProxyStopped),
            "PROXY_STOPPED",
            "cut: the pod's proxy ended before the connection did",
        ),
        (
            |record| record.fail(ResponseFlag::H2HandshakeFailure, &error()),
            "H2_HANDSHAKE_FAILURE",
            "nobody listens",
        ),
        (
            drop,
            "PROXY_STOPPED",
            "cut: the pod's proxy ended before the connection did",
        ),
    ];
    for (exit, flag, error) in exits {
        let bed = Bed::new();
        let record = bed.open();
        record.progress().add_sent(10);
        let lines = access_lines(|| exit(record));
        assert_eq!(bed.total(OPENED), 1, "{flag}");
        assert_eq!(bed.total(CLOSED), 1, "{flag}");
        let label = format!("response_flags=\"{flag}\"");
        assert_eq!(bed.counted(CLOSED, &[&label]), Some(1), "{flag}");
        // It isn't known how a connection will end when its first bytes are counted.
        assert_eq!(bed.counted(SENT, &["response_flags=\"-\""]), Some(10));
        assert_eq!(bed.total(FAILED), 0, "{flag}");
        assert!(bed.pod.connections().is_empty(), "{flag}");
        assert_eq!(lines.len(), 1, "{flag}");
        assert_eq!(field(&lines[0], "flags"), flag);
        assert_eq!(field(&lines[0], "error"), error);
        assert_eq!(field(&lines[0], "bytes_sent"), "10");
        assert_eq!(field(&lines[0], "connect_us"), "7");
    }
}

#[test]
fn what_the_kernel_told_of_both_ends_is_logged_and_the_peers_counted() {
    let report = |microseconds, retransmits| {
        Some(TcpReport::whole(TcpStatistics {
            smoothed_rtt: Some(Duration::from_micros(microseconds)),
            retransmits,
            delivered_bytes: 1000 + microseconds,
        }))
    };
    let bed = Bed::new();
    let record = bed.open();
    record.progress().set_tcp(TcpReports {
        downstream: report(20, 1),
        upstream: report(300, 4),
    });
    let lines = access_lines(|| record.close(CloseReason::Finished));
    for (name, value) in [
        ("tcp.downstream.rtt_us", "20"),
        ("tcp.downstream.retransmits", "1"),
        ("tcp.downstream.delivered_bytes", "1020"),
        ("tcp.upstream.rtt_us", "300"),
        ("tcp.upstream.retransmits", "4"),
        ("tcp.upstream.delivered_bytes", "1300"),
    ] {
        assert_eq!(field(&lines[0], name), value, "{name}");
    }
    let peer = ["reporter=\"source\"", "destination_workload=\"server\""];
    let counted = |name: &str| bed.counted(name, &peer);
    assert_eq!(counted("weft_tcp_retransmitted_segments_total"), Some(4));
    assert_eq!(counted("weft_tcp_delivered_bytes_total"), Some(1300));
    assert_eq!(counted("weft_tcp_round_trip_time_seconds_count"), Some(1));
}

#[test]
fn what_ends_before_it_is_opened_is_a_failure() {
    let exits: [(Exit, &str); 3] = [
        (
            |record| record.fail(ResponseFlag::Connect, &error()),
            "CONNECT",
        ),
        (
            |record| record.close(CloseReason::DownstreamReset),
            "DOWNSTREAM_RESET",
        ),
        (drop, "PROXY_STOPPED"),
    ];
    for (exit, flag) in exits {
        let bed = Bed::new();
        let record = bed.start();
        let lines = access_lines(|| exit(record));
        let label = format!("response_flags=\"{flag}\"");
        assert_eq!(bed.counted(FAILED, &[&label]), Some(1), "{flag}");
        assert_eq!((bed.total(OPENED), bed.total(CLOSED)), (0, 0), "{flag}");
        assert_eq!(lines.len(), 1, "{flag}");
        assert_eq!(field(&lines[0], "flags"), flag);
        assert_eq!(field(&lines[0], "connect_us"), "absent");
    }
}

#[test]
fn a_connection_for_requests_is_counted_apart_and_logged_when_it_fails() {
    let bed = Bed::new();
    let mut record = bed.start();
    record.opened_for_requests(None);
    record.progress().add_sent(10);
    assert_eq!(bed.pod.connections().len(), 1);
    let lines = access_lines(|| record.close(CloseReason::Finished));
    assert!(lines.is_empty(), "{lines:?}");
    let pod = ["namespace=\"shop\",pod=\"client-1\",direction=\"outbound\""];
    assert_eq!(bed.counted(HTTP_OPENED, &pod), Some(1));
    assert_eq!(
        bed.counted(HTTP_CLOSED, &[pod[0], "response_flags=\"-\""]),
        Some(1)
    );
    let mut record = bed.start();
    record.opened_for_requests(None);
    let flag = ResponseFlag::RequestFraming;
    let lines = access_lines(|| record.fail(flag, &error()));
    assert_eq!(lines.len(), 1);
    assert_eq!(field(&lines[0], "flags"), "REQUEST_FRAMING");
    let failed = [pod[0], "response_flags=\"REQUEST_FRAMING\""];
    assert_eq!(bed.counted(HTTP_CLOSED, &failed), Some(1));
    for name in [OPENED, CLOSED, SENT, RECEIVED, FAILED] {
        assert_eq!(bed.counted(name, &[]), None, "{name}");
    }
}

#[test]
fn bytes_count_while_they_move_and_only_once() {
    let bed = Bed::new();
    let (record, other) = (bed.open(), bed.open());
    record.progress().add_sent(100);
    record.progress().add_received(5);
    assert_eq!((bed.total(SENT), bed.total(RECEIVED)), (100, 5));
    assert_eq!((bed.total(SENT), bed.total(RECEIVED)), (100, 5));
    record.progress().add_sent(20);
    other.progress().add_received(1);
    assert_eq!((bed.total(SENT), bed.total(RECEIVED)), (120, 6));
    record.progress().add_sent(3);
    record.close(CloseReason::Finished);
    drop(other);
    assert_eq!((bed.total(SENT), bed.total(RECEIVED)), (123, 6));
}

#[test]
fn both_halves_of_a_connection_in_one_process_show_the_same_bytes() {
    let bed = Bed::new();
    let server = bed.telemetry.for_pod(&bed.server);
    let near = bed.open();
    let info = inbound(&bed.server, &bed.client);
    let mut far = ConnectionRecord::start(&server, info, Instant::now());
    far.opened(Duration::ZERO, None);
    far.share_progress(Arc::clone(near.progress()));
    near.progress().add_sent(9);
    for reporter in ["reporter=\"source\"", "reporter=\"destination\""] {
        assert_eq!(bed.counted(SENT, &[reporter]), Some(9));
    }
    near.progress().add_sent(1);
    let lines = access_lines(|| {
        far.close(CloseReason::Finished);
        near.close(CloseReason::Finished);
    });
    for (line, direction) in lines.iter().zip(["inbound", "outbound"]) {
        assert_eq!(field(line, "direction"), direction);
        assert_eq!(field(line, "bytes_sent"), "10");
    }
    for reporter in ["reporter=\"source\"", "reporter=\"destination\""] {
        assert_eq!(bed.counted(SENT, &[reporter]), Some(10));
    }
}

#[test]
fn no_byte_is_lost_or_counted_twice_while_scrapes_and_ends_race() {
    const THREADS: u64 = 4;
    const CONNECTIONS: u64 = 100;
    const PIECES: u64 = 10;
    let bed = Bed::new();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                let now = bed.total(SENT);
                assert!(now >= seen, "a counter went back from {seen} to {now}");
                seen = now;
            }
        });
        let carry = || {
            for _ in 0..CONNECTIONS {
                let record = bed.open();
                for _ in 0..PIECES {
                    record.progress().add_sent(3);
                    record.progress().add_received(2);
                }
                thread::yield_now();
                record.close(CloseReason::Finished);
            }
        };
        let carriers: Vec<_> = (0..THREADS).map(|_| scope.spawn(carry)).collect();
        for carrier in carriers {
            carrier.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        scraper.join().unwrap();
    });
    let pieces = THREADS * CONNECTIONS * PIECES;
    assert_eq!(bed.total(SENT), 3 * pieces);
    assert_eq!(bed.total(RECEIVED), 2 * pieces);
    assert_eq!(bed.total(CLOSED), THREADS * CONNECTIONS);
}

#[tokio::test]
async fn what_is_not_allowed_any_more_is_told_so_and_says_so() {
    let bed = Bed::new();
    let (kept, cut) = (bed.open(), bed.open_while_allowed());
    let signal = tokio::spawn(cut.cut_signal());
    bed.pod
        .connections()
        .recheck(&Arc::default(), &bed.client)
        .await;
    assert!(!signal.is_finished());
    // Another service account.
    let changed = pod("client-1", "intruder");
    bed.pod
        .connections()
        .recheck(&Arc::default(), &changed)
        .await;
    assert_eq!(cut.cut().await, CutReason::PolicyChanged);
    assert_eq!(signal.await.unwrap(), CutReason::PolicyChanged);
    let lines = access_lines(|| drop(cut));
    assert_eq!(field(&lines[0], "flags"), "POLICY_CHANGED");
    assert!(
        tokio::time::timeout(Duration::from_millis(20), kept.cut())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn whoever_waits_is_woken_by_the_signal() {
    let bed = Bed::new();
    let record = bed.open();
    let table = Arc::clone(bed.pod.connections());
    let waiting = tokio::spawn(async move {
        let reason = record.cut().await;
        record.cut_off(reason);
    });
    tokio::task::yield_now().await;
    table.cut_all(CutReason::ProxyStopped);
    waiting.await.unwrap();
    assert_eq!(
        bed.counted(CLOSED, &["response_flags=\"PROXY_STOPPED\""]),
        Some(1)
    );
}

#[tokio::test]
async fn what_was_decided_before_a_change_and_opened_after_it_is_cut_at_once() {
    let bed = Bed::new();
    bed.pod
        .connections()
        .recheck(&Arc::default(), &pod("client-1", "intruder"))
        .await;
    let late = bed.open_while_allowed();
    assert_eq!(late.cut().await, CutReason::PolicyChanged);
    bed.pod.connections().cut_all(CutReason::ProxyStopped);
    assert_eq!(bed.open().cut().await, CutReason::ProxyStopped);
    // The reason that came first stays.
    assert_eq!(late.cut().await, CutReason::PolicyChanged);
}
