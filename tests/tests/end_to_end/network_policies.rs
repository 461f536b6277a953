//! NetworkPolicies on connections of the mesh, which no CNI sees: on one node, between nodes,
//! by Service and by address.

use std::net::SocketAddr;

use serde_json::{Value, json};
use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, MeshBuilder};
use weft_tests::wait_until;

use super::hbone::{authority, leaf, open_tunnel};
use super::{LIMIT, address, addresses, curl, serve_web, shop};

/// A server on the first node, whose ports are 8080 (called `web`), 8081 (behind a Service of
/// HTTP) and 9090; on either node a client, and somebody else.
fn policed() -> Mesh {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("server", 1).port("web", 8080))
        .pod(PodSpec::new("near", 1).label("role", "client"))
        .pod(PodSpec::new("far", 2).label("role", "client"))
        .pod(PodSpec::new("other-near", 1))
        .pod(PodSpec::new("other-far", 2))
        .service("tcp", &["10.96.0.10"], "server", &[(80, 8080)])
        .http_service("http", &["10.96.0.11"], "server", &[(80, 8081)])
        .start()
        .unwrap();
    for port in [8080, 8081, 9090] {
        let listen = format!("[::]:{port}");
        let line = ["http", "--listen", &listen, "--name", "server"];
        mesh.serve("server", &line).unwrap();
    }
    mesh
}

const SERVICES: [&str; 2] = ["10.96.0.10:80", "10.96.0.11:80"];

fn services() -> [SocketAddr; 2] {
    SERVICES.map(|service| service.parse().unwrap())
}

fn select_server(ingress: &Value) -> Value {
    json!({ "podSelector": { "matchLabels": { "app": "server" } }, "ingress": ingress })
}

fn apply(mesh: &Mesh, name: &str, spec: &Value) {
    mesh.manifests().write_network_policy(name, spec).unwrap();
}

fn wait_reached(mesh: &Mesh, from: &str, to: SocketAddr, reached: bool) {
    let what = if reached { "reached" } else { "refused" };
    let what = format!("{to} to be {what} from {from}");
    wait_until(&what, LIMIT, || curl(mesh, from, to).is_ok() == reached).unwrap();
}

fn assert_reached(mesh: &Mesh, from: &str, to: impl IntoIterator<Item = SocketAddr>) {
    for to in to {
        let answer = curl(mesh, from, to);
        assert!(answer.is_ok(), "from {from} to {to}: {answer:?}");
    }
}

fn assert_refused(mesh: &Mesh, from: &str, to: impl IntoIterator<Item = SocketAddr>) {
    for to in to {
        let answer = curl(mesh, from, to);
        assert!(answer.is_err(), "from {from} to {to}: {answer:?}");
    }
}

#[test]
fn ingress_rules_hold_on_one_node_between_nodes_by_service_and_by_address() {
    let mesh = policed();
    let [web, http, admin] = [8080, 8081, 9090].map(|port| addresses(&mesh, "server", port));
    for from in ["near", "far", "other-near", "other-far"] {
        let all = [web, http, admin].into_iter().flatten();
        assert_reached(&mesh, from, all.chain(services()));
    }
    let clients = json!([{ "podSelector": { "matchLabels": { "role": "client" } } }]);
    let ports = json!([{ "port": "web" }, { "port": 8081 }, { "port": 9090, "protocol": "UDP" }]);
    let rules = json!([{ "from": clients, "ports": ports }]);
    apply(&mesh, "server", &select_server(&rules));
    wait_reached(&mesh, "other-near", web[0], false);
    wait_reached(&mesh, "other-far", web[0], false);

    for from in ["near", "far"] {
        let admitted = web.into_iter().chain(http);
        assert_reached(&mesh, from, admitted.chain(services()));
        assert_refused(&mesh, from, admin);
    }
    for from in ["other-near", "other-far"] {
        let all = [web, http, admin].into_iter().flatten();
        assert_refused(&mesh, from, all.chain(services()));
    }
    // A pod reaches itself, and kubelet probes it.
    let own = [web, http, admin].into_iter().flatten();
    assert_reached(&mesh, "server", own.chain(services()));
    let node = mesh.topology().node(1).unwrap().host.place();
    for to in admin {
        let url = format!("http://{to}/healthz");
        let line = ["curl", "-sS", "--fail", "--max-time", "15", &url];
        node.output(&line, LIMIT).unwrap();
    }
    assert_recorded(&mesh);
}

