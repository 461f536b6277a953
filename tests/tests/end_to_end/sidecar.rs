//! What only sidecars have: the redirection of their pods' connections, and their own life.

use serde_json::json;
use weft_tests::manifest::{PodSpec, Shape};
use weft_tests::mesh::{Mesh, MeshBuilder};
use weft_tests::{wait_for, wait_until};

use super::{LIMIT, addresses, curl, serve_web};

/// The user of the proxy.
const AS_PROXY: [&str; 3] = ["setpriv", "--reuid=1337", "--clear-groups"];

/// Two pods outside the mesh, each with servers.
fn two_pods() -> Mesh {
    let mut mesh = MeshBuilder::new(1)
        .pod(PodSpec::new("pod", 1).outside())
        .pod(PodSpec::new("peer", 1).outside())
        .start()
        .unwrap();
    for pod in ["pod", "peer"] {
        for port in [8080, 9090, 15008] {
            let listen = format!("[::]:{port}");
            let line = ["http", "--listen", &listen, "--name", pod];
            mesh.serve(pod, &line).unwrap();
        }
    }
    mesh
}

/// Who of these is reached, in both families.
fn reached(mesh: &Mesh, from: &str, to: &str) -> Vec<u16> {
    let is_reached = |port: &u16| {
        let answers = addresses(mesh, to, *port).map(|to| curl(mesh, from, to).is_ok());
        assert_eq!(answers[0], answers[1], "{port}: IPv4 and IPv6 are alike");
        answers[0]
    };
    [8080, 9090].into_iter().filter(is_reached).collect()
}

#[test]
fn connections_are_redirected_but_for_what_is_excluded_and_the_proxys_own() {
    let mesh = two_pods();
    assert_eq!(reached(&mesh, "pod", "peer"), [8080, 9090]);
    // Nobody listens where connections are redirected to.
    mesh.run_sidecar("pod", &["init"]).unwrap();
    assert!(reached(&mesh, "pod", "peer").is_empty());
    assert!(reached(&mesh, "peer", "pod").is_empty());
    let url = format!("http://{}/", addresses(&mesh, "peer", 8080)[0]);
    let line = [&AS_PROXY[..], &["curl", "-sS", "--fail", &url]].concat();
    mesh.run("pod", &line).unwrap();
    // Loopback is left alone.
    for url in [
        "http://127.0.0.1:8080/",
        "http://127.9.9.9:8080/",
        "http://[::1]:8080/",
    ] {
        mesh.run("pod", &["curl", "-sS", "--fail", url]).unwrap();
    }
    // The next one replaces it.
    let excluded = [
        "init",
        "--exclude-inbound-ports=8080",
        "--exclude-outbound-ports=9090",
    ];
    mesh.run_sidecar("pod", &excluded).unwrap();
    assert_eq!(reached(&mesh, "pod", "peer"), [9090]);
    assert_eq!(reached(&mesh, "peer", "pod"), [8080]);
    let blocks = mesh.pod("peer").unwrap().host.addresses();
    let blocks = format!("--exclude-outbound-cidrs={},{}", blocks[0], blocks[1]);
    mesh.run_sidecar("pod", &["init", &blocks]).unwrap();
    assert_eq!(reached(&mesh, "pod", "peer"), [8080, 9090]);
    assert!(reached(&mesh, "peer", "pod").is_empty());
    let blocks = mesh.pod("peer").unwrap().host.addresses();
    let blocks = format!("--exclude-inbound-cidrs={},{}", blocks[0], blocks[1]);
    mesh.run_sidecar("pod", &["init", &blocks]).unwrap();
    assert_eq!(reached(&mesh, "peer", "pod"), [8080, 9090]);
    assert!(reached(&mesh, "pod", "peer").is_empty());
    let others = "--exclude-inbound-cidrs=192.0.2.0/24,2001:db8::/32";
    mesh.run_sidecar("pod", &["init", others]).unwrap();
    assert!(reached(&mesh, "peer", "pod").is_empty());
    for _ in 0..2 {
        mesh.run_sidecar("pod", &["cleanup"]).unwrap();
        assert_eq!(reached(&mesh, "peer", "pod"), [8080, 9090]);
    }
}

