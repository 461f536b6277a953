//! Many at once.

use weft_tests::manifest::PodSpec;
use weft_tests::mesh::MeshBuilder;

use super::{LIMIT, at, shop};

#[test]
fn two_thousand_connections_are_open_at_once_and_each_is_its_own() {
    let mut mesh = shop().start().unwrap();
    for peer in ["web-2", "web-1"] {
        mesh.serve(peer, &["echo", "--listen", "[::]:9500"])
            .unwrap();
        let to = format!("--to={}", at(&mesh, peer, 9500));
        let line = ["hold", &to, "--connections=2000"];
        let report = mesh.report("client", &line).unwrap();
        assert_eq!(report["held"], 2000, "{peer}: {report}");
        assert_eq!(report["checked"]["ok"], 2000, "{peer}: {report}");
    }
}

#[test]
fn every_original_destination_is_right_when_four_pods_connect_to_fifty_at_once() {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("a", 1))
        .pod(PodSpec::new("b", 1))
        .pod(PodSpec::new("c", 2))
        .pod(PodSpec::new("d", 2))
        .pod(PodSpec::new("servers", 2).outside())
        .start()
        .unwrap();
    let line = ["identify", "--listen", "[::]:9600", "--ports=25"];
    mesh.serve("servers", &line).unwrap();
    let mut line = vec!["destinations".to_owned(), "--connections=500".to_owned()];
    for address in mesh.pod("servers").unwrap().host.addresses() {
        let to = |port| format!("--to={}", std::net::SocketAddr::new(address, port));
        line.extend((9600..9625).map(to));
    }
    let line: Vec<_> = line.iter().map(String::as_str).collect();
    let clients = ["a", "b", "c", "d"].map(|pod| (pod, mesh.spawn(pod, &line).unwrap()));
    for (pod, client) in clients {
        let report = weft_tests::mesh::parse_report(&client.finish(LIMIT).unwrap()).unwrap();
        assert_eq!(report["tally"]["ok"], 500, "{pod}: {report}");
    }
}
