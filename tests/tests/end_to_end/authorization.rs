//! AuthorizationPolicies: enforced where they arrive, on one node and between nodes, by Service
//! and by the pod's own address.

use std::net::SocketAddr;

use serde_json::{Value, json};
use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, MeshBuilder};
use weft_tests::wait_until;

use super::{LIMIT, address};

const CLIENTS: [&str; 2] = ["near", "far"];
const SERVICE: &str = "10.96.0.11:80";

/// A server on the first node, whose port 8080 is behind a Service of HTTP and 9000 is nobody's;
/// on either node a client, and somebody else.
fn guarded() -> Mesh {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("server", 1))
        .pod(PodSpec::new("near", 1))
        .pod(PodSpec::new("far", 2))
        .pod(PodSpec::new("other-near", 1))
        .pod(PodSpec::new("other-far", 2))
        .http_service("http", &["10.96.0.11"], "server", &[(80, 8080)])
        .start()
        .unwrap();
    for port in [8080, 9000] {
        let listen = format!("[::]:{port}");
        let line = ["http", "--listen", &listen, "--name", "server"];
        mesh.serve("server", &line).unwrap();
    }
    mesh
}

fn apply(mesh: &Mesh, name: &str, action: &str, rules: &Value) {
    let mut spec = json!({
        "selector": { "matchLabels": { "app": "server" } },
        "action": action,
    });
    if !rules.is_null() {
        spec["rules"] = rules.clone();
    }
    let manifests = mesh.manifests();
    manifests.write_authorization_policy(name, &spec).unwrap();
}

fn remove(mesh: &Mesh, name: &str) {
    let document = format!("authorization-policy-{name}");
    mesh.manifests().remove(&document).unwrap();
}

/// The status of a request; 0 when its connection is refused.
fn status(mesh: &Mesh, from: &str, method: &str, to: SocketAddr, path: &str) -> u16 {
    let url = format!("http://{to}{path}");
    let line = [
        "curl",
        "-sS",
        "--path-as-is",
        "--max-time",
        "15",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-X",
        method,
        &url,
    ];
    let answered = mesh.run(from, &line);
    answered.map_or(0, |status| status.trim().parse().unwrap())
}

fn wait_status(mesh: &Mesh, from: &str, to: SocketAddr, path: &str, expected: u16) {
    let what = format!("{path} of {to} to be answered {expected} to {from}");
    let is_it = || status(mesh, from, "GET", to, path) == expected;
    wait_until(&what, LIMIT, is_it).unwrap();
}

/// The server's address and its Service's.
fn addresses_of_server(mesh: &Mesh) -> [SocketAddr; 2] {
    [address(mesh, "server", 8080), SERVICE.parse().unwrap()]
}

#[test]
fn nothing_is_allowed_then_get_alone_then_everything_again() {
    let mesh = guarded();
    let [pod, service] = addresses_of_server(&mesh);
    for from in CLIENTS {
        for to in [pod, service] {
            assert_eq!(status(&mesh, from, "POST", to, "/"), 200, "{from} {to}");
        }
    }
    apply(&mesh, "allow-nothing", "ALLOW", &Value::Null);
    for from in CLIENTS {
        wait_status(&mesh, from, service, "/", 403);
        // Its own proxy speaks no HTTP there.
        wait_status(&mesh, from, pod, "/", 0);
    }
    let get = json!([{ "to": [{ "methods": ["GET"], "notPaths": ["/admin*"] }] }]);
    apply(&mesh, "allow-get", "ALLOW", &get);
    for from in CLIENTS {
        for to in [pod, service] {
            wait_status(&mesh, from, to, "/", 200);
            assert_eq!(status(&mesh, from, "POST", to, "/"), 403, "{from} {to}");
            for path in ["/admin", "/x/../admin", "/%61dmin", "//admin", "/admin;x"] {
                let found = status(&mesh, from, "GET", to, path);
                assert_eq!(found, 403, "{from} {to} {path}");
            }
        }
        // Where nobody looks at requests, there are none that match.
        let unseen = address(&mesh, "server", 9000);
        assert_eq!(status(&mesh, from, "GET", unseen, "/"), 0, "{from}");
    }
    remove(&mesh, "allow-get");
    remove(&mesh, "allow-nothing");
    for from in CLIENTS {
        for to in [pod, service] {
            let what = format!("{from} to be let in to {to} again");
            let is_let_in = || status(&mesh, from, "POST", to, "/") == 200;
            wait_until(&what, LIMIT, is_let_in).unwrap();
        }
    }
}

