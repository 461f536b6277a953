//! Where connections go, and what protects them on the way.

use std::net::SocketAddr;

use std::time::Duration;

use super::{curl, serve_web, shop};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn services_pods_and_outsiders_are_reached_in_both_families() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2", "outside"]);
    let url = |address: SocketAddr| format!("http://{address}/");
    for pod in ["web-1", "web-2", "outside"] {
        for address in mesh.pod(pod).unwrap().host.addresses() {
            let answer = curl(&mesh, "client", &url((address, 8080).into())).unwrap();
            assert!(answer.contains(pod), "{pod} at {address}: {answer}");
        }
    }
    for service in ["10.96.0.10:80", "[fd00:10:96::10]:80"] {
        for _ in 0..4 {
            curl(&mesh, "client", &url(service.parse().unwrap())).unwrap();
        }
    }
    for address in mesh.pod("web-1").unwrap().host.addresses() {
        curl(&mesh, "outside", &url((address, 8080).into())).unwrap();
    }
}

#[test]
fn nothing_stays_open_after_requests_have_ended() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1", "web-2"]);
    for pod in ["web-1", "web-2"] {
        let address = mesh.pod(pod).unwrap().host.ipv4();
        for _ in 0..20 {
            curl(&mesh, "client", &format!("http://{address}:8080/")).unwrap();
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
        curl(&mesh, "client", &format!("http://{service}/")).unwrap();
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
