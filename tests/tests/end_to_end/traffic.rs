//! Where connections go, what protects them on the way, and whom the server sees.

use std::net::SocketAddr;

use serde_json::json;
use weft_tests::access_log::AccessRecord;
use weft_tests::manifest::PodSpec;
use weft_tests::mesh::MeshBuilder;
use weft_tests::wait_until;

use super::{LIMIT, address, addresses, curl, identity, record, serve_web, shop};

#[test]
fn pods_on_one_node_and_on_two_are_reached_by_address_in_both_families() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    for (pod, node, path, security) in [
        ("web-1", 1, "same-node", "same_node"),
        ("web-2", 2, "cross-node", "mutual_tls"),
    ] {
        for to in addresses(&mesh, pod, 8080) {
            let answer = curl(&mesh, "client", to).unwrap();
            assert_eq!(answer.name, pod);
            for (node, direction) in [(1, "outbound"), (node, "inbound")] {
                let record = record(&mesh, node, direction, &answer);
                assert_eq!(
                    (&*record.path, &*record.security),
                    (path, security),
                    "{record:#?}"
                );
                assert_eq!(record.source_identity, identity("client"), "{record:#?}");
                assert_eq!(record.destination_identity, identity(pod), "{record:#?}");
                assert_eq!(record.original_destination, Some(to), "{record:#?}");
                assert_eq!(record.flags, "-", "{record:#?}");
                assert!(
                    record.bytes_sent > 0 && record.bytes_received > 0,
                    "{record:#?}"
                );
                assert_tcp_statistics(&record);
            }
        }
    }
}

/// Asserts that the kernel was asked about both ends.
fn assert_tcp_statistics(record: &AccessRecord) {
    let measured = |rtt: Option<u64>| rtt.is_some_and(|rtt| rtt > 0);
    assert!(measured(record.downstream_rtt_us), "{record:#?}");
    assert!(measured(record.upstream_rtt_us), "{record:#?}");
    let delivered = record.upstream_delivered_bytes.unwrap_or_default();
    assert!(delivered >= record.bytes_sent, "{record:#?}");
}

#[test]
fn a_namespace_chooses_the_fields_of_its_access_log_while_the_mesh_runs() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1"]);
    let ask = || {
        let answer = curl(&mesh, "client", address(&mesh, "web-1", 8080)).unwrap();
        record(&mesh, 1, "outbound", &answer)
    };
    assert!(ask().original_destination.is_some());
    let fields = "direction path security source.address bytes_sent bytes_received duration_us";
    let fields: Vec<_> = fields.split(' ').chain(["flags"]).collect();
    let access_log = json!({ "fields": fields }).to_string();
    let annotations = json!({ "weft.dev/access-log": access_log });
    mesh.manifests()
        .write_namespace("default", &annotations)
        .unwrap();
    wait_until("lines have the chosen fields alone", LIMIT, || {
        let record = ask();
        record.original_destination.is_none() && record.upstream_rtt_us.is_none()
    })
    .unwrap();
}

#[test]
fn the_server_sees_its_real_client() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    for (from, to) in [
        ("client", "web-1"),
        ("client", "web-2"),
        ("outside", "web-1"),
        ("outside", "web-2"),
    ] {
        let pairs = addresses(&mesh, to, 8080)
            .into_iter()
            .zip(addresses(&mesh, from, 0));
        for (to, from_address) in pairs {
            let answer = curl(&mesh, from, to).unwrap();
            let client = SocketAddr::new(from_address.ip(), answer.client_port);
            assert_eq!(answer.peer, client, "{from} -> {to}");
        }
    }
}

#[test]
fn a_cluster_address_reaches_every_endpoint_in_its_own_family() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    for service in ["10.96.0.10:80", "[fd00:10:96::10]:80"] {
        let service: SocketAddr = service.parse().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        // Which endpoint is chosen is up to load; each is chosen at some time.
        for _ in 0..200 {
            let answer = curl(&mesh, "client", service).unwrap();
            assert_eq!(answer.peer.is_ipv4(), service.is_ipv4());
            seen.insert(answer.name);
            if seen.len() == 2 {
                break;
            }
        }
        assert_eq!(seen.len(), 2, "{seen:?}");
    }
}

#[test]
fn a_headless_services_endpoints_are_reached_inside_the_mesh() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    // What its name resolves to: the pods' own addresses.
    for pod in ["web-1", "web-2"] {
        let answer = curl(&mesh, "client", address(&mesh, pod, 8080)).unwrap();
        let record = record(&mesh, 1, "outbound", &answer);
        assert_eq!(record.destination_identity, identity(pod), "{record:#?}");
    }
}