/// While the proxy is away its ports are free, and some are in one family alone all the time.
#[test]
fn a_listener_on_the_proxys_ports_that_is_not_the_proxys_gets_no_connection() {
    let mut mesh = two_pods();
    for port in [15001, 15006, 15020] {
        let listen = format!("[::]:{port}");
        let line = ["http", "--listen", &listen, "--name", "impostor"];
        mesh.serve("pod", &line).unwrap();
    }
    // The first is redirected to 15006.
    let ports = [9999, 15008, 15020];
    let answers = |mesh: &Mesh, from: &str| {
        let to = ports.map(|port| addresses(mesh, "pod", port));
        to.as_flattened()
            .iter()
            .filter(|to| curl(mesh, from, **to).is_ok())
            .count()
    };
    // The listeners themselves answer: whoever is of the proxy's user is the proxy.
    mesh.run_sidecar("pod", &["init", "--proxy-uid=0"]).unwrap();
    assert_eq!(answers(&mesh, "peer"), 6);
    // As the kernel answers a flood, here whatever comes.
    let cookies = |value: &str| {
        let line = format!("echo {value} > /proc/sys/net/ipv4/tcp_syncookies");
        mesh.run("pod", &["sh", "-c", &line]).unwrap();
    };
    cookies("2");
    assert_eq!(answers(&mesh, "peer"), 6);
    cookies("1");
    mesh.run_sidecar("pod", &["init"]).unwrap();
    assert_eq!(answers(&mesh, "peer"), 0);
    // Out of the pod as little.
    let to = addresses(&mesh, "peer", 8080)[0];
    assert!(curl(&mesh, "pod", to).is_err());
    mesh.run_sidecar("pod", &["cleanup"]).unwrap();
    assert_eq!(curl(&mesh, "pod", to).unwrap().name, "peer");
}

/// By TPROXY connections keep their destination, which is the application.
#[test]
fn by_tproxy_nobody_reaches_the_application_while_its_proxy_is_away() {
    let mesh = two_pods();
    assert_eq!(reached(&mesh, "peer", "pod"), [8080, 9090]);
    let init = ["init", "--capture=tproxy", "--exclude-inbound-ports=9090"];
    mesh.run_sidecar("pod", &init).unwrap();
    assert_eq!(reached(&mesh, "peer", "pod"), [9090]);
    // What the proxy itself connects to answers.
    let url = format!("http://{}/", addresses(&mesh, "peer", 8080)[0]);
    let line = [&AS_PROXY[..], &["curl", "-sS", "--fail", &url]].concat();
    mesh.run("pod", &line).unwrap();
}

#[test]
fn whoever_may_not_redirect_connections_is_told_what_is_missing() {
    let mesh = two_pods();
    let line = [&AS_PROXY[..], &[mesh.sidecar_program(), "init"]].concat();
    let refused = mesh.run("pod", &line).unwrap_err().to_string();
    assert!(refused.contains("NET_ADMIN"), "{refused}");
    assert_eq!(reached(&mesh, "pod", "peer"), [8080, 9090]);
}

#[test]
fn a_sidecar_that_runs_as_another_user_says_so_and_serves_nobody() {
    let mesh = two_pods();
    let program = mesh.sidecar_program();
    let line = [
        "setpriv",
        "--reuid=1000",
        "--clear-groups",
        program,
        "run",
        "--node=node-1",
        "--pod-name=pod",
        "--pod-namespace=default",
        "--control-plane=https://127.0.0.1:1",
        "--root-certificates=/none",
        "--token-file=/none",
    ];
    let refused = mesh.run("pod", &line).unwrap_err().to_string();
    assert!(refused.contains("runs as user 1000"), "{refused}");
    assert!(refused.contains("--proxy-uid"), "{refused}");
}

/// A pod with a sidecar and a web server, and its client on another node.
fn served() -> Mesh {
    let mut mesh = MeshBuilder::new(2)
        .pod(PodSpec::new("client", 1))
        .pod(PodSpec::new("web", 2).shape(Shape::Sidecar))
        .start()
        .unwrap();
    let line = ["web", "--listen", "[::]:8080", "--name", "web"];
    mesh.serve("web", &line).unwrap();
    mesh
}

#[test]
fn a_sidecar_that_is_told_to_stop_serves_its_application_to_the_end() {
    let mut mesh = served();
    let to = addresses(&mesh, "web", 8080)[0];
    let url = format!("http://{to}/?delay=2000");
    let line = ["curl", "-sS", "--fail", "--max-time", "30", &url];
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| mesh.run("client", &line));
        wait_until("the request to be under way", LIMIT, || {
            let open = mesh.proxy_get("web", "/connections").unwrap();
            open.contains("inbound")
        })
        .unwrap();
        mesh.run_sidecar("web", &["wait", "--timeout=1s"]).unwrap();
        mesh.tell_sidecar_to_stop("web").unwrap();
        slow.join().unwrap().unwrap();
    });
    let is_unready = || mesh.run_sidecar("web", &["wait", "--timeout=0s"]).is_err();
    wait_until("it to be unready", LIMIT, is_unready).unwrap();
    // The application still has its sockets, and its clients.
    let url = format!("http://{to}/");
    mesh.run("client", &["curl", "-sS", "--fail", &url])
        .unwrap();
    mesh.stop_apps("web");
    mesh.wait_sidecar_ended("web").unwrap();
}

