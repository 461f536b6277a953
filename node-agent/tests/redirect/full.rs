//! Full maps: whoever finds no room in one fails alone, and leaves nothing behind.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use aya::Pod as Value;
use aya::maps::{HashMap, Map, MapData};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::TcpSocket;
use weft_ebpf_common::{Connection, NamespacedConnection, SCHEMA_VERSION, SocketAddress, map};
use weft_model::authorization::PlaintextOrigin;
use weft_model::mtls::MtlsMode;
use weft_model::node_access::{NodeAccess, Probe, ProbeKind};
use weft_model::workload::{CaptureExclusions, RefusedConnections};
use weft_node_agent::redirect::{
    EnforcementConfig, PodAddresses, PodRedirect, PodRedirectConfig, Redirect, RedirectError,
};
use weft_proxy::sockets::{Purpose, Sockets};

use crate::held::{Proxy, dial_in_thread};
use crate::lab::{
    Captured, Lab, Listeners, Pod, accept, address, block_on, dial, eventually, exclusions,
    isolated,
};
use crate::node::origin;

const MODE: MtlsMode = MtlsMode::Permissive;
const EXCLUDED: [&str; 4] = ["7001", "7002", "10.1.0.0/16", "10.2.0.0/16"];
/// Far less than the maps have.
const FEW: u32 = 64;

fn redirect(lab: &Lab, sizes: &[(&'static str, u32)]) -> Redirect {
    let mut options = lab.options();
    options.map_sizes = sizes.to_vec();
    Redirect::load(&options).expect("the programs load and attach")
}

fn capture(
    redirect: &Redirect,
    pod: &Pod,
    listeners: &Listeners,
    exclusions: &CaptureExclusions,
) -> Result<PodRedirect, RedirectError> {
    redirect.capture(&PodRedirectConfig {
        namespace: &pod.namespace,
        addresses: PodAddresses::Assigned(&pod.addresses()),
        exclusions,
        listeners: listeners.pairs(),
        mtls_mode: MODE,
        node_access: &NodeAccess::All,
        refused_uncaptured: None,
    })
}

/// There is room for one pod in a map, and not for all of another.
fn the_second_pod_fails_alone(lab: &Lab, map: &'static str, size: u32) {
    let redirect = redirect(lab, &[(map, size)]);
    let first = Captured::new(&redirect, lab.pod(10), MODE, &EXCLUDED);
    let before = redirect.table_sizes();
    let pod = lab.pod(20);
    let net = pod.net(&redirect);
    let listeners = Listeners::open(&net);
    let excluded = exclusions(&EXCLUDED);
    let error = capture(&redirect, &pod, &listeners, &excluded).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("eBPF map {map}")), "{text}");
    assert_eq!(redirect.table_sizes(), before, "nothing of it is left");

    let to = address("10.77.1.2:80");
    assert_eq!(first.dial(to).1.unwrap(), to);
    let _client = dial(SocketAddr::new(first.pod.v4(), 8080)).unwrap();
    accept(&first.listeners.plaintext[0]);
    first.captured.release().unwrap();
    let second = capture(&redirect, &pod, &listeners, &excluded);
    second.expect("there is room now");
}

#[test]
fn a_pod_for_whose_namespace_is_no_room_fails_alone() {
    // The node's own is there, too.
    isolated(|lab: &Lab| the_second_pod_fails_alone(lab, map::NAMESPACES, 2));
}

#[test]
fn a_pod_for_whose_excluded_ports_is_no_room_fails_alone() {
    isolated(|lab: &Lab| the_second_pod_fails_alone(lab, map::EXCLUDED_PORTS, 3));
}

#[test]
fn a_pod_for_whose_excluded_blocks_is_no_room_fails_alone() {
    isolated(|lab: &Lab| the_second_pod_fails_alone(lab, map::EXCLUDED_BLOCKS, 3));
}

#[test]
fn a_pod_for_whose_addresses_is_no_room_fails_alone() {
    isolated(|lab: &Lab| the_second_pod_fails_alone(lab, map::POD_ADDRESSES, 3));
}

#[test]
fn a_pod_for_whose_listeners_is_no_room_fails_alone() {
    isolated(|lab: &Lab| the_second_pod_fails_alone(lab, map::LISTENERS, 5));
}

