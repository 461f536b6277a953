//! What is carried arrives whole, and ends as it was ended.

use weft_tests::manifest::PodSpec;

use super::{at, shop};

const GIBIBYTE: &str = "--bytes=1073741824";

/// Every path that bytes can take: another node, the same node, outside the mesh.
const PEERS: [&str; 3] = ["web-2", "web-1", "outside"];

#[test]
fn a_gibibyte_both_ways_at_once_arrives_unchanged() {
    let mut mesh = shop().start().unwrap();
    for peer in ["web-2", "web-1"] {
        let line = ["exchange-server", "--listen", "[::]:9100"];
        mesh.serve(peer, &line).unwrap();
        let to = format!("--to={}", at(&mesh, peer, 9100));
        let report = mesh.report("client", &["exchange", &to, GIBIBYTE]).unwrap();
        let whole = report["arrived_there"] == true && report["arrived_here"] == true;
        assert!(whole, "{peer}: {report}");
    }
}

#[test]
fn a_half_closed_connection_still_carries_the_other_direction() {
    let mut mesh = shop().start().unwrap();
    for peer in PEERS {
        let line = ["count-server", "--listen", "[::]:9200"];
        mesh.serve(peer, &line).unwrap();
        let to = format!("--to={}", at(&mesh, peer, 9200));
        let report = mesh.report("client", &["half-close", &to]).unwrap();
        let answer = report["answer"].as_str().unwrap();
        assert!(answer.contains("1000000"), "{peer}: {report}");
        let line = ["farewell-server", "--listen", "[::]:9201"];
        mesh.serve(peer, &line).unwrap();
        let to = format!("--to={}", at(&mesh, peer, 9201));
        let report = mesh.report("client", &["send-after-end", &to]).unwrap();
        assert_eq!(report["sent"], 1_000_000, "{peer}: {report}");
        assert_ne!(report["answer"], "", "{peer}: {report}");
    }
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once() {
    let mut mesh = shop().start().unwrap();
    for peer in PEERS {
        let line = ["talk-first", "--listen", "[::]:9300"];
        mesh.serve(peer, &line).unwrap();
        let to = format!("--to={}", at(&mesh, peer, 9300));
        let report = mesh.report("client", &["listen", &to]).unwrap();
        assert_ne!(report["greeting"], "", "{peer}: {report}");
        assert_ne!(report["echoed"], "", "{peer}: {report}");
    }
}

#[test]
fn excluded_ports_and_blocks_go_past_the_proxy() {
    let client = PodSpec::new("client", 1)
        .annotation("weft.dev/exclude-outbound-ports", "9400")
        .annotation("weft.dev/exclude-outbound-cidrs", "fd00:10:244:2::/64");
    let mut mesh = weft_tests::mesh::MeshBuilder::new(2)
        .pod(client)
        .pod(PodSpec::new("server", 2).outside())
        .start()
        .unwrap();
    let line = ["identify", "--listen", "[::]:9400", "--ports=2"];
    mesh.serve("server", &line).unwrap();
    let call = |to: std::net::SocketAddr| {
        let to = format!("--to={to}");
        let line = ["destinations", "--connections=1", &to];
        let report = mesh.report("client", &line).unwrap();
        assert_eq!(report["tally"]["ok"], 1, "{report}");
    };
    let ipv6 = mesh.pod("server").unwrap().host.ipv6();
    call(at(&mesh, "server", 9400));
    call((ipv6, 9401).into());
    call(at(&mesh, "server", 9401));
    let captured = mesh
        .wait_record(1, |record| record.direction == "outbound")
        .unwrap();
    assert_eq!(
        captured.original_destination,
        Some(at(&mesh, "server", 9401))
    );
    assert_eq!(mesh.access_records(1).unwrap().len(), 1);
}
