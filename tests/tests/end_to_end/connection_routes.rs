//! TCPRoutes and TLSRoutes: which backend connections get to, between real programs.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};
use weft_testing::authority::Authority;
use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, MeshBuilder};
use weft_tests::wait_for;

use super::egress::{acceptor, serve};
use super::{LIMIT, address, curl, serve_web};

/// The Service that clients connect to. It has no endpoint of its own.
const FRONT: &str = "10.96.0.10";

/// A client, and a pod on each node behind a Service of its own.
fn bed(port: u16) -> Mesh {
    MeshBuilder::new(2)
        .pod(PodSpec::new("client", 1))
        .pod(PodSpec::new("a", 1))
        .pod(PodSpec::new("b", 2))
        .service("front", &[FRONT], "nobody", &[(port, 8080)])
        .service("a", &["10.96.0.11"], "a", &[(port, 8080)])
        .service("b", &["10.96.0.12"], "b", &[(port, 8080)])
        .start()
        .unwrap()
}

fn apply(mesh: &Mesh, kind: &str, name: &str, hostnames: &Value, backends: &Value) {
    let parent = json!({ "group": "", "kind": "Service", "name": "front" });
    let mut route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "parentRefs": [parent], "rules": [{ "backendRefs": backends }] },
    });
    if !hostnames.is_null() {
        route["spec"]["hostnames"] = hostnames.clone();
    }
    mesh.manifests()
        .write(&format!("route-{name}"), &route)
        .unwrap();
}

#[test]
fn a_tcp_route_shares_connections_by_weight() {
    const CONNECTIONS: usize = 200;
    let mut mesh = bed(80);
    serve_web(&mut mesh, &["a", "b"]);
    let front: SocketAddr = format!("{FRONT}:80").parse().unwrap();
    assert!(
        curl(&mesh, "client", front).is_err(),
        "nobody is there without the route"
    );
    let backend = |name: &str, weight: u32| json!({ "name": name, "port": 80, "weight": weight });
    let backends = json!([backend("a", 80), backend("b", 20)]);
    apply(&mesh, "TCPRoute", "r", &Value::Null, &backends);
    let reached = || curl(&mesh, "client", front).map_err(|error| error.to_string());
    wait_for("the route", LIMIT, reached).unwrap();
    let mut seen = BTreeMap::<String, usize>::new();
    for _ in 0..CONNECTIONS {
        *seen
            .entry(curl(&mesh, "client", front).unwrap().name)
            .or_default() += 1;
    }
    assert!(
        seen["a"].abs_diff(CONNECTIONS * 80 / 100) <= CONNECTIONS / 100,
        "{seen:?}"
    );
    // A backend that isn't there refuses its share.
    let backends = json!([backend("nowhere", 1)]);
    apply(&mesh, "TCPRoute", "r", &Value::Null, &backends);
    let refused = || match reached() {
        Err(_) => Ok(()),
        Ok(answer) => Err(format!("{answer:?}")),
    };
    wait_for("a refusal", LIMIT, refused).unwrap();
    mesh.wait_record(1, |record| record.flags == "NO_BACKEND")
        .unwrap();
}

const A: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\na";
const B: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nb";

#[test]
fn a_tls_route_passes_connections_on_by_server_name_without_ending_their_tls() {
    let mesh = bed(443);
    let authority = Authority::new();
    for (pod, name, text) in [("a", "a.example.org", A), ("b", "b.example.org", B)] {
        let namespace = mesh.pod(pod).unwrap().host.namespace();
        let at = address(&mesh, pod, 8080);
        serve(namespace, at, Some(acceptor(&authority, name)), text);
    }
    let roots = mesh.directory().join("roots.pem");
    std::fs::write(&roots, authority.root_pem()).unwrap();
    // The client verifies the server's own certificate.
    let ask = |name: &str| {
        let (url, resolve) = (format!("https://{name}/"), format!("{name}:443:{FRONT}"));
        let line = [
            "curl",
            "-sS",
            "--fail",
            "--max-time",
            "15",
            "--cacert",
            roots.to_str().unwrap(),
            "--resolve",
            &resolve,
            &url,
        ];
        mesh.run("client", &line).map_err(|error| error.to_string())
    };
    for name in ["a", "b"] {
        let (hostnames, backends) = (
            json!([format!("{name}.example.org")]),
            json!([{ "name": name, "port": 443 }]),
        );
        apply(&mesh, "TLSRoute", name, &hostnames, &backends);
        let host = format!("{name}.example.org");
        let answer = wait_for("the route", LIMIT, || ask(&host)).unwrap();
        assert_eq!(answer, name);
    }
    ask("c.example.org").unwrap_err();
    // Others were asked for before their route was there.
    mesh.wait_record(1, |record| {
        let reason = record.error.as_deref().unwrap_or_default();
        record.flags == "NO_MATCHING_SNI" && reason.contains("c.example.org")
    })
    .unwrap();
}