/// Whether connections to a port where nobody listens are refused.
fn is_closed(captured: &Captured) -> bool {
    match dial(SocketAddr::new(captured.pod.v4(), 9)) {
        Ok(_client) => {
            accept(&captured.listeners.plaintext[0]);
            false
        }
        Err(_) => true,
    }
}

#[test]
fn a_pod_for_whose_listeners_is_no_room_has_no_port_refused() {
    isolated(|lab: &Lab| {
        let redirect = redirect(lab, &[(map::LISTENING, 2)]);
        let first = Captured::refusing(&redirect, lab.pod(10), MODE);
        let second = Captured::refusing(&redirect, lab.pod(20), MODE);
        let listen = |pod: &Pod, at: &str| pod.run(|| TcpListener::bind(at)).unwrap();
        let _first = listen(&first.pod, "0.0.0.0:8080");
        let _second = ["0.0.0.0:8080", "0.0.0.0:8081"].map(|at| listen(&second.pod, at));
        assert_eq!(redirect.table_sizes().listening, 2);
        assert!(is_closed(&first));
        assert!(!is_closed(&second));
        let _client = dial(SocketAddr::new(second.pod.v4(), 8081)).unwrap();
        accept(&second.listeners.plaintext[0]);
        // Listeners from before the capture need room, too.
        let third = lab.pod(30);
        let _third = listen(&third, "0.0.0.0:8080");
        assert!(!is_closed(&Captured::refusing(&redirect, third, MODE)));
    });
}

#[test]
fn a_pod_whose_listeners_are_not_followed_has_no_port_refused() {
    isolated(|lab: &Lab| {
        let redirect = redirect(lab, &[(map::LISTENING_PODS, 1)]);
        let first = Captured::refusing(&redirect, lab.pod(10), MODE);
        let second = Captured::refusing(&redirect, lab.pod(20), MODE);
        assert!(is_closed(&first));
        assert!(!is_closed(&second));
    });
}

#[test]
fn a_listener_whose_end_nobody_was_told_of_is_not_refused() {
    isolated(|lab: &Lab| {
        // Room for 102 events, of 320.
        let redirect = redirect(lab, &[(map::LISTENING_EVENTS, 4096)]);
        let pods: Vec<_> = (10..20)
            .map(|number| Captured::refusing(&redirect, lab.pod(number), MODE))
            .collect();
        for captured in &pods {
            for _ in 0..32 {
                drop(captured.pod.run(|| TcpListener::bind("0.0.0.0:9")).unwrap());
            }
            assert!(!is_closed(captured));
        }
    });
}

#[test]
fn a_pod_that_can_not_be_refused_is_not_taken_for_refused() {
    isolated(|lab: &Lab| {
        // The node's own namespace is there.
        let redirect = redirect(lab, &[(map::NAMESPACES, 1)]);
        let pod = lab.pod(10);
        let mut enforced = redirect.prepare(&pod.namespace).unwrap();
        let result = enforced.enforce(&EnforcementConfig {
            namespace: &pod.namespace,
            addresses: PodAddresses::Assigned(&pod.addresses()),
            exclusions: &CaptureExclusions::default(),
            refused: RefusedConnections::Both,
            node_access: &NodeAccess::All,
        });
        assert!(result.is_err());
        assert!(!enforced.is_refused());
    });
}

#[test]
fn a_port_for_which_is_no_room_is_closed_to_the_node() {
    isolated(|lab: &Lab| {
        let redirect = redirect(lab, &[(map::NODE_PORTS, 1)]);
        let mut all = Captured::new(&redirect, lab.pod(10), MtlsMode::Strict, &[]);
        let probe = |port| Probe {
            port,
            kind: ProbeKind::Tcp,
        };
        all.open_to_node(&NodeAccess::Probes([probe(8080), probe(8081)].into()));
        assert_eq!(redirect.table_sizes().node_ports, 1);
        let to = address("10.77.1.2:80");
        assert_eq!(all.dial(to).1.unwrap(), to, "the pod is captured");
        let listeners = [8080, 8081].map(|port| {
            let at = SocketAddr::new(all.pod.v4(), port);
            all.pod.run(|| TcpListener::bind(at)).unwrap()
        });
        // No agent runs.
        let Captured {
            listeners: of_proxy,
            captured: _captured,
            ..
        } = all;
        drop(of_proxy);
        let is_open = |listener| lab.probe(listener).status.success();
        let open = listeners.iter().filter(|listener| is_open(listener));
        assert_eq!(open.count(), 1);
    });
}

