//! A peer that isn't who it should be: whoever answers at a workload's address has to
//! prove that workload's identity, before the first byte goes there.

use weft_testing::authority::{Authority, Credential};
use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, MeshBuilder};

use super::hbone::{authority, leaf, serve_tunnels};
use super::{LIMIT, address};

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nanything";

/// A client, and a pod whose node's agent is gone, so that a test can answer at its
/// HBONE port itself.
fn orphaned() -> (Mesh, Authority) {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("client", 1))
        .pod(PodSpec::new("web", 2))
        .start()
        .unwrap();
    mesh.kill_agent(2).unwrap();
    let authority = authority(&mesh);
    (mesh, authority)
}

/// What the client gets when that is presented at the pod's address.
fn ask(mesh: &Mesh, presented: &Credential) -> weft_tests::Result<String> {
    let namespace = mesh.pod("web").unwrap().host.namespace();
    serve_tunnels(namespace, address(mesh, "web", 15008), presented, ANSWER);
    let url = format!("http://{}/", address(mesh, "web", 8080));
    let place = mesh.pod("client").unwrap().host.place();
    place.output(&["curl", "-sS", "--max-time", "15", &url], LIMIT)
}

#[test]
fn a_peer_with_the_workloads_own_identity_is_believed() {
    let (mesh, authority) = orphaned();
    let presented = authority.issue(&leaf("web"));
    assert_eq!(ask(&mesh, &presented).unwrap(), "anything");
}

#[test]
fn a_peer_with_another_workloads_identity_is_not_believed() {
    let (mesh, authority) = orphaned();
    let presented = authority.issue(&leaf("other"));
    let answer = ask(&mesh, &presented);
    assert!(answer.is_err(), "{answer:?}");
    let record = mesh.wait_record(1, |record| record.flags != "-").unwrap();
    assert_eq!(record.flags, "TLS_FAILURE", "{record:#?}");
    assert_eq!(record.destination_identity, None, "{record:#?}");
    let reason = record.error.as_deref().unwrap();
    assert!(
        reason.contains("the peer is spiffe://cluster.local/ns/default/sa/other"),
        "{reason}"
    );
    assert_eq!(
        (record.bytes_sent, record.bytes_received),
        (0, 0),
        "{record:#?}"
    );
}

#[test]
fn a_peer_with_an_expired_certificate_or_a_strangers_is_not_believed() {
    let leaf = leaf("web");
    let (mesh, authority) = orphaned();
    let expired = authority.issue(&leaf.clone().expired());
    assert!(ask(&mesh, &expired).is_err());
    let (mesh, _) = orphaned();
    assert!(ask(&mesh, &Authority::new().issue(&leaf)).is_err());
}

#[test]
fn a_captured_workload_whose_proxy_is_gone_is_never_sent_plaintext() {
    let (mut mesh, _) = orphaned();
    // The application answers in the clear, but nobody may ask it so.
    super::serve_web(&mut mesh, &["web"]);
    let answer = super::curl(&mesh, "client", address(&mesh, "web", 8080));
    assert!(answer.is_err(), "{answer:?}");
    let records = mesh.access_records(1).unwrap();
    assert!(
        records.iter().all(|record| record.security != "plaintext"),
        "{records:#?}"
    );
}
