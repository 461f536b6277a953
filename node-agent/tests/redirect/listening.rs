//! Connections to ports of a captured pod where no application listens.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::path::Path;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use weft_ebpf_common::capacity;
use weft_model::mtls::MtlsMode;
use weft_model::ports::HBONE_PORT;
use weft_node_agent::redirect::Redirect;
use weft_proxy::sockets::Purpose;

use crate::lab::{Captured, Lab, accept, address, block_on, dial, eventually, isolated};

const MODES: [MtlsMode; 2] = [MtlsMode::Permissive, MtlsMode::Strict];
const MODE: MtlsMode = MtlsMode::Permissive;

/// The agent's part, for as long as the test runs.
fn follow(redirect: &Redirect) {
    let events = redirect.follow_listening().unwrap();
    std::thread::spawn(move || block_on(events));
}

/// Whether a connection to a port is handed to the proxy; else it is refused.
fn is_taken(captured: &Captured, family: usize, port: u16) -> bool {
    let to = SocketAddr::new(captured.pod.addresses()[family], port);
    match dial(to) {
        Ok(_client) => {
            let listener = &captured.listeners.plaintext[family];
            assert_eq!(accept(listener).local_addr().unwrap(), to);
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
            false
        }
    }
}

fn listen(captured: &Captured, at: &str) -> TcpListener {
    captured.pod.run(|| TcpListener::bind(at)).unwrap()
}

/// A listener with options that the standard library's doesn't set.
fn listen_with(captured: &Captured, at: &str, set: impl Fn(&Socket)) -> Socket {
    captured.pod.run(|| {
        let at = address(at);
        let tcp = Some(Protocol::TCP);
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, tcp).unwrap();
        set(&socket);
        socket.bind(&at.into()).unwrap();
        socket.listen(8).unwrap();
        socket
    })
}

#[test]
fn a_port_where_nobody_listens_is_refused_until_somebody_does() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        for (number, mode) in [10, 20].into_iter().zip(MODES) {
            let captured = Captured::refusing(&redirect, lab.pod(number), mode);
            for family in [0, 1] {
                assert!(!is_taken(&captured, family, 8080));
            }
            // The port of tunnels is the proxy's.
            dial(SocketAddr::new(captured.pod.v4(), HBONE_PORT)).unwrap();
            let _v4 = listen(&captured, "0.0.0.0:8080");
            assert!(is_taken(&captured, 0, 8080), "as soon as listen() returns");
            assert!(!is_taken(&captured, 1, 8080));
            let own = SocketAddr::new(captured.pod.v6(), 8080);
            let _v6 = listen(&captured, &own.to_string());
            assert!(is_taken(&captured, 1, 8080));
            let _both = listen(&captured, "[::]:8081");
            for family in [0, 1] {
                assert!(is_taken(&captured, family, 8081));
            }
        }
    });
}

#[test]
fn listeners_from_before_the_capture_are_known() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let pod = lab.pod(10);
        let [_v4, _v6, _both] = ["0.0.0.0:8080", "[fd09::a]:8080", "[::]:8081"]
            .map(|at| pod.run(|| TcpListener::bind(at)).unwrap());
        let captured = Captured::refusing(&redirect, pod, MODE);
        for family in [0, 1] {
            assert!(is_taken(&captured, family, 8080));
            assert!(is_taken(&captured, family, 8081));
            assert!(!is_taken(&captured, family, 8082));
        }
    });
}

#[test]
fn what_only_the_pod_itself_reaches_is_refused_from_elsewhere() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::refusing(&redirect, lab.pod(10), MODE);
        let _local = listen(&captured, "127.0.0.1:8080");
        let _local_v6 = listen(&captured, "[::1]:8080");
        let _on_loopback = listen_with(&captured, "0.0.0.0:8081", |socket| {
            socket.bind_device(Some(b"lo")).unwrap();
        });
        captured.pod.ip("addr add 10.9.0.11/24 dev eth0");
        let _other = listen(&captured, "10.9.0.11:8082");
        for port in [8080, 8081, 8082, 15001, 15006] {
            assert!(!is_taken(&captured, 0, port), "{port}");
            assert!(!is_taken(&captured, 1, port), "{port}");
        }
        captured
            .pod
            .run(|| dial(address("127.0.0.1:8080")))
            .unwrap();
    });
}

#[test]
fn a_port_is_refused_again_when_its_last_listener_ends() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        follow(&redirect);
        let captured = Captured::refusing(&redirect, lab.pod(10), MODE);
        // An application may close its listener, shut it down, or share its port.
        let closed = listen(&captured, "0.0.0.0:8080");
        let shut_down = listen(&captured, "0.0.0.0:8081");
        let share = |socket: &Socket| socket.set_reuse_port(true).unwrap();
        let first = listen_with(&captured, "[::]:8082", share);
        let second = listen_with(&captured, "[::]:8082", share);
        drop(closed);
        SockRef::from(&shut_down).shutdown(Shutdown::Both).unwrap();
        drop(first);
        eventually("nobody listens any more", || {
            !is_taken(&captured, 0, 8080) && !is_taken(&captured, 0, 8081)
        });
        // Its end was looked at with those.
        assert!(is_taken(&captured, 0, 8082), "another one goes on");
        drop(second);
        eventually("the last one has ended", || !is_taken(&captured, 0, 8082));
        let _again = listen(&captured, "0.0.0.0:8080");
        assert!(is_taken(&captured, 0, 8080));
    });
}

