//! Much of everything: bytes, connections, destinations.

use std::fmt::Write as _;

use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{MeshBuilder, parse_report};
use weft_tests::wait_until;

use super::{LIMIT, address, addresses, assert_all_ok, shop};

#[test]
fn a_gibibyte_goes_both_ways_unharmed() {
    let mut mesh = shop().start().unwrap();
    let bytes = 1u64 << 30;
    for (pod, node) in [("web-1", 1), ("web-2", 2)] {
        mesh.serve(pod, &["exchange-server", "--listen", "[::]:9000"])
            .unwrap();
        let to = format!("--to={}", address(&mesh, pod, 9000));
        let report = mesh
            .report("client", &["exchange", &to, &format!("--bytes={bytes}")])
            .unwrap();
        assert_eq!(report["arrived_there"], true, "{pod}: {report}");
        assert_eq!(report["arrived_here"], true, "{pod}: {report}");
        for (node, direction) in [(1, "outbound"), (node, "inbound")] {
            let counted = mesh.wait_record(node, |record| {
                record.direction == direction
                    && record.destination_workload.as_deref() == Some(pod)
                    // Header and digest beside the bytes.
                    && (record.bytes_sent, record.bytes_received) == (bytes + 16, bytes + 32)
            });
            counted.unwrap();
        }
    }
}

#[test]
fn two_thousand_connections_at_once_each_get_their_own_bytes_back() {
    let mut mesh = shop().start().unwrap();
    for pod in ["web-1", "web-2"] {
        mesh.serve(pod, &["echo", "--listen", "[::]:9000"]).unwrap();
        let to = format!("--to={}", address(&mesh, pod, 9000));
        let arguments = ["hold", &to, "--connections=2000", "--wait"];
        let mut client = mesh.spawn("client", &arguments).unwrap();
        client.wait_for_text("all open", LIMIT).unwrap();
        let open: serde_json::Value =
            serde_json::from_str(&mesh.agent_get(1, "/connections").unwrap()).unwrap();
        assert!(open.as_array().unwrap().len() >= 2000);
        let report = parse_report(&client.finish(LIMIT).unwrap()).unwrap();
        assert_all_ok(&report["opened"], 2000);
        assert_all_ok(&report["checked"], 2000);
    }
    for node in [1, 2] {
        wait_until("every connection to be over", LIMIT, || {
            mesh.agent_get(node, "/connections").unwrap().trim() == "[]"
        })
        .unwrap();
    }
}

/// The hard part of capture: the destination of each of many simultaneous connections.
#[test]
fn every_original_destination_is_right_under_parallel_connects() {
    const CLIENTS: [&str; 4] = ["client-1", "client-2", "client-3", "client-4"];
    const SERVERS: [&str; 3] = ["server-1", "server-2", "server-3"];
    let mut builder = MeshBuilder::new(2);
    for (client, node) in CLIENTS.into_iter().zip([1, 1, 2, 2]) {
        builder = builder.pod(PodSpec::new(client, node));
    }
    for (server, node) in SERVERS.into_iter().zip([1, 2, 2]) {
        let pod = PodSpec::new(server, node);
        // One of them outside the mesh.
        builder = builder.pod(if server == "server-3" {
            pod.outside()
        } else {
            pod
        });
    }
    // Ten services, each for one port of one server, so that the answer says which
    // service was dialled.
    for number in 0..10u16 {
        let (name, vip) = (
            format!("service-{number}"),
            format!("10.96.1.{}", number + 1),
        );
        builder = builder.service(&name, &[&vip], "server-2", &[(80, 9100 + number)]);
    }
    let mut mesh = builder.start().unwrap();
    for server in SERVERS {
        mesh.serve(server, &["identify", "--listen", "[::]:9100", "--ports=10"])
            .unwrap();
    }
    let mut destinations = Vec::new();
    for port in 9100..9110 {
        destinations.extend(addresses(&mesh, "server-1", port).map(|to| format!("--to={to}")));
        destinations.extend(
            ["server-2", "server-3"].map(|pod| format!("--to={}", address(&mesh, pod, port))),
        );
        let service = port - 9100 + 1;
        destinations.push(format!(
            "--to=10.96.1.{service}:80={}",
            address(&mesh, "server-2", port)
        ));
    }
    assert_eq!(destinations.len(), 50);
    let clients: Vec<_> = CLIENTS
        .into_iter()
        .map(|client| {
            let own = addresses(&mesh, client, 0).map(|address| format!("--from={}", address.ip()));
            let mut arguments = vec!["destinations", "--connections=500"];
            arguments.extend(destinations.iter().chain(&own).map(String::as_str));
            mesh.spawn(client, &arguments).unwrap()
        })
        .collect();
    let mut wrong = String::new();
    for client in clients {
        let name = client.name().to_owned();
        let report = parse_report(&client.finish(LIMIT).unwrap()).unwrap();
        if report["tally"]["ok"] != 500 {
            writeln!(wrong, "{name}: {report}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