/// Both ends say who was refused and why.
fn assert_recorded(mesh: &Mesh) {
    for (node, security) in [(1, "same_node"), (2, "mutual_tls")] {
        let inbound = mesh.wait_record(1, |record| {
            record.flags == "DENY" && record.direction == "inbound" && record.security == security
        });
        let reason = inbound.unwrap().error.unwrap();
        assert!(
            reason.contains("default/server's NetworkPolicies (server)"),
            "{reason}"
        );
        let outbound = mesh.wait_record(node, |record| {
            record.flags == "DENY" && record.direction == "outbound"
        });
        outbound.unwrap();
    }
    let metrics = mesh.agent_get(1, "/metrics").unwrap();
    assert!(metrics.contains("response_flags=\"DENY\""), "{metrics}");
}

/// How many connections are open from each of these pods to port 9000 on the first node.
fn open_from(mesh: &Mesh, pods: &[&str]) -> Vec<usize> {
    let open = mesh.agent_get(1, "/connections").unwrap();
    let open: Vec<Value> = serde_json::from_str(&open).unwrap();
    let counts = pods.iter().map(|pod| {
        let is_from = |connection: &&Value| {
            let to = connection["destination"]["address"].as_str();
            let is_held = to.is_some_and(|to| to.ends_with(":9000"));
            is_held && connection["direction"] == "inbound" && connection["source"]["pod"] == *pod
        };
        open.iter().filter(is_from).count()
    });
    counts.collect()
}

#[test]
fn blocks_admit_by_address_and_a_change_cuts_what_it_no_longer_admits() {
    let mut mesh = policed();
    mesh.serve("server", &["echo", "--listen", "[::]:9000"])
        .unwrap();
    let to = format!("--to={}", address(&mesh, "server", 9000));
    let line = ["hold", &to, "--connections=5", "--wait"];
    let _holders =
        ["near", "far", "other-near", "other-far"].map(|pod| mesh.spawn(pod, &line).unwrap());
    let all = ["near", "far", "other-near", "other-far"];
    wait_until("all to be open", LIMIT, || open_from(&mesh, &all) == [5; 4]).unwrap();

    let block = |pod: &str| format!("{}/32", address(&mesh, pod, 1).ip());
    let everybody_but = |pods: [&str; 2]| {
        let except = pods.map(block);
        json!([{ "from": [{ "ipBlock": { "cidr": "0.0.0.0/0", "except": except } }] }])
    };
    let rules = everybody_but(["other-near", "other-far"]);
    apply(&mesh, "server", &select_server(&rules));
    wait_until("others to be cut", LIMIT, || {
        open_from(&mesh, &all) == [5, 5, 0, 0]
    })
    .unwrap();
    let server = address(&mesh, "server", 9090);
    for from in ["near", "far"] {
        assert_reached(&mesh, from, [server]);
    }
    for from in ["other-near", "other-far"] {
        assert_refused(&mesh, from, [server]);
    }
    let cut = mesh.wait_record(1, |record| record.flags == "POLICY_CHANGED");
    cut.unwrap();

    // What one policy admits, no other takes away.
    apply(&mesh, "all", &select_server(&json!([{}])));
    wait_reached(&mesh, "other-far", server, true);
    mesh.manifests().remove("network-policy-all").unwrap();
    wait_reached(&mesh, "other-far", server, false);
    mesh.manifests().remove("network-policy-server").unwrap();
    wait_reached(&mesh, "other-far", server, true);
    assert_eq!(open_from(&mesh, &all), [5, 5, 0, 0]);
}

#[test]
fn a_policy_that_can_not_be_read_keeps_its_content_and_costs_nothing_else() {
    let mesh = policed();
    let server = address(&mesh, "server", 8080);
    let near = json!([{ "from": [{ "podSelector": { "matchLabels": { "app": "near" } } }] }]);
    apply(&mesh, "server", &select_server(&near));
    wait_reached(&mesh, "far", server, false);
    assert_reached(&mesh, "near", [server]);

    let garbage = json!([{ "from": [{ "ipBlock": { "cidr": "10.0.0.0/33" } }] }]);
    apply(&mesh, "server", &select_server(&garbage));
    let field = "spec.ingress[0].from[0].ipBlock.cidr";
    let fabric = mesh.topology().fabric().place();
    let errors = || {
        let line = ["curl", "-sS", "http://127.0.0.1:15011/errors"];
        fabric.output(&line, LIMIT).unwrap()
    };
    wait_until("the mistake to be named", LIMIT, || {
        errors().contains(field)
    })
    .unwrap();
    assert_reached(&mesh, "near", [server]);
    assert_refused(&mesh, "far", [server]);
    // Others come into force beside it.
    let far = json!([{ "from": [{ "podSelector": { "matchLabels": { "app": "far" } } }] }]);
    apply(&mesh, "far", &select_server(&far));
    wait_reached(&mesh, "far", server, true);
    assert_refused(&mesh, "other-far", [server]);
    assert_reached(&mesh, "near", [server]);
}

