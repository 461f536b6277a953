//! What a Service says of its own traffic, as kube-proxy has it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::{Value, json};
use weft_tests::mesh::Mesh;
use weft_tests::wait_until;

use super::{LIMIT, addresses, curl, identity, record, serve_web, shop};

const WEB: &str = "10.96.0.10:80";

/// Writes the Service `web`: port 80 of that protocol leads to 8080, beside what `spec` says.
fn write_web(mesh: &Mesh, protocol: &str, spec: Value) {
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": {
            "clusterIP": "10.96.0.10",
            "selector": { "app": "web" },
            "ports": [{ "name": format!("{protocol}-80"), "port": 80, "targetPort": 8080 }],
        },
    });
    let Value::Object(spec) = spec else {
        panic!("a spec is an object")
    };
    service["spec"].as_object_mut().unwrap().extend(spec);
    mesh.manifests().write("service-web", &service).unwrap();
}

/// Writes a slice of the Service `web` with these endpoints.
fn write_slice(mesh: &Mesh, name: &str, endpoints: Value) {
    write_slice_of_port(mesh, name, 8080, endpoints);
}

/// The same, whose endpoints serve on that port.
fn write_slice_of_port(mesh: &Mesh, name: &str, port: u16, endpoints: Value) {
    let labels = json!({ "kubernetes.io/service-name": "web" });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": { "name": name, "namespace": "default", "labels": labels },
        "addressType": "IPv4",
        "ports": [{ "name": "tcp-80", "port": port }],
        "endpoints": endpoints,
    });
    mesh.manifests().write(name, &slice).unwrap();
}

/// Writes a node that is in that zone.
fn write_node(mesh: &Mesh, number: u8, zone: &str) {
    let node = mesh.topology().node(number).unwrap();
    let addresses = node.host.addresses();
    let addresses = addresses.map(|address| json!({ "type": "InternalIP", "address": address }));
    let labels = json!({ "topology.kubernetes.io/zone": zone });
    let document = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": node.name, "labels": labels },
        "status": { "addresses": addresses },
    });
    mesh.manifests().write(&node.name, &document).unwrap();
}

fn registered_only(mesh: &Mesh) {
    let annotations = json!({ "weft.dev/egress-mode": "RegisteredOnly" });
    let manifests = mesh.manifests();
    manifests.write_namespace("default", &annotations).unwrap();
}

/// Has one endpoint of the Service `web` chosen after the other.
fn balance_by_turns(mesh: &Mesh) {
    let policy = json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": {
            "targetRef": { "kind": "Service", "name": "web" },
            "loadBalancer": { "type": "RoundRobin" },
        },
    });
    mesh.manifests().write("policy-web", &policy).unwrap();
}

/// The pods that answer the client's next requests to an address, each on a connection of its
/// own.
fn answering(mesh: &Mesh, to: &str, requests: usize) -> BTreeSet<String> {
    let to: SocketAddr = to.parse().unwrap();
    let answers = (0..requests).filter_map(|_| curl(mesh, "client", to).ok());
    answers.map(|answer| answer.name).collect()
}

fn wait_answering(mesh: &Mesh, to: &str, pods: &[&str]) {
    let what = format!("{to} to be answered by {pods:?}");
    wait_until(&what, LIMIT, || answering(mesh, to, 6) == expected(pods)).unwrap();
    assert_eq!(answering(mesh, to, 20), expected(pods));
}

fn expected(pods: &[&str]) -> BTreeSet<String> {
    pods.iter().map(|pod| (*pod).to_owned()).collect()
}

#[test]
fn traffic_stays_on_the_node_where_a_service_says_so_also_to_what_is_no_pod() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2", "outside"]);
    balance_by_turns(&mesh);
    let address = |pod: &str| addresses(&mesh, pod, 0)[0].ip();
    let pod = |name: &str, node: &str| {
        json!({
            "addresses": [address(name)], "conditions": null, "nodeName": node,
            "targetRef": { "kind": "Pod", "name": name, "namespace": "default" },
        })
    };
    let near = json!({ "addresses": [address("outside")], "nodeName": "node-1" });
    let far = pod("web-2", "node-2");
    write_slice(&mesh, "slice-1", json!([near, far]));
    wait_answering(&mesh, WEB, &["outside", "web-2"]);
    write_web(&mesh, "tcp", json!({ "internalTrafficPolicy": "Local" }));
    wait_answering(&mesh, WEB, &["outside"]);
    write_slice(&mesh, "slice-2", json!([pod("web-1", "node-1")]));
    wait_answering(&mesh, WEB, &["outside", "web-1"]);
    mesh.manifests().remove("slice-2").unwrap();
    write_slice(&mesh, "slice-1", json!([far]));
    wait_answering(&mesh, WEB, &[]);
}

