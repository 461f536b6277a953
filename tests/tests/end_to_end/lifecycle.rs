//! Pods that reach themselves, that end, and whose addresses others get.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, parse_report};
use weft_tests::wait_until;

use super::{LIMIT, address, addresses, curl, identity, record, serve_web, shop};

/// As a pod that is asked to end: `deletionTimestamp`, and an endpoint no more.
fn terminate(mesh: &Mesh, pod: &str) {
    let path = mesh.manifests().directory().join(format!("pod-{pod}.json"));
    let text = std::fs::read_to_string(path).unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
    document["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
    document["status"]["conditions"] = json!([{ "type": "Ready", "status": "False" }]);
    mesh.manifests()
        .write(&format!("pod-{pod}"), &document)
        .unwrap();
}

#[test]
fn a_pod_reaches_itself_by_its_own_services() {
    let mut mesh = shop()
        .strict()
        .service(
            "own-tcp",
            &["10.96.0.30", "fd00:10:96::30"],
            "client",
            &[(80, 8080)],
        )
        .http_service(
            "own-http",
            &["10.96.0.31", "fd00:10:96::31"],
            "client",
            &[(80, 8080)],
        )
        .start()
        .unwrap();
    serve_web(&mut mesh, &["client"]);
    let own = addresses(&mesh, "client", 0).map(|address| address.ip());
    for (service, family) in [
        ("10.96.0.30:80", 0),
        ("[fd00:10:96::30]:80", 1),
        ("10.96.0.31:80", 0),
        ("[fd00:10:96::31]:80", 1),
    ] {
        let answer = curl(&mesh, "client", service.parse().unwrap()).unwrap();
        assert_eq!(answer.name, "client");
        assert_eq!(answer.peer.ip().to_canonical(), own[family], "{service}");
    }
    for to in addresses(&mesh, "client", 8080) {
        assert_eq!(
            curl(&mesh, "client", to).unwrap().peer.ip().to_canonical(),
            to.ip()
        );
    }
}

#[test]
fn a_pod_on_its_way_out_calls_and_is_called_by_its_address_until_it_ends() {
    let mut mesh = shop().strict().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2", "client"]);
    let mut hold = mesh
        .spawn(
            "client",
            &[
                "requests",
                "--rate=20",
                "--keep-alive",
                &format!("--to={}", address(&mesh, "web-2", 8080)),
            ],
        )
        .unwrap();
    hold.wait_for_text("started", LIMIT).unwrap();
    terminate(&mesh, "web-2");
    let service: SocketAddr = "10.96.0.10:80".parse().unwrap();
    wait_until("it to be no endpoint any more", LIMIT, || {
        (0..12).all(|_| curl(&mesh, "client", service).unwrap().name == "web-1")
    })
    .unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        let answer = curl(&mesh, "client", address(&mesh, "web-2", 8080)).unwrap();
        assert_eq!(
            record(&mesh, 1, "outbound", &answer).destination_identity,
            identity("web-2")
        );
        let answer = curl(&mesh, "web-2", address(&mesh, "client", 8080)).unwrap();
        assert_eq!(
            record(&mesh, 1, "inbound", &answer).source_identity,
            identity("web-2")
        );
        assert_eq!(curl(&mesh, "web-2", service).unwrap().name, "web-1");
    }
    let report = parse_report(&hold.finish(LIMIT).unwrap()).unwrap();
    assert_eq!(report["tally"]["failed"], 0, "{report}");
}

#[test]
fn an_address_that_another_pod_gets_is_reached_as_that_pod() {
    let mut mesh = shop()
        .strict()
        .pod(PodSpec::new("old", 2))
        .http_service("both", &["10.96.0.40"], "both", &[(80, 8080)])
        .start()
        .unwrap();
    let mut before = "old".to_owned();
    serve_web(&mut mesh, &[&before]);
    for round in 0..3 {
        mesh.apply_pod(PodSpec::new(&before, 2).label("app", "both"))
            .unwrap();
        let service: SocketAddr = "10.96.0.40:80".parse().unwrap();
        wait_until("the pod to answer", LIMIT, || {
            curl(&mesh, "client", service).is_ok_and(|answer| answer.name == before)
        })
        .unwrap();
        let to = address(&mesh, &before, 8080);
        let answer = curl(&mesh, "client", to).unwrap();
        assert_eq!(
            record(&mesh, 1, "outbound", &answer).destination_identity,
            identity(&before)
        );
        // Gone without a word, and its address is the next one's at once.
        let next = format!("new-{round}");
        mesh.delete_pod(&before).unwrap();
        mesh.withdraw_pod(&before).unwrap();
        mesh.apply_pod(PodSpec::new(&next, 2)).unwrap();
        assert_eq!(address(&mesh, &next, 8080), to);
        mesh.wait_ready().unwrap();
        serve_web(&mut mesh, &[&next]);
        for number in 0..20 {
            let answer = curl(&mesh, "client", to);
            let answer = answer.unwrap_or_else(|error| panic!("{next} {number}: {error}"));
            assert_eq!(answer.name, next);
            assert_eq!(
                record(&mesh, 1, "outbound", &answer).destination_identity,
                identity(&next)
            );
        }
        before = next;
    }
}
