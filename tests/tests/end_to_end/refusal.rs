//! What is refused: who is not in the mesh where mutual TLS is mandatory, and every
//! tunnel that isn't what it has to be.

use std::net::SocketAddr;

use serde_json::json;
use weft_testing::authority::{Authority, Credential, Leaf};
use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, MeshBuilder};
use weft_tests::process::Place;
use weft_tests::wait_until;

use super::hbone::{authority, leaf, open_tunnel};
use super::{LIMIT, address, addresses, curl, serve_web, shop};

#[test]
fn a_strict_pod_refuses_plaintext_and_serves_the_mesh() {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("client", 1))
        .pod(PodSpec::new("strict", 2).strict())
        .pod(PodSpec::new("permissive", 2))
        .pod(PodSpec::new("near", 2).outside())
        .pod(PodSpec::new("far", 1).outside())
        .start()
        .unwrap();
    serve_web(&mut mesh, &["strict", "permissive"]);
    for to in addresses(&mesh, "strict", 8080) {
        for from in ["near", "far"] {
            let answer = curl(&mesh, from, to);
            assert!(answer.is_err(), "{from} got {answer:?}");
        }
        assert_eq!(curl(&mesh, "client", to).unwrap().name, "strict");
    }
    let denied = mesh.wait_record(2, |record| {
        record.direction == "inbound"
            && record.flags != "-"
            && record.destination_workload.as_deref() == Some("strict")
    });
    assert_eq!(denied.unwrap().security, "plaintext");
    for from in ["near", "far"] {
        let to = address(&mesh, "permissive", 8080);
        assert_eq!(curl(&mesh, from, to).unwrap().name, "permissive");
    }
}

#[test]
fn a_strict_pod_refuses_plaintext_on_every_port_and_from_every_machine() {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("strict", 2))
        .strict()
        .start()
        .unwrap();
    serve_web(&mut mesh, &["strict"]);
    let elsewhere = [
        mesh.topology().fabric().place(),
        mesh.topology().node(1).unwrap().host.place(),
    ];
    for to in addresses(&mesh, "strict", 8080) {
        for place in elsewhere {
            let url = format!("http://{to}/");
            let answer = place.output(&["curl", "-sS", "--max-time", "15", &url], LIMIT);
            assert!(answer.is_err(), "{to} answered {answer:?}");
        }
    }
    // The proxy's own ports are no way around either.
    for port in [15001, 15006] {
        let url = format!("http://{}/", address(&mesh, "strict", port));
        let answer = elsewhere[0].output(&["curl", "-sS", "--max-time", "15", &url], LIMIT);
        assert!(answer.is_err(), "port {port} answered {answer:?}");
    }
}

/// What a process of the node gets to see.
fn ask(place: &Place, url: &str, options: &[&str]) -> weft_tests::Result<String> {
    let line = [
        "curl",
        "-sS",
        "--fail",
        "--max-time",
        "15",
        "--path-as-is",
        url,
    ];
    place.output(&[&line, options].concat(), LIMIT)
}

/// The probe of every server here.
fn healthz() -> serde_json::Value {
    json!({ "httpGet": { "path": "/healthz", "port": 8080 } })
}

