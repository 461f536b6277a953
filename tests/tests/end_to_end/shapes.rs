//! The same whichever shape the proxies of client and server have: in the agents of their nodes, or
//! in the pods themselves.

use std::collections::BTreeMap;

use serde_json::json;
use weft_tests::access_log::AccessRecord;
use weft_tests::manifest::{PodSpec, Shape};
use weft_tests::mesh::{Mesh, MeshBuilder};
use weft_tests::{wait_for, wait_until};

use super::requests::{ask, backend, is_refused_for, policy, prefix, route, service};
use super::{LIMIT, address, addresses, curl, identity};

#[test]
fn from_an_agents_pod_to_an_agents_pod() {
    check(Shape::Node, Shape::Node);
}

#[test]
fn from_a_sidecar_to_a_sidecar() {
    check(Shape::Sidecar, Shape::Sidecar);
}

#[test]
fn from_an_agents_pod_to_a_sidecar() {
    check(Shape::Node, Shape::Sidecar);
}

#[test]
fn from_a_sidecar_to_an_agents_pod() {
    check(Shape::Sidecar, Shape::Node);
}

fn check(client: Shape, server: Shape) {
    let mut mesh = bed(client, server);
    connections_carry_identities_both_ways(&mesh, [client, server]);
    requests_follow_their_routes_and_are_tried_again(&mesh);
    requests_are_counted_alike(&mesh, [client, server]);
    requests_over_their_limit_are_refused(&mesh);
    network_policies_refuse_the_others(&mesh);
    strict_pods_refuse_plaintext(&mut mesh);
    ports_have_modes_of_their_own(&mut mesh, server);
}

/// A client, somebody else and a pod outside the mesh on the first node; two versions of a web
/// server on the second, behind one Service and one each.
fn bed(client: Shape, server: Shape) -> Mesh {
    let version = |name: &str| {
        let pod = PodSpec::new(name, 2).shape(server);
        pod.label("app", "web").label("version", name)
    };
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("client", 1).shape(client))
        .pod(PodSpec::new("other", 1).shape(client))
        .pod(PodSpec::new("outside", 1).outside())
        .pod(version("v1"))
        .pod(version("v2"))
        .start()
        .unwrap();
    service(&mesh, "web", "10.96.0.10", &json!({ "app": "web" }));
    service(&mesh, "v1", "10.96.0.11", &json!({ "version": "v1" }));
    service(&mesh, "v2", "10.96.0.12", &json!({ "version": "v2" }));
    for pod in ["v1", "v2"] {
        let line = ["web", "--listen", "[::]:8080", "--name", pod];
        mesh.serve(pod, &line).unwrap();
        let line = ["http", "--listen", "[::]:9090", "--name", pod];
        mesh.serve(pod, &line).unwrap();
    }
    wait_for("an answer", LIMIT, || match ask(&mesh, "/", &[]) {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .unwrap();
    mesh
}

/// The record of a pod's proxy of a connection, once it has ended.
fn record(mesh: &Mesh, pod: &str, fits: impl Fn(&AccessRecord) -> bool) -> AccessRecord {
    wait_for("an access record", LIMIT, || {
        let records = mesh.access_records_of(pod).unwrap();
        let found = records.iter().rev().find(|record| fits(record)).cloned();
        found.ok_or_else(|| format!("{records:?}"))
    })
    .unwrap()
}

/// By address, in either family, on a port that no Service declares.
fn connections_carry_identities_both_ways(mesh: &Mesh, shapes: [Shape; 2]) {
    for to in addresses(mesh, "v1", 9090) {
        let answer = curl(mesh, "client", to).unwrap();
        assert_eq!(answer.name, "v1");
        let port = answer.client_port;
        let is_it = |record: &AccessRecord, direction: &str| {
            record.direction == direction
                && record
                    .source_address
                    .is_some_and(|from| from.port() == port)
                && record.destination_address.is_some_and(|at| at == to)
        };
        let out = record(mesh, "client", |record| is_it(record, "outbound"));
        let into = record(mesh, "v1", |record| is_it(record, "inbound"));
        for record in [&out, &into] {
            assert_eq!(record.security, "mutual_tls", "{record}");
            assert_eq!(record.path, "cross-node", "{record}");
            assert_eq!(record.flags, "-", "{record}");
            assert_eq!(record.source_workload.as_deref(), Some("client"));
            assert_eq!(record.destination_workload.as_deref(), Some("v1"));
            assert_eq!(record.destination_identity, identity("v1"), "{record}");
            assert_eq!(record.source_identity, identity("client"), "{record}");
        }
        let components = [out.component.as_str(), &into.component];
        assert_eq!(components, shapes.map(component));
        assert_eq!(out.original_destination, Some(to));
        assert_eq!(out.bytes_received, into.bytes_received);
    }
}

fn requests_follow_their_routes_and_are_tried_again(mesh: &Mesh) {
    let second = json!({
        "matches": prefix("/second"), "backendRefs": [backend("v2", 1)],
        "filters": [{ "type": "RequestHeaderModifier", "requestHeaderModifier": {
            "set": [{ "name": "x-set", "value": "1" }] } }],
    });
    let retried = json!({
        "matches": prefix("/retried"), "backendRefs": [backend("v1", 1)],
        "retry": { "codes": [503], "attempts": 2, "backoff": "10ms" },
    });
    let first = json!({ "matches": prefix("/first"), "backendRefs": [backend("v1", 1)] });
    route(mesh, "HTTPRoute", vec![second, retried, first]);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let answer = ask(mesh, "/second/page", &[version]).unwrap();
        assert_eq!(answer.header("x-test-server"), Some("v2"), "{answer:?}");
        assert_eq!(answer.seen()["headers"]["x-set"][0], "1");
        let path = format!("/retried?fail-first=2&key={}", version.len());
        let answer = ask(mesh, &path, &["-d", "keep me", version]).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.seen()["received"], 7);
        assert_eq!(ask(mesh, "/nowhere", &[version]).unwrap().status, 404);
    }
}

