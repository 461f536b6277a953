//! One root after the other, while everything runs.

use weft_testing::authority::Authority;
use weft_tests::mesh::Mesh;
use weft_tests::{wait_for, wait_until};

use super::change::Traffic;
use super::hbone::{authority, leaf, open_tunnel};
use super::{LIMIT, address, serve_web, shop};

/// Whether web-2's proxy believes what this authority signs.
fn is_believed(mesh: &Mesh, authority: &Authority) -> bool {
    let client = mesh.pod("client").unwrap().host.namespace();
    let presented = authority.issue(&leaf("client"));
    let gateway = address(mesh, "web-2", 15008);
    let to = address(mesh, "web-2", 9000);
    open_tunnel(client, gateway, Some(&presented), to, "hello").is_ok()
}

/// Takes a step as soon as the program lets us.
fn wait_for_step(mesh: &Mesh, step: &str) {
    let early = mesh.rotate_root(step).unwrap_err().to_string();
    assert!(early.contains("too early"), "{early}");
    wait_for(step, LIMIT, || {
        mesh.rotate_root(step).map_err(|error| error.to_string())
    })
    .unwrap();
}

#[test]
fn the_root_is_replaced_without_a_failed_request_and_the_old_one_refused_at_last() {
    let mut mesh = shop().leaf_lifetime("12s").start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    mesh.serve("web-2", &["echo", "--listen", "[::]:9000"])
        .unwrap();
    let status = mesh.rotate_root("status").unwrap();
    assert!(status.contains("one root is trusted"), "{status}");
    let old = authority(&mesh);
    let traffic = Traffic::start(&mesh);

    mesh.rotate_root("start").unwrap();
    wait_for_step(&mesh, "switch");
    let new = authority(&mesh);
    assert!(is_believed(&mesh, &old), "leaves of the old one are in use");
    assert!(
        is_believed(&mesh, &new),
        "and those of the new one begin to be"
    );
    wait_for_step(&mesh, "finish");
    wait_until("the old root to be refused", LIMIT, || {
        !is_believed(&mesh, &old)
    })
    .unwrap();
    assert!(is_believed(&mesh, &new));
    traffic.finish_without_a_failure();

    // It outlives the process.
    mesh.restart_control_plane().unwrap();
    assert_eq!(
        mesh.rotate_root("status").unwrap().trim(),
        "no rotation is under way; one root is trusted"
    );
}