#[test]
fn the_end_of_a_listener_from_before_shows_when_the_proxy_finds_nobody() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        follow(&redirect);
        let pod = lab.pod(10);
        let before = pod.run(|| TcpListener::bind("0.0.0.0:8080")).unwrap();
        let captured = Captured::refusing(&redirect, pod, MODE);
        drop(before);
        let to = SocketAddr::new(captured.pod.v4(), 8080);
        let purpose = Purpose::Application {
            client: address("10.9.0.77:5000"),
        };
        captured.connect(to, purpose).unwrap_err();
        eventually("it is refused", || !is_taken(&captured, 0, 8080));
    });
}

#[test]
fn a_listener_for_ipv6_only_takes_no_ipv4() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        follow(&redirect);
        let only = |socket: &Socket| socket.set_only_v6(true).unwrap();
        let captured = Captured::refusing(&redirect, lab.pod(10), MODE);
        let _only = listen_with(&captured, "[::]:8080", only);
        assert!(is_taken(&captured, 1, 8080));
        eventually("IPv4 is refused", || !is_taken(&captured, 0, 8080));
        assert!(is_taken(&captured, 1, 8080));
    });
}

#[test]
fn a_successor_knows_the_listeners_of_a_pod_and_hears_of_their_end() {
    isolated(|lab: &Lab| {
        let first = lab.redirect();
        let captured = Captured::refusing(&first, lab.pod(10), MODE);
        let listener = listen(&captured, "0.0.0.0:8080");
        let Captured { pod, captured, .. } = captured;
        drop((captured, first));
        let second = lab.redirect();
        follow(&second);
        let captured = Captured::refusing(&second, pod, MODE);
        assert!(is_taken(&captured, 0, 8080));
        assert!(!is_taken(&captured, 0, 8081));
        drop(listener);
        eventually("it is refused", || !is_taken(&captured, 0, 8080));
    });
}

#[test]
fn a_released_pod_leaves_no_listener_in_the_table() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::refusing(&redirect, lab.pod(10), MODE);
        let _one = listen(&captured, "0.0.0.0:8080");
        let _other = listen(&captured, "[::]:8081");
        assert_eq!(redirect.table_sizes().listening, 2);
        captured.captured.release().unwrap();
        assert_eq!(redirect.table_sizes().listening, 0);
    });
}

#[test]
fn a_pod_that_listens_at_more_addresses_than_its_share_has_none_refused() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let greedy = Captured::refusing(&redirect, lab.pod(10), MODE);
        let other = Captured::refusing(&redirect, lab.pod(20), MODE);
        let _many: Vec<_> = (0..100)
            .map(|number| listen(&greedy, &format!("0.0.0.0:{}", 7000 + number)))
            .collect();
        let most = capacity::LISTENING as usize;
        assert_eq!(redirect.table_sizes().listening, most);
        for port in [7000, 7099, 9000] {
            assert!(is_taken(&greedy, 0, port), "{port}");
        }
        let _listener = listen(&other, "0.0.0.0:8080");
        assert!(is_taken(&other, 0, 8080));
        assert!(!is_taken(&other, 0, 8081));
    });
}

#[test]
fn addresses_of_whose_end_nobody_was_told_do_not_stay_in_the_table() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::refusing(&redirect, lab.pod(10), MODE);
        // More than the agent is told of, before it begins to listen.
        for port in 7000..7060 {
            drop(listen(&captured, &format!("0.0.0.0:{port}")));
        }
        assert!(redirect.table_sizes().listening > 32);
        follow(&redirect);
        eventually("all of them are gone", || {
            redirect.table_sizes().listening == 0
        });
    });
}

#[test]
fn a_listener_that_no_program_has_seen_is_found_once_a_connection_to_it_was_refused() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        follow(&redirect);
        let captured = Captured::refusing(&redirect, lab.pod(10), MODE);
        // As of a process that was started by hand: outside of what the programs are attached to.
        let enter = |cgroup: &Path| std::fs::write(cgroup.join("cgroup.procs"), "0").unwrap();
        enter(lab.cgroup.parent().unwrap());
        let _unseen = listen(&captured, "0.0.0.0:8080");
        enter(&lab.cgroup.join("agent"));
        assert!(!is_taken(&captured, 0, 8080), "nobody has told");
        eventually("it is found", || is_taken(&captured, 0, 8080));
        assert!(!is_taken(&captured, 0, 8081));
    });
}
