//! Certificates that are revoked while the mesh runs.

use weft_tests::mesh::Mesh;
use weft_tests::wait_until;

use super::handover::{ECHO, goes_on, long_connection};
use super::hbone::authority;
use super::{LIMIT, address, curl, serve_web, shop};

/// The serial number of the certificate that an agent has for a pod of its node.
fn serial(mesh: &Mesh, node: u8, service_account: &str) -> Vec<u8> {
    let log = mesh.agent_log(node).unwrap();
    let identity = format!("/sa/{service_account}\"");
    let mut obtained = log
        .lines()
        .filter(|line| line.contains("certificate obtained"));
    let line = obtained.find(|line| line.contains(&identity)).unwrap();
    let (_, serial) = line.split_once("\"serial\":\"").unwrap();
    let (serial, _) = serial.split_once('"').unwrap();
    let octets = serial
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).unwrap());
    octets.collect()
}

#[test]
fn whoever_shows_a_revoked_certificate_is_cut_and_refused_until_the_list_is_gone() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-2"]);
    let listen = format!("[::]:{ECHO}");
    mesh.serve("web-2", &["echo", "--listen", &listen]).unwrap();
    let to = address(&mesh, "web-2", 8080);
    let mut cut = long_connection(&mesh, "client", "web-2");
    let mut stays = long_connection(&mesh, "web-1", "web-2");

    let list = authority(&mesh).revocation_list(&[serial(&mesh, 1, "client")]);
    let path = mesh.state_directory().join("ca/revoked.pem");
    std::fs::write(&path, list).unwrap();
    wait_until("the connection to be cut", LIMIT, || !cut.is_running()).unwrap();
    assert!(curl(&mesh, "client", to).is_err());
    goes_on(&mut stays);
    assert!(curl(&mesh, "web-1", to).is_ok());
    mesh.wait_record(2, |record| record.flags == "IDENTITY_ERROR")
        .unwrap();

    std::fs::remove_file(path).unwrap();
    wait_until("the client to be served again", LIMIT, || {
        curl(&mesh, "client", to).is_ok()
    })
    .unwrap();
    stays.finish(LIMIT).unwrap();
}
