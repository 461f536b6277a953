//! Pods come and go, the control plane dies and returns; traffic goes on.

use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, parse_report};
use weft_tests::process::Process;

use super::{LIMIT, at, curl, serve_web, shop};

/// Requests at a rate to the service `web`, each on its own connection.
fn load(mesh: &Mesh, from: &str) -> Process {
    let line = ["requests", "--to", "10.96.0.10:80", "--rate", "200"];
    let mut load = mesh.spawn(from, &line).unwrap();
    load.wait_for_text("started", LIMIT).unwrap();
    load
}

/// Ends a load; none of its requests may have failed.
fn finish(mut load: Process) {
    load.close_input();
    let report = parse_report(&load.finish(LIMIT).unwrap()).unwrap();
    assert_eq!(report["tally"]["failed"], 0, "{report}");
    assert!(report["tally"]["ok"].as_u64() > Some(20), "{report}");
}

#[test]
fn pods_come_and_go_without_a_failed_request_elsewhere() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    let load = load(&mesh, "client");
    mesh.apply_pod(PodSpec::new("guest", 1)).unwrap();
    mesh.wait_ready().unwrap();
    curl(&mesh, "guest", "10.96.0.10:80".parse().unwrap()).unwrap();
    mesh.withdraw_pod("guest").unwrap();
    mesh.delete_pod("guest").unwrap();
    mesh.wait_ready().unwrap();
    finish(load);
}

#[test]
fn a_pod_that_opts_out_and_in_again_keeps_serving_all_the_time() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    let load = load(&mesh, "client");
    for pod in [
        PodSpec::new("web-2", 2).label("app", "web").outside(),
        PodSpec::new("web-2", 2).label("app", "web"),
        PodSpec::new("web-1", 1).label("app", "web").outside(),
        PodSpec::new("web-1", 1).label("app", "web"),
    ] {
        mesh.apply_pod(pod).unwrap();
        mesh.wait_ready().unwrap();
    }
    finish(load);
}

#[test]
fn traffic_goes_on_without_a_control_plane_and_changes_arrive_once_it_is_back() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    let load = load(&mesh, "client");
    mesh.kill_control_plane();
    for _ in 0..10 {
        curl(&mesh, "client", at(&mesh, "web-2", 8080)).unwrap();
    }
    // A change that nobody can tell the agents yet.
    mesh.apply_pod(PodSpec::new("guest", 2)).unwrap();
    mesh.restart_control_plane().unwrap();
    mesh.wait_ready().unwrap();
    serve_web(&mut mesh, &["guest"]);
    curl(&mesh, "client", at(&mesh, "guest", 8080)).unwrap();
    let tunnelled = |record: &weft_tests::access_log::AccessRecord| {
        record.direction == "inbound"
            && record.security == "mutual_tls"
            && record.destination_workload.as_deref() == Some("guest")
    };
    mesh.wait_record(2, tunnelled).unwrap();
    finish(load);
}
