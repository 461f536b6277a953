//! The whole mesh: real namespaces as nodes and pods, real eBPF, real TLS, real
//! clients.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod bytes;
mod lifecycle;
mod scale;
mod security;
mod traffic;

use std::net::SocketAddr;
use std::time::Duration;

use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, MeshBuilder};

/// How long anything may take that is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// Two nodes: a client and a web server on the first, another web server and a pod
/// outside the mesh on the second; a service and a headless one over the web servers.
fn shop() -> MeshBuilder {
    MeshBuilder::new(2)
        .pod(PodSpec::new("client", 1))
        .pod(PodSpec::new("web-1", 1).label("app", "web"))
        .pod(PodSpec::new("web-2", 2).label("app", "web"))
        .pod(PodSpec::new("outside", 2).outside())
        .service(
            "web",
            &["10.96.0.10", "fd00:10:96::10"],
            "web",
            &[(80, 8080)],
        )
        .service("web-headless", &[], "web", &[(80, 8080)])
}

/// Starts a web server in each of these pods.
fn serve_web(mesh: &mut Mesh, pods: &[&str]) {
    for pod in pods {
        let line = ["http", "--listen", "[::]:8080", "--name", pod];
        mesh.serve(pod, &line).unwrap();
    }
}

/// One request with curl; what it answered.
fn curl(mesh: &Mesh, from: &str, to: SocketAddr) -> weft_tests::Result<String> {
    let url = format!("http://{to}/");
    let line = ["curl", "-sS", "--fail", "--max-time", "10", &url];
    mesh.run(from, &line)
}

/// A port of a pod, in IPv4.
fn at(mesh: &Mesh, pod: &str, port: u16) -> SocketAddr {
    (mesh.pod(pod).unwrap().host.ipv4(), port).into()
}