#[test]
fn kubelets_beyond_the_room_for_them_are_not_believed() {
    isolated(|lab: &Lab| {
        let redirect = redirect(lab, &[(map::KUBELETS, 1)]);
        let captured = Captured::new(&redirect, lab.pod(10), MtlsMode::Strict, &[]);
        let to = SocketAddr::new(captured.pod.v4(), 8080);
        let seen = || {
            std::thread::scope(|scope| {
                scope.spawn(|| lab.helper("kubelet", &format!("dial {to}")));
                origin(&captured, 0)
            })
        };
        assert_eq!(seen(), PlaintextOrigin::Kubelet);
        // Another one, of which the table can't tell before it has forgotten the first.
        let cgroup = lab.cgroup.join("kubelet");
        eventually("nobody is in it", || std::fs::remove_dir(&cgroup).is_ok());
        std::fs::create_dir(&cgroup).unwrap();
        let error = redirect.look_for_kubelet().unwrap_err().to_string();
        assert!(error.contains(map::KUBELETS), "{error}");
        assert_eq!(seen(), PlaintextOrigin::Node);
    });
}

#[test]
fn a_pod_for_whose_new_exclusions_is_no_room_stays_as_it_was() {
    isolated(|lab: &Lab| {
        let redirect = redirect(lab, &[(map::EXCLUDED_PORTS, 3)]);
        let mut captured = Captured::new(&redirect, lab.pod(10), MODE, &["7001"]);
        let before = redirect.table_sizes();
        let error = captured.captured.update(&PodRedirectConfig {
            namespace: &captured.pod.namespace,
            addresses: PodAddresses::Assigned(&captured.pod.addresses()),
            exclusions: &exclusions(&["7002", "7003", "7004"]),
            listeners: captured.listeners.pairs(),
            mtls_mode: MODE,
            node_access: &NodeAccess::All,
            refused_uncaptured: None,
        });
        assert!(error.is_err());
        assert_eq!(redirect.table_sizes(), before);
        for port in [7002, 7003, 7004] {
            let to = SocketAddr::new([10, 77, 1, 2].into(), port);
            assert_eq!(captured.dial(to).1.unwrap(), to, "still captured");
        }
        captured.update(MODE, &["7002", "7003"]);
        assert_eq!(redirect.table_sizes().excluded_ports, 2);
    });
}

#[test]
fn a_pod_that_asks_for_more_than_its_share_touches_no_table() {
    isolated(|lab: &Lab| {
        let redirect = redirect(lab, &[]);
        let before = redirect.table_sizes();
        let pod = lab.pod(10);
        let net = pod.net(&redirect);
        let listeners = Listeners::open(&net);
        let ports = CaptureExclusions {
            ports: (1..=65).collect(),
            ..CaptureExclusions::default()
        };
        let block = |number: u8| format!("10.{number}.0.0/16").parse().unwrap();
        let blocks = CaptureExclusions {
            blocks: (0..65).map(block).collect(),
            ..CaptureExclusions::default()
        };
        for excluded in [ports, blocks] {
            let error = capture(&redirect, &pod, &listeners, &excluded).unwrap_err();
            let error = error.to_string();
            assert!(error.contains("at most 64"), "{error}");
            assert_eq!(redirect.table_sizes(), before);
        }
        let many: Vec<IpAddr> = (1..=9).map(|n| IpAddr::from([10, 9, 1, n])).collect();
        let error = redirect.capture(&PodRedirectConfig {
            namespace: &pod.namespace,
            addresses: PodAddresses::Assigned(&many),
            exclusions: &CaptureExclusions::default(),
            listeners: listeners.pairs(),
            mtls_mode: MODE,
            node_access: &NodeAccess::All,
            refused_uncaptured: None,
        });
        let error = error.unwrap_err().to_string();
        assert!(error.contains("9 addresses, at most 8"), "{error}");
        assert_eq!(redirect.table_sizes(), before);
        capture(&redirect, &pod, &listeners, &CaptureExclusions::default())
            .expect("with less it is captured");
    });
}