/// The one label by which the two shapes differ.
fn component(shape: Shape) -> &'static str {
    match shape {
        Shape::Node => "node-agent",
        Shape::Sidecar => "sidecar",
    }
}

/// Both sides count a request by the same labels, all of which are these whatever the shape.
fn requests_are_counted_alike(mesh: &Mesh, shapes: [Shape; 2]) {
    // Who receives doesn't know by which Service it was chosen.
    let service = ["v2.default.svc.cluster.local", "v2", "default"];
    let sides = [
        ("client", "source", service),
        ("v2", "destination", ["unknown"; 3]),
    ];
    for ((pod, reporter, service), shape) in sides.into_iter().zip(shapes) {
        let expected = BTreeMap::from([
            ("component", component(shape)),
            ("reporter", reporter),
            ("source_workload", "client"),
            ("source_workload_namespace", "default"),
            (
                "source_principal",
                "spiffe://cluster.local/ns/default/sa/client",
            ),
            ("source_app", "client"),
            ("source_version", "unknown"),
            ("source_canonical_service", "client"),
            ("source_canonical_revision", "latest"),
            ("source_cluster", "Kubernetes"),
            ("destination_workload", "v2"),
            ("destination_workload_namespace", "default"),
            (
                "destination_principal",
                "spiffe://cluster.local/ns/default/sa/v2",
            ),
            ("destination_app", "web"),
            ("destination_version", "v2"),
            ("destination_canonical_service", "web"),
            ("destination_canonical_revision", "v2"),
            ("destination_cluster", "Kubernetes"),
            ("destination_service", service[0]),
            ("destination_service_name", service[1]),
            ("destination_service_namespace", service[2]),
            ("request_protocol", "http"),
            ("response_flags", "-"),
            ("connection_security_policy", "mutual_tls"),
            ("response_code", "200"),
            ("grpc_response_status", ""),
        ]);
        wait_for("the request to be counted", LIMIT, || {
            let metrics = mesh.proxy_get(pod, "/metrics").unwrap();
            let build = format!("istio_build{{component=\"{}\",", component(shape));
            assert!(metrics.contains(&build), "{metrics}");
            let lines = metrics.lines();
            let series: Vec<_> = lines.filter_map(labels_of_requests).collect();
            match series.contains(&expected) {
                true => Ok(()),
                false => Err(format!("{series:#?}")),
            }
        })
        .unwrap();
    }
}

/// The labels of a series of requests.
fn labels_of_requests(line: &str) -> Option<BTreeMap<&str, &str>> {
    let rest = line.strip_prefix("istio_requests_total{")?;
    let (labels, _) = rest.split_once("} ")?;
    let labels = labels.strip_suffix('"')?.split("\",");
    Some(labels.filter_map(|label| label.split_once("=\"")).collect())
}

fn requests_over_their_limit_are_refused(mesh: &Mesh) {
    let limit = json!({ "rateLimit": { "local": { "requests": 2, "interval": "1h" } } });
    policy(mesh, "v2", limit, || {
        let refused = ask(mesh, "/second", &[]);
        refused.is_ok_and(|answer| answer.status == 429)
    });
    // Of the other version nothing is limited.
    assert_eq!(ask(mesh, "/first", &[]).unwrap().status, 200);
    assert!(!is_refused_for(mesh, "RATE_LIMITED"));
    // Who has no proxy is limited where it arrives: by half as much again, and one.
    let url = format!("http://{}/", address(mesh, "v2", 8080));
    let line = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", &url];
    let statuses: Vec<_> = (0..6)
        .map(|_| mesh.run("outside", &line).unwrap())
        .collect();
    assert_eq!(statuses, ["200", "200", "200", "200", "429", "429"]);
}