#[test]
fn what_is_outside_the_mesh_is_reached_in_the_clear_and_reaches_it_so() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "outside"]);
    for to in addresses(&mesh, "outside", 8080) {
        let answer = curl(&mesh, "client", to).unwrap();
        let record = record(&mesh, 1, "outbound", &answer);
        assert_eq!(
            (&*record.path, &*record.security),
            ("outside", "plaintext"),
            "{record:#?}"
        );
        assert_eq!(record.destination_identity, None, "{record:#?}");
    }
    for to in addresses(&mesh, "web-1", 8080) {
        let answer = curl(&mesh, "outside", to).unwrap();
        let record = record(&mesh, 1, "inbound", &answer);
        assert_eq!(
            (&*record.path, &*record.security),
            ("outside", "plaintext"),
            "{record:#?}"
        );
        assert_eq!(record.source_identity, None, "{record:#?}");
    }
}

#[test]
fn a_client_sees_its_pods_address_as_its_own() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2", "outside"]);
    let own = addresses(&mesh, "client", 0);
    for pod in ["web-1", "web-2", "outside"] {
        for (to, own) in addresses(&mesh, pod, 8080).into_iter().zip(&own) {
            let url = format!("http://{to}/");
            let line = ["curl", "-sS", "-o", "/dev/null", "-w", "%{local_ip}", &url];
            let named = mesh.run("client", &line).unwrap();
            assert_eq!(named, own.ip().to_string(), "{to}");
        }
    }
}

#[test]
fn excluded_ports_and_address_blocks_are_left_alone() {
    let client = |name| PodSpec::new(name, 1);
    let mut mesh = MeshBuilder::new(2)
        .pod(client("by-port").annotation("weft.dev/exclude-outbound-ports", "9999,8080"))
        .pod(client("by-block").annotation(
            "weft.dev/exclude-outbound-cidrs",
            "10.244.2.0/24,fd00:10:244:2::/64",
        ))
        .pod(PodSpec::new("web", 2))
        .start()
        .unwrap();
    serve_web(&mut mesh, &["web"]);
    for from in ["by-port", "by-block"] {
        for to in addresses(&mesh, "web", 8080) {
            let answer = curl(&mesh, from, to).unwrap();
            let record = record(&mesh, 2, "inbound", &answer);
            assert_eq!(record.security, "plaintext", "{from} -> {to}: {record:#?}");
        }
    }
    let records = mesh.access_records(1).unwrap();
    assert!(records.is_empty(), "{records:#?}");
}

#[test]
fn a_port_that_nobody_listens_on_refuses_wherever_it_is() {
    let mesh = shop().start().unwrap();
    for pod in ["web-1", "web-2", "outside"] {
        for to in addresses(&mesh, pod, 8081) {
            let error = curl(&mesh, "client", to).unwrap_err().to_string();
            let refused = ["Connection reset", "Couldn't connect", "Empty reply"];
            assert!(
                refused.iter().any(|text| error.contains(text)),
                "{to}: {error}"
            );
        }
    }
}

#[test]
fn where_nobody_listens_connect_itself_is_refused_from_everywhere() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    for pod in ["web-1", "web-2"] {
        for (closed, open) in addresses(&mesh, pod, 8081)
            .into_iter()
            .zip(addresses(&mesh, pod, 8080))
        {
            for from in ["client", "outside"] {
                let error = curl(&mesh, from, closed).unwrap_err().to_string();
                assert!(error.contains("curl: (7)"), "{from} -> {closed}: {error}");
                curl(&mesh, from, open).unwrap();
            }
        }
    }
}

#[test]
fn a_service_without_ready_endpoints_is_refused_at_once() {
    let mesh = shop()
        .service("nobody", &["10.96.0.99"], "nobody", &[(80, 8080)])
        .start()
        .unwrap();
    curl(&mesh, "client", "10.96.0.99:80".parse().unwrap()).unwrap_err();
    mesh.wait_record(1, |record| record.flags == "NO_ENDPOINT")
        .unwrap();
}

#[test]
fn nothing_stays_open_after_requests_have_ended() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    for pod in ["web-1", "web-2"] {
        for _ in 0..20 {
            curl(&mesh, "client", address(&mesh, pod, 8080)).unwrap();
        }
    }
    for node in [1, 2] {
        let open = || mesh.agent_get(node, "/connections").unwrap();
        let closed = wait_until("no connection to be open", LIMIT, || open().trim() == "[]");
        closed.unwrap_or_else(|error| panic!("{error}: {}", open()));
    }
}