#[test]
fn who_is_denied_is_told_apart_by_its_identity_and_cut_and_the_log_names_the_policy() {
    let mut mesh = guarded();
    mesh.serve("server", &["echo", "--listen", "[::]:9001"])
        .unwrap();
    let [pod, service] = addresses_of_server(&mesh);
    let to = format!("--to={}", address(&mesh, "server", 9001));
    let line = ["hold", &to, "--connections=3", "--wait"];
    let all = ["near", "far", "other-near", "other-far"];
    let _holders = all.map(|pod| mesh.spawn(pod, &line).unwrap());
    let open = || all.map(|pod| open_from(&mesh, pod));
    wait_until("all to be open", LIMIT, || open() == [3; 4]).unwrap();

    let others = json!([{ "from": [{ "serviceAccounts": ["other-near", "other-far"] }] }]);
    apply(&mesh, "deny-others", "DENY", &others);
    wait_until("others to be cut", LIMIT, || open() == [3, 3, 0, 0]).unwrap();
    for from in CLIENTS {
        for to in [pod, service] {
            assert_eq!(status(&mesh, from, "GET", to, "/"), 200, "{from} {to}");
        }
    }
    for from in ["other-near", "other-far"] {
        assert_eq!(status(&mesh, from, "GET", service, "/"), 403, "{from}");
        assert_eq!(status(&mesh, from, "GET", pod, "/"), 0, "{from}");
        let denied = mesh.wait_record(1, |record| {
            record.flags == "AUTHORIZATION_DENIED"
                && record.direction == "inbound"
                && record.source_workload.as_deref() == Some(from)
        });
        let policy = denied.unwrap().authorization_policy;
        assert_eq!(policy.as_deref(), Some("default/deny-others"), "{from}");
    }
    explains(&mesh);

    remove(&mesh, "deny-others");
    let namespace = json!([{ "from": [{ "namespaces": ["default"] }] }]);
    apply(&mesh, "deny-namespace", "DENY", &namespace);
    for from in all {
        wait_status(&mesh, from, service, "/", 403);
    }
    wait_until("all to be cut", LIMIT, || open() == [0; 4]).unwrap();
}

/// The agent of the server's node tells the same without a request.
fn explains(mesh: &Mesh) {
    for (account, decision) in [("near", "allowed"), ("other-near", "denied")] {
        let source = format!("spiffe://cluster.local/ns/default/sa/{account}");
        let page = format!("/explain?destination=default/server&port=8080&source={source}&path=/");
        let told: Value = serde_json::from_str(&mesh.agent_get(1, &page).unwrap()).unwrap();
        assert_eq!(told["request"]["decision"], decision, "{told}");
        assert_eq!(told["connection"]["decision"], decision, "{told}");
    }
}

/// How many connections are open from a pod to port 9001 on the first node.
fn open_from(mesh: &Mesh, pod: &str) -> usize {
    let open = mesh.agent_get(1, "/connections").unwrap();
    let open: Vec<Value> = serde_json::from_str(&open).unwrap();
    let is_from = |connection: &&Value| {
        let to = connection["destination"]["address"].as_str();
        let is_held = to.is_some_and(|to| to.ends_with(":9001"));
        is_held && connection["direction"] == "inbound" && connection["source"]["pod"] == *pod
    };
    open.iter().filter(is_from).count()
}
