//! Pods that may not be open: refused until they are captured, and whenever they aren't.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::json;
use weft_tests::manifest::PodSpec;
use weft_tests::mesh::{AgentOptions, Mesh, MeshBuilder};
use weft_tests::wait_until;

use super::{LIMIT, address, curl, record, serve_web};

/// Dials from a pod, as an application of it.
fn dial(mesh: &Mesh, from: &str, to: SocketAddr) -> TcpStream {
    let namespace = mesh.pod(from).unwrap().host.namespace();
    let connect = move || TcpStream::connect_timeout(&to, Duration::from_secs(10));
    namespace.run(connect).unwrap().unwrap()
}

fn echoes(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])
}

#[test]
fn an_application_on_the_proxys_ports_opens_no_strict_pod_when_its_agent_comes_back() {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("client", 1))
        .pod(PodSpec::new("web-2", 2))
        .pod(PodSpec::new("outside", 1).outside())
        .strict()
        .agents(AgentOptions {
            pinned: true,
            ..AgentOptions::default()
        })
        .start()
        .unwrap();
    serve_web(&mut mesh, &["web-2", "outside"]);
    let web = address(&mesh, "web-2", 8080);
    let elsewhere = address(&mesh, "outside", 8080);
    mesh.kill_agent(2).unwrap();
    let namespace = mesh.pod("web-2").unwrap().host.namespace();
    let taken = namespace
        .run(|| [15001, 15006, 15008].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap()));
    let is_closed = |mesh: &Mesh| {
        // Once the agent is back its connections go somewhere, but never in the clear.
        let outbound = curl(mesh, "outside", web);
        assert!(outbound.is_err(), "reached in the clear: {outbound:?}");
    };
    is_closed(&mesh);
    let outbound = curl(&mesh, "web-2", elsewhere);
    assert!(outbound.is_err(), "went out in the clear: {outbound:?}");
    mesh.restart_agent(2).unwrap();
    is_closed(&mesh);
    mesh.wait_ready().unwrap();
    wait_until("the mesh to serve again", LIMIT, || {
        is_closed(&mesh);
        curl(&mesh, "client", web).is_ok()
    })
    .unwrap();
    let answer = curl(&mesh, "client", web).unwrap();
    assert_eq!(record(&mesh, 2, "inbound", &answer).security, "mutual_tls");
    for listener in taken.unwrap() {
        listener.set_nonblocking(true).unwrap();
        let stray = listener.accept();
        assert!(stray.is_err(), "handed to the application: {stray:?}");
    }
}

#[test]
fn a_pod_that_leaves_the_mesh_and_comes_back_keeps_no_connection_from_between() {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("web", 1).strict())
        .pod(PodSpec::new("outside", 2).outside())
        .start()
        .unwrap();
    mesh.serve("outside", &["echo", "--listen", "[::]:8080"])
        .unwrap();
    let to = address(&mesh, "outside", 8080);
    let is_in = |mesh: &Mesh, phases: &[&str]| {
        let config = mesh.agent_get(1, "/config").unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        let phase = &config["pods"]["default/web"]["phase"];
        phases.iter().any(|wanted| phase == wanted)
    };
    mesh.apply_pod(PodSpec::new("web", 1).outside()).unwrap();
    wait_until("the pod to leave", LIMIT, || {
        is_in(&mesh, &["leaving", "outside"])
    })
    .unwrap();
    let mut stream = dial(&mesh, "web", to);
    echoes(&mut stream).unwrap();
    mesh.apply_pod(PodSpec::new("web", 1).strict()).unwrap();
    wait_until("the pod to come back", LIMIT, || {
        is_in(&mesh, &["captured"])
    })
    .unwrap();
    wait_until("the connection to be ended", LIMIT, || {
        echoes(&mut stream).is_err()
    })
    .unwrap();
}