fn network_policies_refuse_the_others(mesh: &Mesh) {
    let to = address(mesh, "v1", 9090);
    assert!(curl(mesh, "other", to).is_ok());
    let clients = json!([{ "podSelector": { "matchLabels": { "app": "client" } } }]);
    let rules = json!({
        "podSelector": { "matchLabels": { "version": "v1" } },
        "ingress": [{ "from": clients }],
    });
    let manifests = mesh.manifests();
    manifests.write_network_policy("v1", &rules).unwrap();
    let is_refused = || curl(mesh, "other", to).is_err();
    wait_until("the policy to refuse", LIMIT, is_refused).unwrap();
    assert!(curl(mesh, "client", to).is_ok());
    manifests.remove("network-policy-v1").unwrap();
    let is_reached = || curl(mesh, "other", to).is_ok();
    wait_until("the policy to be gone", LIMIT, is_reached).unwrap();
}

fn strict_pods_refuse_plaintext(mesh: &mut Mesh) {
    for to in addresses(mesh, "v1", 9090) {
        assert_eq!(curl(mesh, "outside", to).unwrap().name, "v1");
    }
    mesh.apply_strict(true).unwrap();
    for to in addresses(mesh, "v1", 9090) {
        let is_refused = || curl(mesh, "outside", to).is_err();
        wait_until("plaintext to be refused", LIMIT, is_refused).unwrap();
        assert_eq!(curl(mesh, "client", to).unwrap().name, "v1");
        let refused = record(mesh, "v1", |record| {
            record.direction == "inbound"
                && record.security == "plaintext"
                && record.flags != "-"
                && record.destination_address == Some(to)
        });
        assert_eq!(
            refused.source_workload.as_deref(),
            Some("outside"),
            "{refused}"
        );
    }
    // Nor is there a way past the proxy by one of its own ports.
    for port in [15001, 15006] {
        let to = address(mesh, "v1", port);
        assert!(curl(mesh, "outside", to).is_err(), "{to}");
    }
}

/// Of a strict pod: a port that takes plaintext, one that its clients send plaintext, and back.
fn ports_have_modes_of_their_own(mesh: &mut Mesh, server: Shape) {
    let (open, other) = (address(mesh, "v1", 9090), address(mesh, "v1", 8080));
    let takes_plaintext = |mesh: &Mesh| curl(mesh, "outside", open).is_ok();
    // In plaintext its proxy's port is that of its connection.
    let arrived = |mesh: &Mesh| -> Vec<AccessRecord> {
        let records = mesh.access_records_of("v1").unwrap().into_iter();
        let is_it = |record: &AccessRecord| {
            record.direction == "inbound"
                && record.destination_address == Some(open)
                && record.source_workload.as_deref() == Some("client")
        };
        records.filter(is_it).collect()
    };
    let security = |mesh: &Mesh| {
        let before = arrived(mesh).len();
        curl(mesh, "client", open).unwrap();
        let newest = wait_for("an access record", LIMIT, || {
            let newest = arrived(mesh).split_off(before).pop();
            newest.ok_or_else(|| "none".to_owned())
        });
        newest.unwrap().security
    };
    let sends = |mesh: &Mesh, expected: &str| {
        let what = format!("clients' connections to be {expected}");
        wait_until(&what, LIMIT, || security(mesh) == expected).unwrap();
    };
    apply_port_mode(mesh, server, "9090=permissive");
    wait_until("plaintext to be taken", LIMIT, || takes_plaintext(mesh)).unwrap();
    assert!(curl(mesh, "outside", other).is_err());
    assert_eq!(security(mesh), "mutual_tls");
    apply_port_mode(mesh, server, "9090=disabled");
    sends(mesh, "plaintext");
    assert!(curl(mesh, "outside", other).is_err());
    apply_port_mode(mesh, server, "9090=strict");
    wait_until("plaintext to be refused", LIMIT, || !takes_plaintext(mesh)).unwrap();
    sends(mesh, "mutual_tls");
}

fn apply_port_mode(mesh: &mut Mesh, server: Shape, modes: &str) {
    let pod = PodSpec::new("v1", 2).shape(server);
    let pod = pod.label("app", "web").label("version", "v1");
    mesh.apply_pod(pod.annotation("weft.dev/port-modes", modes))
        .unwrap();
}
