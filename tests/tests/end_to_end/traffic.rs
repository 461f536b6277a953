//! Where connections go, and what protects them on the way.

use std::net::SocketAddr;

use super::{curl, serve_web, shop};

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
