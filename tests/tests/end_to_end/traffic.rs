//! Where connections go, and what protects them on the way.

use std::net::SocketAddr;

use weft_tests::access_log::AccessRecord;
use weft_tests::packets::{Capture, marker};

use super::{LIMIT, at, curl, serve_web, shop};

#[test]
fn services_pods_and_outsiders_are_reached_in_both_families() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2", "outside"]);
    for pod in ["web-1", "web-2", "outside"] {
        for address in mesh.pod(pod).unwrap().host.addresses() {
            let answer = curl(&mesh, "client", (address, 8080).into()).unwrap();
            assert!(answer.contains(pod), "{pod} at {address}: {answer}");
        }
    }
    for service in ["10.96.0.10:80", "[fd00:10:96::10]:80"] {
        for _ in 0..4 {
            curl(&mesh, "client", service.parse().unwrap()).unwrap();
        }
    }
    for pod in ["web-1", "web-2"] {
        for address in mesh.pod(pod).unwrap().host.addresses() {
            curl(&mesh, "outside", (address, 8080).into()).unwrap();
        }
    }
}

#[test]
fn the_application_sees_its_real_peer() {
    let mut mesh = shop().start().unwrap();
    for pod in ["web-1", "web-2"] {
        let line = ["identify", "--listen", "[::]:9000"];
        mesh.serve(pod, &line).unwrap();
        let addresses = mesh.pod(pod).unwrap().host.addresses();
        for (family, address) in addresses.into_iter().enumerate() {
            let to = format!("--to={}", SocketAddr::new(address, 9000));
            // Only the client's own address, of the family that was dialled, will do.
            let client = mesh.pod("client").unwrap().host.addresses()[family];
            let from = format!("--from={client}");
            let line = ["destinations", "--connections=10", &to, &from];
            let report = mesh.report("client", &line).unwrap();
            assert_eq!(report["tally"]["ok"], 10, "{pod} at {address}: {report}");
            assert_eq!(report["distinct_peers"], 10, "{report}");
        }
    }
}

#[test]
fn a_service_without_ready_endpoints_is_refused_at_once() {
    let mesh = shop()
        .service("nobody", &["10.96.0.99"], "nobody", &[(80, 8080)])
        .start()
        .unwrap();
    curl(&mesh, "client", "10.96.0.99:80".parse().unwrap()).unwrap_err();
    let failed = |record: &AccessRecord| record.flags == "NO_ENDPOINT";
    mesh.wait_record(1, failed).unwrap();
}

#[test]
fn the_payload_is_on_the_wire_only_where_an_end_is_outside_the_mesh() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2", "outside"]);
    let capture = Capture::start(mesh.topology(), mesh.directory()).unwrap();
    let get = |from: &str, pod: &str| {
        let text = marker("secret");
        let url = format!("http://{}/{text}", at(&mesh, pod, 8080));
        let line = ["curl", "-sS", "--fail", "--max-time", "10", &url];
        mesh.run(from, &line).unwrap();
        text
    };
    let (tunnelled, same_node) = (get("client", "web-2"), get("client", "web-1"));
    let (plain, back) = (get("client", "outside"), get("outside", "web-1"));
    let packets = capture.finish(mesh.topology()).unwrap();
    assert!(
        !packets.contain(&tunnelled),
        "cross-node payload in the clear"
    );
    assert!(
        !packets.contain(&same_node),
        "same-node payload on the fabric"
    );
    let seen = packets.contain(&plain) && packets.contain(&back);
    assert!(seen, "the capture saw nothing");
    let ends = ["client", "web-2"].map(|pod| mesh.pod(pod).unwrap().host.ipv4());
    assert!(
        packets.count(ends, 15008).unwrap() > 0,
        "no tunnel on the fabric"
    );
}

#[test]
fn nothing_stays_open_after_requests_have_ended() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    for pod in ["web-1", "web-2"] {
        let address = at(&mesh, pod, 8080);
        for _ in 0..20 {
            curl(&mesh, "client", address).unwrap();
        }
    }
    for node in [1, 2] {
        let open = || mesh.agent_get(node, "/connections").unwrap();
        let closed =
            weft_tests::wait_until("no connection is open", LIMIT, || open().trim() == "[]");
        closed.unwrap_or_else(|error| panic!("{error}: {}", open()));
    }
}

#[test]
fn every_connection_is_recorded_by_both_ends_with_the_family_that_was_dialled() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    for round in 0..40 {
        let service = ["10.96.0.10:80", "[fd00:10:96::10]:80"][round % 2];
        curl(&mesh, "client", service.parse().unwrap()).unwrap();
    }
    let records = || {
        [1, 2]
            .map(|node| mesh.access_records(node).unwrap())
            .concat()
    };
    let of = |direction: &str| {
        records()
            .iter()
            .filter(|r| r.direction == direction)
            .count()
    };
    let complete = weft_tests::wait_until("all is recorded", LIMIT, || {
        of("outbound") == 40 && of("inbound") == 40
    });
    complete.unwrap_or_else(|error| {
        let lines = records()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n");
        panic!(
            "{error}\n{lines}\n{}",
            mesh.agent_get(1, "/connections").unwrap()
        )
    });
    for record in records() {
        let family = |address: Option<SocketAddr>| address.unwrap().is_ipv4();
        if record.direction == "outbound" {
            let dialled = family(record.original_destination);
            assert_eq!(family(record.destination_address), dialled, "{record}");
        }
    }
}