#[test]
fn a_strict_pod_takes_its_probe_from_kubelet_and_nothing_else_from_its_node() {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("strict", 2).readiness_probe(healthz()))
        .strict()
        .start()
        .unwrap();
    serve_web(&mut mesh, &["strict"]);
    mesh.serve("strict", &["http", "--listen=[::]:8081", "--name=strict"])
        .unwrap();
    let node = mesh.topology().node(2).unwrap();
    let (kubelet, other) = (node.kubelet(), node.host.place());
    for to in addresses(&mesh, "strict", 8080) {
        let probed = format!("http://{to}/healthz");
        let answer = ask(&kubelet, &probed, &[]);
        assert!(answer.unwrap().contains("strict"), "{to}");
        assert!(ask(other, &probed, &[]).is_err(), "{to}: not kubelet");
        for path in [
            "/",
            "/admin",
            "/healthz/",
            "//healthz",
            "/healthz/../admin",
            "/%68ealthz",
            "/healthz?a=b",
        ] {
            let answer = ask(&kubelet, &format!("http://{to}{path}"), &[]);
            assert!(answer.is_err(), "{path} was answered {answer:?}");
        }
        let posted = ask(&kubelet, &probed, &["--data=a"]);
        assert!(posted.is_err(), "{posted:?}");
        // A second request on the same connection.
        let admin = format!("http://{to}/admin");
        let second = ask(&kubelet, &probed, &[&admin]).unwrap_err().to_string();
        assert!(second.contains("403"), "{second}");
    }
    for to in addresses(&mesh, "strict", 8081) {
        let answer = ask(&kubelet, &format!("http://{to}/healthz"), &[]);
        assert!(answer.is_err(), "{to} answered {answer:?}");
    }
    let denied = mesh.wait_record(2, |record| {
        let error = record.error.as_deref().unwrap_or_default();
        record.flags == "DENY" && error.contains("kubelet alone")
    });
    assert_eq!(denied.unwrap().security, "plaintext");
}

#[test]
fn a_strict_pod_that_is_open_to_its_node_takes_anything_from_its_processes() {
    let open = PodSpec::new("open", 2)
        .readiness_probe(healthz())
        .annotation("weft.dev/node-access", "all");
    let mut mesh = MeshBuilder::new(2).pod(open).strict().start().unwrap();
    serve_web(&mut mesh, &["open"]);
    let node = mesh.topology().node(2).unwrap();
    for to in addresses(&mesh, "open", 8080) {
        for place in [&node.kubelet(), node.host.place()] {
            ask(place, &format!("http://{to}/anything"), &[]).unwrap();
        }
    }
}

#[test]
fn the_whole_mesh_becomes_strict_and_permissive_again() {
    let mut mesh = shop().start().unwrap();
    serve_web(&mut mesh, &["web-1"]);
    let to = address(&mesh, "web-1", 8080);
    for strict in [true, false] {
        mesh.apply_strict(strict).unwrap();
        wait_until("the mode to be in force", LIMIT, || {
            curl(&mesh, "outside", to).is_err() == strict
        })
        .unwrap();
        curl(&mesh, "client", to).unwrap();
    }
}

#[test]
fn turning_strict_cuts_plaintext_that_is_open_and_keeps_tunnels() {
    let mut mesh = shop().start().unwrap();
    mesh.serve("web-2", &["echo", "--listen", "[::]:9000"])
        .unwrap();
    let to = format!("--to={}", address(&mesh, "web-2", 9000));
    let line = ["hold", &to, "--connections=5", "--wait"];
    let _holders = ["outside", "client"].map(|pod| mesh.spawn(pod, &line).unwrap());
    let open = |mesh: &Mesh| {
        let open = mesh.agent_get(2, "/connections").unwrap();
        let inbound: Vec<serde_json::Value> = serde_json::from_str(&open).unwrap();
        let of = |security: &str| inbound.iter().filter(|c| c["security"] == security).count();
        (of("plaintext"), of("mutual_tls"))
    };
    wait_until("all to be open", LIMIT, || open(&mesh) == (5, 5)).unwrap();
    mesh.apply_pod(PodSpec::new("web-2", 2).label("app", "web").strict())
        .unwrap();
    wait_until("plaintext to be cut", LIMIT, || open(&mesh) == (0, 5)).unwrap();
}

/// A strict pod that serves, and the authority that its mesh trusts.
fn target() -> (Mesh, Authority) {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("client", 1))
        .pod(PodSpec::new("target", 2))
        .strict()
        .start()
        .unwrap();
    mesh.serve("target", &["echo", "--listen", "[::]:9000"])
        .unwrap();
    let authority = authority(&mesh);
    (mesh, authority)
}