/// Writes four times as many records to a map as it has room for.
fn fill<K: Value, V: Value + Default>(pins: &Path, map: &str, key: impl Fn(Connection) -> K) {
    let path = pins.join(format!("v{SCHEMA_VERSION}/maps/{map}"));
    let data = MapData::from_pin(path).unwrap();
    let mut records = HashMap::<_, K, V>::try_from(Map::LruHashMap(data)).unwrap();
    for number in 0..4 * FEW {
        let [_, _, high, low] = number.to_be_bytes();
        let end = |port| SocketAddress::from_v4([10, 200, high, low], [0, port]);
        let connection = Connection {
            source: end(1),
            destination: end(2),
        };
        records.insert(key(connection), V::default(), 0).unwrap();
    }
}

#[test]
fn connections_are_opened_while_the_maps_of_those_are_full() {
    isolated(|lab: &Lab| {
        let folder = tempfile::tempdir().unwrap();
        let pins = folder.path().join("pins");
        let records = [map::PENDING, map::OWN_CONNECTIONS, map::NODE_CONNECTIONS];
        let mut options = lab.options();
        options.map_sizes = records.map(|map| (map, FEW)).to_vec();
        options.pin_directory = Some(pins.clone());
        let redirect = Redirect::load(&options).unwrap();
        let captured = Captured::new(&redirect, lab.pod(10), MtlsMode::Strict, &[]);
        fill::<_, SocketAddress>(&pins, map::PENDING, |connection| NamespacedConnection {
            namespace: [7; 8],
            connection,
        });
        fill::<_, SocketAddress>(&pins, map::OWN_CONNECTIONS, |connection| connection);
        fill::<_, [u8; 8]>(&pins, map::NODE_CONNECTIONS, |connection| connection);

        for port in 1..=100 {
            let to = SocketAddr::new([10, 77, 1, 2].into(), port);
            assert_eq!(captured.dial(to).1.unwrap(), to);
        }
        let listen = || TcpListener::bind("10.9.0.10:8080");
        let application = captured.pod.run(listen).unwrap();
        let client = address("10.9.0.77:5000");
        let to = application.local_addr().unwrap();
        let _connection = captured.connect(to, Purpose::Application { client });
        assert_eq!(accept(&application).peer_addr().unwrap(), client);
        let _client = dial(SocketAddr::new(captured.pod.v4(), 80)).unwrap();
        let accepted = accept(&captured.listeners.plaintext[0]);
        let origin = captured.sockets.origin(accepted.as_fd());
        assert_eq!(origin, PlaintextOrigin::Node);
    });
}

/// A connection of a captured pod whose last packet the application holds back for as long as the
/// kernel lets it: the proxy's end doesn't exist yet.
fn half_opened(captured: &Captured, to: SocketAddr) -> Socket {
    captured.pod.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_tcp_quickack(false).unwrap();
        socket.connect(&to.into()).unwrap();
        socket
    })
}

/// As many connections as one pod may have on their way, and many more.
#[test]
fn connections_that_a_pod_opens_without_end_make_the_proxy_forget_no_other_pods() {
    isolated(|lab: &Lab| {
        let folder = tempfile::tempdir().unwrap();
        let pins = folder.path().join("pins");
        let mut options = lab.options();
        options.map_sizes = vec![(map::PENDING, FEW)];
        options.pin_directory = Some(pins.clone());
        let redirect = Redirect::load(&options).unwrap();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        let to = address("10.77.1.2:80");
        let client = half_opened(&captured, to);
        assert_eq!(
            redirect.record_counts().pending,
            1,
            "the proxy's end is there"
        );
        fill::<_, SocketAddress>(&pins, map::PENDING, |connection| NamespacedConnection {
            namespace: [7; 8],
            connection,
        });
        client.send(b"x").unwrap();
        let accepted = accept(captured.listeners.outbound(to));
        assert_eq!(captured.destination(&accepted).unwrap(), to);
    });
}