#[test]
fn a_drained_sidecar_stays_until_it_is_told_to_stop() {
    let mut mesh = served();
    mesh.stop_apps("web");
    mesh.run_sidecar("web", &["drain", "--timeout=30s"])
        .unwrap();
    let state = mesh.proxy_get("web", "/readyz").unwrap();
    assert!(state.contains("stopping"), "{state}");
    mesh.tell_sidecar_to_stop("web").unwrap();
    mesh.wait_sidecar_ended("web").unwrap();
    // Whoever is gone has drained.
    mesh.run_sidecar("web", &["drain"]).unwrap();
}

#[test]
fn a_sidecar_comes_back_and_so_do_its_connections() {
    let mut mesh = served();
    let to = addresses(&mesh, "web", 8080)[0];
    let url = format!("http://{to}/");
    let line = ["curl", "-sS", "--fail", &url];
    mesh.run("client", &line).unwrap();
    mesh.restart_sidecar("web").unwrap();
    let is_served = || mesh.run("client", &line).is_ok();
    wait_until("an answer", LIMIT, is_served).unwrap();
}

/// A few huge pages that are hardly used would be half of an idle one.
#[test]
fn a_sidecar_takes_no_huge_pages() {
    let mesh = served();
    let pid = mesh.sidecar_pid("web").unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("THP_enabled:"));
    assert_eq!(line, Some("THP_enabled:\t0"), "{status}");
    let memory = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = memory
        .lines()
        .find_map(|line| line.strip_prefix("AnonHugePages:"));
    assert_eq!(line.unwrap().trim(), "0 kB", "{memory}");
}

/// Its own address, and the Service that it is behind itself.
#[test]
fn a_pod_reaches_itself() {
    let mut mesh = MeshBuilder::new(1)
        .pod(PodSpec::new("web", 1).shape(Shape::Sidecar))
        .service(
            "web",
            &["10.96.0.10", "fd00:10:96::10"],
            "web",
            &[(80, 8080)],
        )
        .start()
        .unwrap();
    serve_web(&mut mesh, &["web"]);
    let services = ["10.96.0.10:80", "[fd00:10:96::10]:80"].map(|to| to.parse().unwrap());
    for to in addresses(&mesh, "web", 8080).into_iter().chain(services) {
        assert_eq!(curl(&mesh, "web", to).unwrap().name, "web", "{to}");
    }
}

/// Kubelet connects from an address of its node, and may do what the pod declares.
#[test]
fn a_strict_pod_takes_the_probes_that_it_declares_from_its_node_alone() {
    let probe = json!({ "httpGet": { "path": "/ready", "port": 8080 } });
    let mut mesh = MeshBuilder::new(2)
        .pod(
            PodSpec::new("web", 1)
                .shape(Shape::Sidecar)
                .strict()
                .readiness_probe(probe),
        )
        .start()
        .unwrap();
    let node = mesh.topology().node(1).unwrap();
    let document = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-1" },
        "status": { "addresses": [
            { "type": "InternalIP", "address": node.host.ipv4() },
            { "type": "InternalIP", "address": node.host.ipv6() },
        ] },
    });
    mesh.manifests().write("node-1", &document).unwrap();
    let line = ["web", "--listen", "[::]:8080", "--name", "web"];
    mesh.serve("web", &line).unwrap();
    let to = addresses(&mesh, "web", 8080)[0];
    let ask = |node: u8, path: &str| {
        let url = format!("http://{to}{path}");
        let line = ["curl", "-sS", "--fail", "--max-time", "5", &url];
        let place = mesh.topology().node(node).unwrap().kubelet();
        place.output(&line, LIMIT)
    };
    wait_for("the probe to be answered", LIMIT, || {
        ask(1, "/ready")
            .map(drop)
            .map_err(|error| error.to_string())
    })
    .unwrap();
    assert!(
        ask(1, "/other").is_err(),
        "another request than the probe's"
    );
    assert!(ask(2, "/ready").is_err(), "another node");
}
