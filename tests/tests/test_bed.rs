//! The test bed itself, without a mesh: do its nodes and pods reach each other, and is
//! everything gone afterwards?

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use weft_tests::packets::{Capture, marker};
use weft_tests::process::{Place, Process};
use weft_tests::topology::Topology;

const APP: &str = env!("CARGO_BIN_EXE_weft-test-app");
const LIMIT: Duration = Duration::from_secs(20);

fn serve(place: &Place, logs: &Path, mode: &[&str]) -> Process {
    let mut server = place
        .spawn("server", logs, &[&[APP], mode].concat())
        .unwrap();
    server.wait_for_text("listening", LIMIT).unwrap();
    server
}

#[test]
fn pods_reach_each_other_within_a_node_and_across_nodes_in_both_families() {
    let logs = tempfile::tempdir().unwrap();
    let mut topology = Topology::create(2).unwrap();
    for (pod, node) in [("a", 1), ("b", 1), ("c", 2)] {
        topology.add_pod(pod, node).unwrap();
    }
    let _servers = ["b", "c"].map(|pod| {
        let place = topology.pod(pod).unwrap().host.place();
        serve(place, logs.path(), &["identify", "--listen", "[::]:8080"])
    });
    let client = topology.pod("a").unwrap();
    for server in ["b", "c"] {
        for address in topology.pod(server).unwrap().host.addresses() {
            let to = format!("--to={}", std::net::SocketAddr::new(address, 8080));
            let from = client
                .host
                .addresses()
                .map(|address| format!("--from={address}"));
            let line = [
                APP,
                "destinations",
                "--connections=3",
                &to,
                &from[0],
                &from[1],
            ];
            let report = client.host.place().output(&line, LIMIT).unwrap();
            let report = weft_tests::mesh::parse_report(&report).unwrap();
            assert_eq!(report["tally"]["ok"], 3, "{server} at {address}: {report}");
        }
    }
}

#[test]
fn a_capture_sees_what_crosses_the_fabric_and_nothing_else() {
    let logs = tempfile::tempdir().unwrap();
    let mut topology = Topology::create(2).unwrap();
    for (pod, node) in [("a", 1), ("b", 1), ("c", 2)] {
        topology.add_pod(pod, node).unwrap();
    }
    let capture = Capture::start(&topology, logs.path()).unwrap();
    let mut markers = Vec::new();
    for server in ["b", "c"] {
        let host = &topology.pod(server).unwrap().host;
        let _server = serve(
            host.place(),
            logs.path(),
            &["http", "--listen=[::]:8080", "--name=x"],
        );
        let marker = marker(server);
        let url = format!("http://{}:8080/{marker}", host.ipv4());
        let place = topology.pod("a").unwrap().host.place();
        let answer = place
            .output(&["curl", "-sS", "--max-time", "10", &url], LIMIT)
            .unwrap();
        assert!(answer.contains(&marker), "{answer}");
        markers.push(marker);
    }
    let packets = capture.finish(&topology).unwrap();
    assert!(
        !packets.contain(&markers[0]),
        "within a node nothing crosses the fabric"
    );
    assert!(
        packets.contain(&markers[1]),
        "plaintext across nodes is visible"
    );
    let between = ["a", "c"].map(|pod| topology.pod(pod).unwrap().host.ipv4());
    assert!(packets.count(between, 8080).unwrap() > 0);
    assert_eq!(packets.count(between, 15008).unwrap(), 0);
}

#[test]
fn two_gigabits_of_checksummed_bytes_arrive_both_ways() {
    let logs = tempfile::tempdir().unwrap();
    let mut topology = Topology::create(1).unwrap();
    topology.add_pod("a", 1).unwrap();
    topology.add_pod("b", 1).unwrap();
    let server = &topology.pod("b").unwrap().host;
    let _server = serve(
        server.place(),
        logs.path(),
        &["exchange-server", "--listen=[::]:9000"],
    );
    let to = format!("--to={}:9000", server.ipv4());
    let place = topology.pod("a").unwrap().host.place();
    let report = place
        .output(&[APP, "exchange", &to, "--bytes=256000001"], LIMIT)
        .unwrap();
    assert!(
        report.contains(r#""arrived_here":true,"arrived_there":true"#),
        "{report}"
    );
}

/// Names under which a topology could leave something.
fn traces(run: &str) -> Vec<PathBuf> {
    let cgroups = weft_provision::cgroup2::root().unwrap();
    let pins = Path::new("/sys/fs/bpf");
    let directories = [
        pins,
        Path::new("/run/netns"),
        &cgroups,
        &std::env::temp_dir(),
    ];
    let entries = directories
        .into_iter()
        .flat_map(|directory| std::fs::read_dir(directory).into_iter().flatten().flatten());
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(run));
    ours.map(|entry| entry.path()).collect()
}

#[test]
fn nothing_is_left_after_a_panic() {
    let logs = tempfile::tempdir().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let directory = logs.path().to_path_buf();
    let test = std::thread::spawn(move || {
        let mut topology = Topology::create(1).unwrap();
        topology.add_pod("a", 1).unwrap();
        // As far as the test bed knows: something that an agent has pinned.
        std::fs::create_dir_all(topology.run().pin_directory("node-1")).unwrap();
        let place = topology.pod("a").unwrap().host.place();
        let server = serve(place, &directory, &["echo", "--listen=[::]:8080"]);
        sender
            .send((topology.run().name(""), server.pid()))
            .unwrap();
        // A process that nobody holds any more, as a careless test would leave.
        std::mem::forget(server);
        panic!("a test fails");
    });
    assert!(test.join().is_err());
    let (run, pid) = receiver.recv().unwrap();
    assert_eq!(traces(&run), Vec::<PathBuf>::new());
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(
        stat.is_empty() || stat.contains(") Z "),
        "the server still runs: {stat}"
    );
}

#[test]
fn a_process_reports_its_failure_with_what_it_wrote() {
    let mut topology = Topology::create(1).unwrap();
    let place = topology.add_pod("a", 1).unwrap().host.place().clone();
    let error = place
        .output(&["ls", "/does-not-exist"], LIMIT)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/does-not-exist") && error.contains("No such file"),
        "{error}"
    );
    let error = place
        .output(&["sleep", "60"], Duration::from_millis(50))
        .unwrap_err();
    assert!(error.to_string().contains("sleep 60"), "{error}");
}