/// Opens a tunnel to the target's echo server with that certificate.
fn tunnel(mesh: &Mesh, presented: Option<&Credential>) -> Result<String, String> {
    let (gateway, to) = (
        address(mesh, "target", 15008),
        address(mesh, "target", 9000),
    );
    open_tunnel(
        mesh.topology().fabric().namespace(),
        gateway,
        presented,
        to,
        "hello",
    )
}

#[test]
fn a_tunnel_with_a_certificate_of_the_mesh_is_served() {
    let (mesh, authority) = target();
    let client = authority.issue(&leaf("client"));
    assert_eq!(tunnel(&mesh, Some(&client)), Ok("hello".to_owned()));
}

#[test]
fn a_tunnel_without_a_certificate_is_refused() {
    let (mesh, _) = target();
    let refused = tunnel(&mesh, None);
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn a_certificate_of_another_trust_domain_is_refused() {
    let (mesh, authority) = target();
    // Signed by our own root, but naming another domain; and by a stranger's root,
    // naming ours.
    let foreign = authority.issue(&Leaf::uri("spiffe://other.example/ns/default/sa/client"));
    let stranger = Authority::new().issue(&leaf("client"));
    for presented in [foreign, stranger] {
        let refused = tunnel(&mesh, Some(&presented));
        assert!(refused.is_err(), "{refused:?}");
    }
}

#[test]
fn an_expired_certificate_is_refused_and_so_is_one_that_is_not_valid_yet() {
    let (mesh, authority) = target();
    let client = leaf("client");
    for leaf in [client.clone().expired(), client.not_yet_valid()] {
        let refused = tunnel(&mesh, Some(&authority.issue(&leaf)));
        assert!(refused.is_err(), "{refused:?}");
    }
}

#[test]
fn a_certificate_without_a_workload_identity_is_refused() {
    let (mesh, authority) = target();
    for name in [
        "https://cluster.local/ns/default/sa/client",
        "spiffe://cluster.local/client",
    ] {
        let refused = tunnel(&mesh, Some(&authority.issue(&Leaf::uri(name))));
        assert!(refused.is_err(), "{name}: {refused:?}");
    }
    let refused = tunnel(
        &mesh,
        Some(&authority.issue(&Leaf::server("client.default"))),
    );
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn a_tunnel_to_an_address_that_is_not_the_pods_is_refused() {
    let (mesh, authority) = target();
    let presented = authority.issue(&leaf("client"));
    let gateway = address(&mesh, "target", 15008);
    let elsewhere: [SocketAddr; 5] = [
        address(&mesh, "client", 8080),
        // The pod's other address: not the one that the tunnel came to.
        addresses(&mesh, "target", 9000)[1],
        "127.0.0.1:9000".parse().unwrap(),
        "127.0.0.1:15000".parse().unwrap(),
        "10.99.0.1:15010".parse().unwrap(),
    ];
    let namespace = mesh.topology().fabric().namespace();
    for to in elsewhere {
        let refused = open_tunnel(namespace, gateway, Some(&presented), to, "hello");
        let error = refused.unwrap_err();
        assert!(error.contains("400"), "{to}: {error}");
    }
    let to = address(&mesh, "target", 9000);
    let served = open_tunnel(namespace, gateway, Some(&presented), to, "hello");
    assert_eq!(served, Ok("hello".to_owned()));
}

#[test]
fn a_refused_plaintext_connection_is_recorded_with_its_reason() {
    let mut mesh = shop().strict().start().unwrap();
    serve_web(&mut mesh, &["web-1"]);
    let to = address(&mesh, "web-1", 8080);
    let line = format!(
        "exec 3<>/dev/tcp/{}/{}; echo GET >&3; cat <&3",
        to.ip(),
        to.port()
    );
    // Whether the connection is refused or cut is all the same to the client.
    let _ = mesh.run("outside", &["bash", "-c", &line]);
    let denied = mesh.wait_record(1, |record| record.flags != "-").unwrap();
    assert_eq!(denied.flags, "DENY", "{denied:#?}");
    assert!(denied.error.is_some(), "{denied:#?}");
    assert_eq!((&*denied.direction, denied.bytes_received), ("inbound", 0));
}