#[test]
fn one_port_of_a_service_leads_to_several_ports_of_one_address() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "outside"]);
    for (pod, name) in [("web-1", "web-1-second"), ("outside", "outside-second")] {
        let arguments = ["http", "--listen", "[::]:8081", "--name", name];
        mesh.serve(pod, &arguments).unwrap();
    }
    balance_by_turns(&mesh);
    let address = |pod: &str| addresses(&mesh, pod, 0)[0].ip();
    let target = json!({ "kind": "Pod", "name": "web-1", "namespace": "default" });
    let pod = json!({ "addresses": [address("web-1")], "targetRef": target });
    let no_pod = json!({ "addresses": [address("outside")] });
    write_slice_of_port(&mesh, "slice-1", 8080, json!([pod, no_pod]));
    write_slice_of_port(&mesh, "slice-2", 8081, json!([pod, no_pod]));
    let all = ["outside", "outside-second", "web-1", "web-1-second"];
    wait_answering(&mesh, WEB, &all);
    let not_ready = json!({ "addresses": [address("outside")], "conditions": { "ready": false } });
    write_slice_of_port(&mesh, "slice-2", 8081, json!([pod, not_ready]));
    wait_answering(&mesh, WEB, &["outside", "web-1", "web-1-second"]);
}

#[test]
fn traffic_stays_in_the_zone_where_a_service_or_its_slices_say_so() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    balance_by_turns(&mesh);
    write_node(&mesh, 1, "a");
    write_node(&mesh, 2, "b");
    wait_answering(&mesh, WEB, &["web-1", "web-2"]);
    let close = json!({ "trafficDistribution": "PreferClose" });
    write_web(&mesh, "tcp", close.clone());
    wait_answering(&mesh, WEB, &["web-1"]);
    // A controller knows better.
    let hinted = |pod: &str, zone: &str| {
        json!({
            "addresses": [addresses(&mesh, pod, 0)[0].ip()],
            "targetRef": { "kind": "Pod", "name": pod, "namespace": "default" },
            "hints": { "forZones": [{ "name": zone }] },
        })
    };
    write_slice(
        &mesh,
        "slice-1",
        json!([hinted("web-1", "b"), hinted("web-2", "a")]),
    );
    wait_answering(&mesh, WEB, &["web-2"]);
    write_slice(
        &mesh,
        "slice-1",
        json!([hinted("web-1", "b"), hinted("web-2", "b")]),
    );
    wait_answering(&mesh, WEB, &["web-1", "web-2"]);
    mesh.manifests().remove("slice-1").unwrap();
    write_web(&mesh, "http", close);
    wait_answering(&mesh, WEB, &["web-1"]);
}

#[test]
fn a_client_stays_with_its_endpoint_where_the_service_says_so() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    balance_by_turns(&mesh);
    for protocol in ["tcp", "http"] {
        write_web(&mesh, protocol, json!({}));
        wait_answering(&mesh, WEB, &["web-1", "web-2"]);
        write_web(&mesh, protocol, json!({ "sessionAffinity": "ClientIP" }));
        wait_until("one endpoint", LIMIT, || {
            answering(&mesh, WEB, 10).len() == 1
        })
        .unwrap();
        assert_eq!(answering(&mesh, WEB, 30).len(), 1, "{protocol}");
    }
    let client_ip = json!({ "clientIP": { "timeoutSeconds": 1 } });
    let short = json!({ "sessionAffinity": "ClientIP", "sessionAffinityConfig": client_ip });
    write_web(&mesh, "http", short);
    let mut seen = BTreeSet::new();
    wait_until("another endpoint after a pause", LIMIT, || {
        std::thread::sleep(std::time::Duration::from_millis(1100));
        seen.extend(answering(&mesh, WEB, 1));
        seen.len() == 2
    })
    .unwrap();
}

/// A route of that kind from the Service `front` to the Service `web`.
fn write_route(mesh: &Mesh, kind: &str, version: &str) {
    let route = json!({
        "apiVersion": format!("gateway.networking.k8s.io/{version}"),
        "kind": kind,
        "metadata": { "name": "front", "namespace": "default" },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "front", "port": 80 }],
            "rules": [{ "backendRefs": [{ "name": "web", "port": 80 }] }],
        },
    });
    mesh.manifests().write("route-front", &route).unwrap();
}