#[test]
fn a_pod_that_turns_strict_keeps_no_connection_from_before() {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("late", 2).outside())
        .pod(PodSpec::new("kept", 2).outside())
        .pod(PodSpec::new("outside", 1).outside())
        .start()
        .unwrap();
    for pod in ["late", "kept"] {
        mesh.serve(pod, &["echo", "--listen", "[::]:8080"]).unwrap();
    }
    let mut dialled = ["late", "kept"].map(|pod| {
        let mut stream = dial(&mesh, "outside", address(&mesh, pod, 8080));
        echoes(&mut stream).unwrap();
        stream
    });
    mesh.apply_pod(PodSpec::new("late", 2).strict()).unwrap();
    mesh.apply_pod(PodSpec::new("kept", 2)).unwrap();
    mesh.wait_ready().unwrap();
    let error = echoes(&mut dialled[0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    echoes(&mut dialled[1]).expect("a permissive pod keeps it");
    // Permissive, it is captured with that connection; strict, it may not have it.
    mesh.apply_pod(PodSpec::new("kept", 2).strict()).unwrap();
    wait_until("the connection to be ended", LIMIT, || {
        echoes(&mut dialled[1]).is_err()
    })
    .unwrap();
}

/// Nobody reaches the pods of that name who proves no identity.
fn deny_plaintext(mesh: &Mesh, app: &str) {
    let spec = json!({
        "selector": { "matchLabels": { "app": app } },
        "action": "DENY",
        "rules": [{ "from": [{ "notPrincipals": ["*"] }] }],
    });
    let manifests = mesh.manifests();
    manifests.write_authorization_policy(app, &spec).unwrap();
}

#[test]
fn a_permissive_pod_that_gets_policies_keeps_no_connection_that_came_past_them() {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("late", 2).outside())
        .pod(PodSpec::new("kept", 2).outside())
        .pod(PodSpec::new("outside", 1).outside())
        .start()
        .unwrap();
    for pod in ["late", "kept", "outside"] {
        mesh.serve(pod, &["echo", "--listen", "[::]:8080"]).unwrap();
    }
    let mut dialled = ["late", "kept"].map(|pod| {
        let mut stream = dial(&mesh, "outside", address(&mesh, pod, 8080));
        echoes(&mut stream).unwrap();
        stream
    });
    let mut own = dial(&mesh, "late", address(&mesh, "outside", 8080));
    echoes(&mut own).unwrap();
    deny_plaintext(&mesh, "late");
    mesh.apply_pod(PodSpec::new("late", 2)).unwrap();
    mesh.apply_pod(PodSpec::new("kept", 2)).unwrap();
    mesh.wait_ready().unwrap();
    let error = echoes(&mut dialled[0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    echoes(&mut own).expect("policies are about what arrives");
    echoes(&mut dialled[1]).expect("no policy is about this pod");
    deny_plaintext(&mesh, "kept");
    wait_until("the connection to be ended", LIMIT, || {
        echoes(&mut dialled[1]).is_err()
    })
    .unwrap();
    echoes(&mut own).expect("policies are about what arrives");
}

#[test]
fn a_permissive_pod_with_policies_is_closed_inbound_while_its_agent_is_away() {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("client", 1))
        .pod(PodSpec::new("web-2", 2))
        .pod(PodSpec::new("outside", 1).outside())
        .agents(AgentOptions {
            pinned: true,
            ..AgentOptions::default()
        })
        .start()
        .unwrap();
    serve_web(&mut mesh, &["web-2", "outside"]);
    let web = address(&mesh, "web-2", 8080);
    let elsewhere = address(&mesh, "outside", 8080);
    curl(&mesh, "outside", web).expect("no policy yet");
    deny_plaintext(&mesh, "web-2");
    wait_until("the policy to hold", LIMIT, || {
        curl(&mesh, "outside", web).is_err()
    })
    .unwrap();
    // The proxy knows it first.
    wait_until("the kernel to be told", LIMIT, || {
        mesh.agent_log(2).unwrap().contains("updated")
    })
    .unwrap();
    let is_refused = |mesh: &Mesh| {
        let namespace = mesh.pod("outside").unwrap().host.namespace();
        let connect = move || TcpStream::connect_timeout(&web, Duration::from_secs(10));
        let dialled = namespace.run(connect).unwrap();
        dialled.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    };
    let comes_back = |mesh: &mut Mesh| {
        mesh.restart_agent(2).unwrap();
        mesh.wait_ready().unwrap();
        wait_until("the mesh to serve again", LIMIT, || {
            let past = curl(mesh, "outside", web);
            assert!(past.is_err(), "reached past its policy: {past:?}");
            curl(mesh, "client", web).is_ok()
        })
        .unwrap();
    };
    mesh.stop_agent(2).unwrap();
    assert!(is_refused(&mesh), "the agent was told to stop");
    curl(&mesh, "web-2", elsewhere).expect("its own go out as without a mesh");
    comes_back(&mut mesh);
    mesh.kill_agent(2).unwrap();
    assert!(is_refused(&mesh), "the agent was killed");
    comes_back(&mut mesh);
}

#[test]
fn a_pod_whose_connections_are_led_elsewhere_is_not_reported_captured() {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("led", 2).outside())
        .pod(PodSpec::new("open", 2).outside())
        .pod(PodSpec::new("client", 1))
        .pod(PodSpec::new("outside", 1).outside())
        .start()
        .unwrap();
    serve_web(&mut mesh, &["led", "open", "outside"]);
    // As another mesh's rules do it, to what we hand over.
    for pod in ["led", "open"] {
        for rule in [
            "rule add pref 100 lookup local",
            "rule add pref 10 ipproto tcp dport 15001 blackhole",
            "rule del pref 0",
        ] {
            let line: Vec<_> = std::iter::once("ip").chain(rule.split(' ')).collect();
            mesh.run(pod, &line).unwrap();
        }
    }
    mesh.apply_pod(PodSpec::new("led", 2).strict()).unwrap();
    mesh.apply_pod(PodSpec::new("open", 2)).unwrap();
    let has_failed = |mesh: &Mesh| {
        let config = mesh.agent_get(2, "/config").unwrap();
        config.matches("did not come to the proxy").count() >= 2
    };
    wait_until("both captures to fail", LIMIT, || has_failed(&mesh)).unwrap();
    let (led, open) = (address(&mesh, "led", 8080), address(&mesh, "open", 8080));
    let elsewhere = address(&mesh, "outside", 8080);
    for _ in 0..3 {
        let inbound = curl(&mesh, "outside", led);
        assert!(inbound.is_err(), "reached in the clear: {inbound:?}");
        let outbound = curl(&mesh, "led", elsewhere);
        assert!(outbound.is_err(), "went out in the clear: {outbound:?}");
    }
    // One that may be open goes on as if it weren't in the mesh, but for the moments of attempts.
    wait_until("the other to be open both ways", LIMIT, || {
        let names = [("outside", open), ("open", elsewhere)].map(|(from, to)| {
            let answer = curl(&mesh, from, to);
            answer.map(|answer| answer.name)
        });
        matches!(names, [Ok(inbound), Ok(outbound)] if inbound == "open" && outbound == "outside")
    })
    .unwrap();
    for pod in ["led", "open"] {
        mesh.run(pod, &["ip", "rule", "del", "pref", "10"]).unwrap();
    }
    mesh.wait_ready().unwrap();
    let answer = curl(&mesh, "client", led).unwrap();
    assert_eq!(record(&mesh, 2, "inbound", &answer).security, "mutual_tls");
}
