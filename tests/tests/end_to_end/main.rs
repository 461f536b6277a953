//! The whole mesh: real namespaces as nodes and pods, real eBPF, real TLS, real
//! clients.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod agent;
mod authorization;
mod change;
mod connection_routes;
mod drain;
mod egress;
mod fail_closed;
mod handover;
mod hbone;
mod hostile;
mod impostor;
mod lifecycle;
mod load;
mod monitoring;
mod network_policies;
mod refusal;
mod requests;
mod revocation;
mod rotation;
mod services;
mod shapes;
mod sidecar;
mod streams;
mod tproxy;
mod traffic;
mod wire;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use weft_tests::access_log::AccessRecord;
use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, MeshBuilder};

/// How long a program of a test may take to end.
const LIMIT: Duration = Duration::from_secs(120);

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

/// A pod's addresses, IPv4 first, with a port.
fn addresses(mesh: &Mesh, pod: &str, port: u16) -> [SocketAddr; 2] {
    mesh.pod(pod)
        .unwrap()
        .host
        .addresses()
        .map(|address| (address, port).into())
}

/// A pod's IPv4 address with a port.
fn address(mesh: &Mesh, pod: &str, port: u16) -> SocketAddr {
    addresses(mesh, pod, port)[0]
}

/// What a web server answered to curl.
#[derive(Debug)]
struct Answer {
    /// Which pod it was.
    name: String,
    /// Whom it saw.
    peer: SocketAddr,
    /// The client's own port: what its access record is found by.
    client_port: u16,
    /// When it was asked: ports are used again, by whatever else the client does.
    asked: OffsetDateTime,
}

/// One request with curl; an error when it isn't answered with success.
fn curl(mesh: &Mesh, from: &str, to: SocketAddr) -> weft_tests::Result<Answer> {
    let (url, written) = (format!("http://{to}/"), r"\n%{local_port}");
    let line = [
        "curl",
        "-sS",
        "--fail",
        "--max-time",
        "15",
        "-w",
        written,
        &url,
    ];
    let asked = OffsetDateTime::now_utc();
    let output = mesh.run(from, &line)?;
    let (body, client_port) = output.trim_end().rsplit_once('\n').unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    Ok(Answer {
        name: body["name"].as_str().unwrap().to_owned(),
        peer: body["peer"].as_str().unwrap().parse().unwrap(),
        client_port: client_port.parse().unwrap(),
        asked,
    })
}

/// The record of an answered request on one side.
fn record(mesh: &Mesh, node: u8, direction: &str, answer: &Answer) -> AccessRecord {
    let fits = |record: &AccessRecord| {
        let port = record.source_address.map(|address| address.port());
        record.direction == direction
            && port == Some(answer.client_port)
            && record.timestamp >= answer.asked
            // Another client of the pod may have got the port meanwhile.
            && record.destination_workload.as_ref().is_none_or(|name| *name == answer.name)
    };
    mesh.wait_record(node, fits).unwrap()
}

/// The SPIFFE ID of a pod's service account.
fn identity(pod: &str) -> Option<String> {
    Some(format!("spiffe://cluster.local/ns/default/sa/{pod}"))
}

/// All of it went well.
fn assert_all_ok(tally: &Value, at_least: u64) {
    assert_eq!(tally["failed"], 0, "{tally}");
    assert!(tally["ok"].as_u64().unwrap() >= at_least, "{tally}");
}
