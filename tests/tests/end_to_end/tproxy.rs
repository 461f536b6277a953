//! Sidecars whose applications see their clients' own addresses.

use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{Mesh, MeshBuilder};
use weft_tests::wait_until;

use super::{LIMIT, addresses, curl, serve_web};

/// NET_RAW alone, as a set of capabilities (`linux/capability.h`).
const NET_RAW: &str = "0000000000002000";

/// A pod with such a sidecar, its client on another node, and one outside the mesh.
fn bed() -> Mesh {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("client", 1))
        .pod(PodSpec::new("outside", 1).outside())
        .pod(PodSpec::new("web", 2).tproxy())
        .start()
        .unwrap();
    serve_web(&mut mesh, &["web"]);
    mesh
}

#[test]
fn by_tproxy_an_application_sees_its_clients_addresses_in_both_families() {
    let mut mesh = bed();
    for client in ["client", "outside"] {
        for (to, from) in addresses(&mesh, "web", 8080)
            .into_iter()
            .zip(addresses(&mesh, client, 0))
        {
            // Again and again, also on ports that were used.
            for _ in 0..20 {
                let answer = curl(&mesh, client, to).unwrap();
                assert_eq!(answer.name, "web");
                assert_eq!(answer.peer.ip(), from.ip(), "{client} to {to}");
            }
        }
    }
    // What the pod itself connects to goes on as ever, its own address among it.
    serve_web(&mut mesh, &["client"]);
    for to in addresses(&mesh, "client", 8080) {
        assert_eq!(curl(&mesh, "web", to).unwrap().name, "client", "{to}");
    }
    for to in addresses(&mesh, "web", 8080) {
        let answer = curl(&mesh, "web", to).unwrap();
        assert_eq!(answer.peer.ip(), to.ip());
    }
    mesh.apply_strict(true).unwrap();
    for to in addresses(&mesh, "web", 8080) {
        let is_refused = || curl(&mesh, "outside", to).is_err();
        wait_until("plaintext to be refused", LIMIT, is_refused).unwrap();
        assert_eq!(curl(&mesh, "client", to).unwrap().name, "web");
    }
    // Nor is there a way past the proxy by its own ports.
    for port in [15001, 15006] {
        for to in addresses(&mesh, "web", port) {
            assert!(curl(&mesh, "outside", to).is_err(), "{to}");
        }
    }
}

#[test]
fn by_tproxy_the_proxy_keeps_one_capability_and_says_when_it_lacks_it() {
    let mesh = bed();
    let pid = mesh.sidecar_pid("web").unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().to_owned()
    };
    assert!(line("Uid:").starts_with("1337\t1337\t1337"), "{status}");
    for set in ["CapPrm:", "CapEff:"] {
        assert_eq!(line(set), NET_RAW, "{set}");
    }
    for set in ["CapInh:", "CapAmb:"] {
        assert_eq!(line(set), "0000000000000000", "{set}");
    }
    let program = mesh.sidecar_program();
    let line = [
        "setpriv",
        "--reuid=1337",
        "--clear-groups",
        program,
        "run",
        "--capture=tproxy",
        "--node=node-1",
        "--pod-name=outside",
        "--pod-namespace=default",
        "--control-plane=https://127.0.0.1:1",
        "--root-certificates=/none",
        "--token-file=/none",
    ];
    let refused = mesh.run("outside", &line).unwrap_err().to_string();
    assert!(refused.contains("NET_RAW"), "{refused}");
}

#[test]
fn cleanup_takes_the_marks_and_their_routes_away() {
    let mesh = bed();
    let rules = || {
        let of = |family: &str| mesh.run("web", &["ip", family, "rule"]).unwrap();
        of("-4") + &of("-6")
    };
    assert_eq!(rules().matches("lookup 1337").count(), 2, "{}", rules());
    // Again, and in the other way, which needs none.
    mesh.run_sidecar("web", &["init", "--capture=tproxy"])
        .unwrap();
    assert_eq!(rules().matches("lookup 1337").count(), 2, "{}", rules());
    mesh.run_sidecar("web", &["init"]).unwrap();
    assert_eq!(rules().matches("lookup 1337").count(), 0, "{}", rules());
    mesh.run_sidecar("web", &["init", "--capture=tproxy"])
        .unwrap();
    for _ in 0..2 {
        mesh.run_sidecar("web", &["cleanup"]).unwrap();
        assert_eq!(rules().matches("lookup 1337").count(), 0, "{}", rules());
    }
}
