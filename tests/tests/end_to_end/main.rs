//! The whole mesh: real namespaces as nodes and pods, real eBPF, real TLS, real
//! clients.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod traffic;

use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, MeshBuilder};

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
        mesh.serve(pod, &["http", "--listen", "[::]:8080", "--name", pod])
            .unwrap();
    }
}

/// One request with curl; what it answered.
fn curl(mesh: &Mesh, from: &str, url: &str) -> weft_tests::Result<String> {
    mesh.run(from, &["curl", "-sS", "--fail", "--max-time", "10", url])
}