/// A connection of the proxy's that is not waited for.
fn begin(captured: &Captured, to: SocketAddr, purpose: Purpose) -> TcpSocket {
    let socket = captured.net.socket(to, purpose).unwrap();
    let under_way = SockRef::from(&socket).connect(&to.into());
    if let Err(error) = under_way {
        assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS), "{error}");
    }
    socket
}

/// The other end of such a connection doesn't exist yet when those to other pods, or through
/// them, begin by the thousand.
#[test]
fn connections_to_a_pod_without_end_make_nobody_forget_those_to_another() {
    isolated(|lab: &Lab| {
        let folder = tempfile::tempdir().unwrap();
        let pins = folder.path().join("pins");
        let mut options = lab.options();
        options.map_sizes = vec![(map::OWN_CONNECTIONS, FEW), (map::NODE_CONNECTIONS, FEW)];
        options.pin_directory = Some(pins.clone());
        let redirect = Redirect::load(&options).unwrap();
        let captured = Captured::new(&redirect, lab.pod(10), MtlsMode::Strict, &[]);
        let half_opened = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        half_opened.set_tcp_quickack(false).unwrap();
        let to = SocketAddr::new(captured.pod.v4(), 80);
        half_opened.connect(&to.into()).unwrap();
        fill::<_, [u8; 8]>(&pins, map::NODE_CONNECTIONS, |connection| connection);
        half_opened.send(b"x").unwrap();
        let accepted = accept(&captured.listeners.plaintext[0]);
        let origin = captured.sockets.origin(accepted.as_fd());
        assert_eq!(origin, PlaintextOrigin::Node);

        // Nobody takes them: the queue of the first listener is full.
        let listen = |port: u16| {
            captured.pod.run(|| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                let at = SocketAddr::new(captured.pod.v4(), port);
                socket.bind(&at.into()).unwrap();
                socket.listen(0).unwrap();
                TcpListener::from(socket)
            })
        };
        let (flooded, other) = (listen(8080), listen(8081));
        let client = address("10.9.0.77:5000");
        let purpose = || Purpose::Application { client };
        let opening: Vec<_> = (0..8)
            .map(|_| begin(&captured, flooded.local_addr().unwrap(), purpose()))
            .collect();
        let before = redirect.record_counts().own_connections;
        assert!(before > 1, "{before} of {}", opening.len());
        fill::<_, SocketAddress>(&pins, map::OWN_CONNECTIONS, |connection| connection);
        let _connection = captured.connect(other.local_addr().unwrap(), purpose());
        assert_eq!(accept(&other).peer_addr().unwrap(), client);
        // Those that waited have their client, too, once there is room for them.
        assert_eq!(accept(&flooded).peer_addr().unwrap(), client);
        assert_eq!(accept(&flooded).peer_addr().unwrap(), client);
        drop(opening);
    });
}

#[test]
fn a_connection_that_is_given_up_on_its_way_to_the_proxy_leaves_no_record() {
    isolated(|lab: &Lab| {
        let redirect = redirect(lab, &[]);
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        for port in 1..=3 {
            let to = SocketAddr::new([10, 77, 1, 2].into(), port);
            let client = half_opened(&captured, to);
            assert!(
                redirect.record_counts().pending > 0,
                "the proxy's end is there"
            );
            // A reset: the packet that was held back is never sent.
            client.set_linger(Some(Duration::ZERO)).unwrap();
        }
        eventually("no record is left", || {
            redirect.record_counts().pending == 0
        });
    });
}

/// Connections that are opened at once, each to a port of its own.
fn open_many(captured: &Captured, count: u16) -> Vec<Socket> {
    captured.pod.run(|| {
        let open = |port| {
            let kind = Type::STREAM.nonblocking();
            let socket = Socket::new(Domain::IPV4, kind, None).unwrap();
            // Under way.
            let _ = socket.connect(&SocketAddr::new([10, 77, 1, 2].into(), port).into());
            socket
        };
        (1..=count).map(open).collect()
    })
}

