//! What happens to a node's pods when its agent stops, dies and comes back.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{AgentOptions, Mesh, MeshBuilder};
use weft_tests::wait_until;

use super::{LIMIT, address, curl, record, serve_web, shop};

fn pinned() -> AgentOptions {
    AgentOptions {
        pinned: true,
        ..AgentOptions::default()
    }
}

fn security_of_a_call(mesh: &Mesh, node: u8, direction: &str) -> String {
    let answer = curl(mesh, "client", address(mesh, "web-2", 8080)).unwrap();
    record(mesh, node, direction, &answer).security
}

#[test]
fn a_dead_agent_leaves_its_strict_pods_unreachable_rather_than_unprotected() {
    strict_pods_are_unreachable_after(|mesh| mesh.kill_agent(2).unwrap());
}

#[test]
fn an_agent_that_is_told_to_stop_leaves_its_strict_pods_unreachable_where_it_has_pins() {
    strict_pods_are_unreachable_after(|mesh| mesh.stop_agent(2).unwrap());
}

/// Ends the agent of the second node, and later starts it again.
fn strict_pods_are_unreachable_after(end_agent: impl FnOnce(&mut Mesh)) {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("client", 1))
        .pod(PodSpec::new("web-2", 2))
        .pod(PodSpec::new("outside", 1).outside())
        .strict()
        .agents(pinned())
        .start()
        .unwrap();
    serve_web(&mut mesh, &["web-2", "outside"]);
    let web = address(&mesh, "web-2", 8080);
    end_agent(&mut mesh);
    let answer = curl(&mesh, "outside", web);
    assert!(
        answer.is_err(),
        "plaintext reached a strict pod: {answer:?}"
    );
    let answer = curl(&mesh, "web-2", address(&mesh, "outside", 8080));
    assert!(
        answer.is_err(),
        "a captured pod went around its proxy: {answer:?}"
    );
    mesh.restart_agent(2).unwrap();
    mesh.wait_ready().unwrap();
    wait_until("the mesh to serve again", LIMIT, || {
        curl(&mesh, "client", web).is_ok()
    })
    .unwrap();
    assert_eq!(security_of_a_call(&mesh, 2, "inbound"), "mutual_tls");
    assert!(curl(&mesh, "outside", web).is_err());
}

#[test]
fn an_agent_that_is_told_to_stop_releases_its_pods() {
    let mut mesh = shop().agents(pinned()).start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2", "outside"]);
    mesh.stop_agent(1).unwrap();
    // From now on the pods of that node are on their own, and permissive peers take it.
    for to in ["web-2", "outside"] {
        curl(&mesh, "client", address(&mesh, to, 8080)).unwrap();
    }
    assert_eq!(security_of_a_call(&mesh, 2, "inbound"), "plaintext");
    mesh.restart_agent(1).unwrap();
    mesh.wait_ready().unwrap();
    assert_eq!(security_of_a_call(&mesh, 2, "inbound"), "mutual_tls");
}

/// Dials from a pod's namespace, without the patience of an application.
fn dial(mesh: &Mesh, from: &str, to: SocketAddr) -> std::io::Result<TcpStream> {
    let namespace = mesh.pod(from).unwrap().host.namespace();
    let connect = move || TcpStream::connect_timeout(&to, Duration::from_millis(500));
    namespace.run(connect).unwrap()
}

#[test]
fn where_unknown_pods_are_refused_those_that_are_known_outlive_their_agent_and_new_ones_wait_for_it()
 {
    let mut mesh = shop()
        .agents(AgentOptions {
            arguments: vec!["--unknown-pods=refuse".to_owned()],
            ..pinned()
        })
        .start()
        .unwrap();
    serve_web(&mut mesh, &["web-1", "web-2", "outside"]);
    assert_eq!(security_of_a_call(&mesh, 2, "inbound"), "mutual_tls");
    mesh.stop_agent(2).unwrap();
    for (from, to) in [
        ("client", "web-2"),
        ("outside", "web-2"),
        ("client", "outside"),
        ("web-2", "outside"),
        ("outside", "web-1"),
    ] {
        curl(&mesh, from, address(&mesh, to, 8080)).unwrap();
    }
    mesh.apply_pod(PodSpec::new("late", 2).outside()).unwrap();
    serve_web(&mut mesh, &["late"]);
    let late = address(&mesh, "late", 8080);
    let inbound = dial(&mesh, "outside", late).unwrap_err();
    assert_eq!(inbound.kind(), ErrorKind::TimedOut);
    let elsewhere = address(&mesh, "outside", 8080);
    let outbound = curl(&mesh, "late", elsewhere).unwrap_err().to_string();
    assert!(outbound.contains("onnect"), "{outbound}");
    mesh.restart_agent(2).unwrap();
    mesh.wait_ready().unwrap();
    wait_until("the new pod to be let go", LIMIT, || {
        dial(&mesh, "outside", late).is_ok() && curl(&mesh, "late", elsewhere).is_ok()
    })
    .unwrap();
    assert_eq!(security_of_a_call(&mesh, 2, "inbound"), "mutual_tls");
}