#[test]
fn egress_rules_hold_on_one_node_between_nodes_by_service_and_by_address() {
    let mut mesh = policed();
    mesh.serve("server", &["echo", "--listen", "[::]:9000"])
        .unwrap();
    let to = format!("--to={}", address(&mesh, "server", 9000));
    let line = ["hold", &to, "--connections=5", "--wait"];
    let all = ["near", "far", "other-near", "other-far"];
    let _holders = all.map(|pod| mesh.spawn(pod, &line).unwrap());
    wait_until("all to be open", LIMIT, || open_from(&mesh, &all) == [5; 4]).unwrap();

    let [web, http, admin] = [8080, 8081, 9090].map(|port| addresses(&mesh, "server", port));
    let server = json!([{ "podSelector": { "matchLabels": { "app": "server" } } }]);
    let rules = json!([{ "to": server, "ports": [{ "port": "web" }] }]);
    let spec = json!({
        "podSelector": { "matchLabels": { "role": "client" } },
        "policyTypes": ["Egress"],
        "egress": rules,
    });
    apply(&mesh, "clients", &spec);
    for from in ["near", "far"] {
        wait_reached(&mesh, from, admin[0], false);
    }
    let [tcp_service, http_service] = services();
    for from in ["near", "far"] {
        assert_reached(&mesh, from, web.into_iter().chain([tcp_service]));
        let refused = http.into_iter().chain(admin);
        assert_refused(&mesh, from, refused.chain([http_service]));
    }
    for from in ["other-near", "other-far"] {
        let all = [web, http, admin].into_iter().flatten();
        assert_reached(&mesh, from, all.chain(services()));
    }
    let cut = || open_from(&mesh, &all) == [0, 0, 5, 5];
    wait_until("what is not admitted any more to be cut", LIMIT, cut).unwrap();
    for node in [1, 2] {
        let denied = mesh.wait_record(node, |record| {
            record.flags == "EGRESS_DENIED" && record.error.is_some()
        });
        let reason = denied.unwrap().error.unwrap();
        assert!(reason.contains("NetworkPolicies (clients)"), "{reason}");
    }
}

/// Of a Service's endpoints those are chosen that the client may reach.
#[test]
fn an_endpoint_that_egress_rules_do_not_admit_is_not_chosen() {
    let mut mesh = shop()
        .http_service("requests", &["10.96.0.11"], "web", &[(80, 8080)])
        .start()
        .unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    let block = format!("{}/32", address(&mesh, "web-2", 1).ip());
    let spec = json!({
        "podSelector": { "matchLabels": { "app": "client" } },
        "policyTypes": ["Egress"],
        "egress": [{ "to": [{ "ipBlock": { "cidr": block } }] }],
    });
    apply(&mesh, "client", &spec);
    wait_reached(&mesh, "client", address(&mesh, "web-1", 8080), false);
    for service in services() {
        for _ in 0..10 {
            assert_eq!(curl(&mesh, "client", service).unwrap().name, "web-2");
        }
    }
}

/// Somebody with the certificate of an admitted pod is not that pod: it isn't at its address.
#[test]
fn a_peer_is_a_pod_at_its_own_address_and_with_its_own_certificate() {
    let mesh = policed();
    let authority = authority(&mesh);
    let open = |account: &str| {
        let presented = authority.issue(&leaf(account));
        let namespace = mesh.topology().fabric().namespace();
        let gateway = address(&mesh, "server", 15008);
        let to = address(&mesh, "server", 9000);
        open_tunnel(namespace, gateway, Some(&presented), to, "hello")
    };
    // Nobody listens there: admitted.
    assert!(open("near").unwrap_err().contains("503"));
    let near = json!([{ "from": [{ "podSelector": { "matchLabels": { "app": "near" } } }] }]);
    apply(&mesh, "server", &select_server(&near));
    wait_reached(&mesh, "far", address(&mesh, "server", 8080), false);
    assert!(open("near").unwrap_err().contains("401"));
    // By its address, whoever it is.
    let fabric = mesh.topology().fabric().ipv4();
    let block = json!([{ "from": [{ "ipBlock": { "cidr": format!("{fabric}/32") } }] }]);
    apply(&mesh, "fabric", &select_server(&block));
    let is_admitted = || open("near").unwrap_err().contains("503");
    wait_until("the address to be admitted", LIMIT, is_admitted).unwrap();
}