#[test]
fn behind_a_route_a_client_stays_where_the_backends_service_says_so() {
    let front = "10.96.0.20:80";
    let mut mesh = shop()
        .http_service("front", &["10.96.0.20"], "nobody", &[(80, 8080)])
        .start()
        .unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    balance_by_turns(&mesh);
    for (kind, version) in [("HTTPRoute", "v1"), ("TCPRoute", "v1alpha2")] {
        write_web(&mesh, "http", json!({}));
        write_route(&mesh, kind, version);
        wait_answering(&mesh, front, &["web-1", "web-2"]);
        write_web(&mesh, "http", json!({ "sessionAffinity": "ClientIP" }));
        wait_until("one endpoint", LIMIT, || {
            answering(&mesh, front, 10).len() == 1
        })
        .unwrap();
        assert_eq!(answering(&mesh, front, 30).len(), 1, "{kind}");
    }
}

#[test]
fn a_strict_service_is_reached_by_its_external_addresses_and_its_ports_of_nodes() {
    let mut mesh = shop().strict().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    registered_only(&mesh);
    write_node(&mesh, 2, "b");
    let node = mesh.topology().node(2).unwrap().host.ipv4();
    let node_port = SocketAddr::from((node, 30_080));
    let (balancer, external) = ("203.0.113.10:80", "198.51.100.1:80");
    for protocol in ["tcp", "http"] {
        let port = json!({
            "name": format!("{protocol}-80"), "port": 80, "targetPort": 8080, "nodePort": 30_080,
        });
        let spec = json!({
            "type": "LoadBalancer",
            "externalIPs": ["198.51.100.1"],
            "ports": [port],
        });
        write_web(&mesh, protocol, spec);
        let mut service = read_web(&mesh);
        service["status"] = json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.10" }] } });
        mesh.manifests().write("service-web", &service).unwrap();
        for to in [balancer, external, &node_port.to_string()] {
            let to: SocketAddr = to.parse().unwrap();
            let what = format!("{to} to be answered ({protocol})");
            wait_until(&what, LIMIT, || curl(&mesh, "client", to).is_ok()).unwrap();
            let answer = curl(&mesh, "client", to).unwrap();
            let record = record(&mesh, 1, "outbound", &answer);
            assert_eq!(
                record.destination_identity,
                identity(&answer.name),
                "{record:#?}"
            );
            assert_eq!(record.original_destination, Some(to), "{record:#?}");
        }
    }
    // What isn't the Service's is nobody's.
    for nobodys in ["203.0.113.10:81", "203.0.113.11:80"] {
        assert!(
            curl(&mesh, "client", nobodys.parse().unwrap()).is_err(),
            "{nobodys}"
        );
    }
}

/// The Service `web` as it is written.
fn read_web(mesh: &Mesh) -> Value {
    let path = mesh.manifests().directory().join("service-web.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_name_of_a_host_outside_is_reached_by_its_services_name_as_without_a_mesh() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["outside"]);
    let files = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "files", "namespace": "default" },
        "spec": {
            "type": "ExternalName",
            "externalName": "files.example",
            "ports": [{ "name": "http", "port": 9080 }],
        },
    });
    mesh.manifests().write("service-files", &files).unwrap();
    let server = super::egress::fabric(&mesh, 9080);
    let fabric = mesh.topology().fabric().namespace();
    super::egress::serve(fabric, server, None, super::egress::ANSWER);
    // DNS leads the Service's name to the host's address; requests keep the Service's name.
    let get = |mesh: &Mesh| {
        let host = "files.default.svc.cluster.local:9080";
        let resolved = format!("{host}:{}", server.ip());
        let url = format!("http://{host}/");
        let line = [
            "curl",
            "-sS",
            "--fail",
            "--max-time",
            "5",
            "--resolve",
            &resolved,
            &url,
        ];
        mesh.run("client", &line)
    };
    assert!(get(&mesh).unwrap().contains("fabric"));
    registered_only(&mesh);
    wait_until("the host to be refused", LIMIT, || get(&mesh).is_err()).unwrap();
    let spec = json!({
        "hosts": ["files.example"],
        "addresses": [server.ip()],
        "ports": [{ "number": 9080, "protocol": "HTTP" }],
    });
    mesh.manifests()
        .write_external_service("files", &spec)
        .unwrap();
    wait_until("the host to be registered", LIMIT, || get(&mesh).is_ok()).unwrap();
}