#[test]
fn held_connections_for_which_is_no_room_go_on_as_if_they_were_not_held() {
    isolated(|lab: &Lab| {
        let redirect = redirect(lab, &[(map::HELD, 2)]);
        let captured = Captured::holding(&redirect, lab.pod(10));
        let mut proxy = Proxy::new(&redirect);
        let _clients = open_many(&captured, 8);
        let namespace = captured.net.namespace();
        while let Some(attempt) = proxy.next() {
            proxy.held.let_through(&attempt, namespace).unwrap();
        }
        let listener = captured.listeners.outbound(address("10.77.1.2:80"));
        let accepted = (1..=8).map(|_| captured.destination(&accept(listener)).unwrap().port());
        assert_eq!(accepted.collect::<HashSet<_>>(), (1..=8).collect());
    });
}

#[test]
fn connections_that_the_agent_cannot_be_told_of_go_on_as_if_they_were_not_held() {
    isolated(|lab: &Lab| {
        // Room for 26.
        let redirect = redirect(lab, &[(map::ATTEMPTS, 4096)]);
        let captured = Captured::holding(&redirect, lab.pod(10));
        let clients = open_many(&captured, 60);
        let connected = |socket: &&Socket| socket.peer_addr().is_ok();
        eventually("those that there is no room for go on", || {
            clients.iter().filter(connected).count() >= 30
        });
    });
}

/// Two pods connect to some destinations each, with hardly any room in a map.
fn everybody_is_answered(lab: &Lab, map: &'static str) {
    let redirect = redirect(lab, &[(map, 1)]);
    let pods = [10, 20].map(|number| Captured::holding(&redirect, lab.pod(number)));
    let mut proxy = Proxy::new(&redirect);
    for port in 1..=4 {
        for captured in &pods {
            let to = SocketAddr::new([10, 77, 1, 2].into(), port);
            let client = dial_in_thread(captured, to);
            let attempt = proxy.next().expect("the proxy hears of it");
            let namespace = captured.net.namespace();
            proxy.held.let_through(&attempt, namespace).unwrap();
            client.join().unwrap().unwrap();
            let accepted = accept(captured.listeners.outbound(to));
            assert_eq!(captured.destination(&accepted).unwrap(), to);
        }
    }
}

#[test]
fn destinations_that_are_not_remembered_are_held_again() {
    isolated(|lab: &Lab| everybody_is_answered(lab, map::REACHED));
}

#[test]
fn a_pod_whose_rate_is_forgotten_is_held_all_the_same() {
    isolated(|lab: &Lab| everybody_is_answered(lab, map::HOLD_RATES));
}

/// Leaves the sockets of a pod no memory for what programs keep with them. Since Linux 6.9 each
/// network namespace has this limit for itself.
pub(crate) fn leave_no_memory(pod: &Pod) {
    pod.run(|| std::fs::write("/proc/sys/net/core/optmem_max", "0"))
        .expect("the limit is the namespace's own");
}

#[test]
fn without_memory_for_its_destination_a_connection_is_refused() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        leave_no_memory(&captured.pod);
        let error = captured
            .pod
            .run(|| dial(address("10.77.1.2:80")))
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn without_memory_for_its_mark_the_proxy_opens_no_connection() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        let server = TcpListener::bind("10.9.0.1:7000").unwrap();
        leave_no_memory(&captured.pod);
        let to = server.local_addr().unwrap();
        let error = captured.connect(to, Purpose::Upstream).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
    });
}

#[test]
fn without_memory_for_its_client_an_application_sees_the_proxy() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        let listen = || TcpListener::bind("10.9.0.10:8080");
        let application = captured.pod.run(listen).unwrap();
        let client = address("10.9.0.77:5000");
        let to = application.local_addr().unwrap();
        block_on(async {
            let purpose = Purpose::Application { client };
            let socket = captured.net.socket(to, purpose).unwrap();
            leave_no_memory(&captured.pod);
            let _connection = socket.connect(to).await.unwrap();
            let peer = accept(&application).peer_addr().unwrap();
            assert_eq!(peer.ip(), captured.pod.v4());
        });
    });
}

#[test]
fn without_memory_for_its_origin_a_process_of_the_node_is_the_network() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MtlsMode::Strict, &[]);
        leave_no_memory(&captured.pod);
        let _client = dial(SocketAddr::new(captured.pod.v4(), 8080)).unwrap();
        let accepted = accept(&captured.listeners.plaintext[0]);
        let origin = captured.sockets.origin(accepted.as_fd());
        assert_eq!(origin, PlaintextOrigin::Network);
    });
}
