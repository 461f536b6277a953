//! What changes while traffic flows.

use std::time::Duration;

use weft_tests::manifest::{PodSpec, ServiceSpec};
use weft_tests::mesh::{Mesh, parse_report};
use weft_tests::process::Process;
use weft_tests::{wait_for, wait_until};

use super::{LIMIT, address, assert_all_ok, curl, identity, record, serve_web, shop};

/// Requests that go on in the background.
pub(crate) struct Traffic(Vec<Process>);

impl Traffic {
    /// From the client to the service, to a pod on each node, and on one kept
    /// connection.
    pub(crate) fn start(mesh: &Mesh) -> Self {
        let pods = ["web-1", "web-2"].map(|pod| address(mesh, pod, 8080));
        let [first, second] = pods.map(|pod| format!("--to={pod}"));
        let lines = [
            vec!["requests", "--rate=50", "--to=10.96.0.10:80"],
            vec!["requests", "--rate=50", &first],
            vec!["requests", "--rate=50", &second],
            vec!["requests", "--rate=20", "--keep-alive", &second],
        ];
        let start = |line: &Vec<&str>| {
            let mut client = mesh.spawn("client", line).unwrap();
            client.wait_for_text("started", LIMIT).unwrap();
            client
        };
        Self(lines.iter().map(start).collect())
    }

    /// Every request was answered, and there were many.
    pub(crate) fn finish_without_a_failure(self) {
        for client in self.0 {
            let report = parse_report(&client.finish(LIMIT).unwrap()).unwrap();
            assert_all_ok(&report["tally"], 5);
        }
    }
}

/// Waits until a request was answered by that pod.
fn wait_answer_of(mesh: &Mesh, service: &str, pod: &str) {
    let to = service.parse().unwrap();
    wait_for(&format!("{pod} to answer for {service}"), LIMIT, || {
        let answer = curl(mesh, "client", to).map_err(|error| error.to_string())?;
        if answer.name == pod {
            Ok(())
        } else {
            Err(answer.name)
        }
    })
    .unwrap();
}

#[test]
fn pods_come_and_go_without_a_failed_request_elsewhere() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    let traffic = Traffic::start(&mesh);
    for round in 0..3 {
        let name = format!("web-{}", 10 + round);
        // As Kubernetes does it: an endpoint only once it serves.
        mesh.apply_pod(PodSpec::new(&name, 1 + round % 2)).unwrap();
        mesh.wait_ready().unwrap();
        serve_web(&mut mesh, &[&name]);
        mesh.apply_pod(PodSpec::new(&name, 1 + round % 2).label("app", "web"))
            .unwrap();
        wait_answer_of(&mesh, "10.96.0.10:80", &name);
        // And leaves only once it is no endpoint any more.
        mesh.apply_pod(PodSpec::new(&name, 1 + round % 2).label("app", "leaving"))
            .unwrap();
        let gone = address(&mesh, &name, 8080).to_string();
        wait_until("it to be no endpoint any more", LIMIT, || {
            let config = mesh.agent_get(1, "/config").unwrap();
            let config: serde_json::Value = serde_json::from_str(&config).unwrap();
            !config["services"]
                .to_string()
                .contains(gone.trim_end_matches(":8080"))
        })
        .unwrap();
        mesh.withdraw_pod(&name).unwrap();
        mesh.wait_ready().unwrap();
        mesh.delete_pod(&name).unwrap();
    }
    traffic.finish_without_a_failure();
}

#[test]
fn a_pod_joins_and_leaves_the_mesh_without_a_failed_request_to_anyone() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    let traffic = Traffic::start(&mesh);
    for patient in [true, false] {
        for (enrolled, security) in [(false, "plaintext"), (true, "mutual_tls")] {
            let pod = PodSpec::new("web-2", 2).label("app", "web");
            mesh.apply_pod(if enrolled { pod } else { pod.outside() })
                .unwrap();
            mesh.wait_ready().unwrap();
            let answer = curl(&mesh, "client", address(&mesh, "web-2", 8080)).unwrap();
            let record = record(&mesh, 1, "outbound", &answer);
            assert_eq!(record.security, security, "{record:#?}");
            if patient && !enrolled {
                // Its proxy ends a moment later than its capture.
                wait_until("its proxy to be gone", LIMIT, || {
                    let config = mesh.agent_get(2, "/config").unwrap();
                    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
                    config["pods"]["default/web-2"]["phase"] == "outside"
                })
                .unwrap();
            }
        }
    }
    traffic.finish_without_a_failure();
}

#[test]
fn traffic_goes_on_without_the_control_plane_and_changes_arrive_once_it_is_back() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    let traffic = Traffic::start(&mesh);
    mesh.kill_control_plane();
    for _ in 0..20 {
        for pod in ["web-1", "web-2"] {
            let answer = curl(&mesh, "client", address(&mesh, pod, 8080)).unwrap();
            let record = record(&mesh, 1, "outbound", &answer);
            assert_eq!(record.destination_identity, identity(pod), "{record:#?}");
        }
    }
    // Changed while it is away: seen once it is back.
    let late = ServiceSpec {
        name: "late".into(),
        cluster_ips: vec!["10.96.0.99".into()],
        app: "web".into(),
        ports: vec![(80, 8080)],
        protocol: "tcp",
    };
    mesh.apply_service(&late).unwrap();
    mesh.apply_pod(PodSpec::new("web-3", 1)).unwrap();
    mesh.restart_control_plane().unwrap();
    mesh.wait_ready().unwrap();
    // By whichever pod: an idle one on this node is right to be preferred for long.
    wait_for("an answer for the late service", LIMIT, || {
        let late = "10.96.0.99:80".parse().unwrap();
        curl(&mesh, "client", late).map_err(|error| error.to_string())
    })
    .unwrap();
    serve_web(&mut mesh, &["web-3"]);
    let answer = curl(&mesh, "client", address(&mesh, "web-3", 8080)).unwrap();
    assert_eq!(record(&mesh, 1, "outbound", &answer).security, "same_node");
    traffic.finish_without_a_failure();
}

#[test]
fn a_restart_of_the_control_plane_lets_nobody_fall_back_to_plaintext() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    for _ in 0..3 {
        mesh.restart_control_plane().unwrap();
        for _ in 0..10 {
            curl(&mesh, "client", address(&mesh, "web-2", 8080)).unwrap();
        }
    }
    // Records are written when connections end, a moment after the answer.
    let count = || mesh.access_records(1).unwrap().len();
    wait_until("all records to be there", Duration::from_secs(20), || {
        count() >= 30
    })
    .unwrap();
    for record in mesh.access_records(1).unwrap() {
        assert_eq!(record.security, "mutual_tls", "{record:#?}");
    }
}
