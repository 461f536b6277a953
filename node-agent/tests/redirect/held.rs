//! Applications that wait in `connect()` until somebody knows how their connection went.

use std::io;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio::runtime::{Builder, Runtime};
use weft_node_agent::redirect::{
    HeldAttempt, HeldAttempts, HeldConnections, Redirect, Unreachable,
};

use crate::lab::{Captured, Lab, accept, address, dial, isolated};

/// Destinations of both families, and an IPv4 one as IPv6 sockets write it.
const DIALLED: [&str; 3] = ["10.77.1.2:80", "[fd77::5]:443", "[::ffff:10.77.1.3]:80"];

/// The proxy's side: hears of attempts and answers them.
pub(crate) struct Proxy {
    runtime: Runtime,
    attempts: HeldAttempts,
    pub(crate) held: Arc<HeldConnections>,
}

impl Proxy {
    pub(crate) fn new(redirect: &Redirect) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let attempts = {
            let _inside = runtime.enter();
            redirect.held_attempts().unwrap()
        };
        Self {
            runtime,
            attempts,
            held: redirect.held(),
        }
    }

    pub(crate) fn next(&mut self) -> Option<HeldAttempt> {
        let attempts = &mut self.attempts;
        self.runtime.block_on(async {
            let next = tokio::time::timeout(Duration::from_secs(2), attempts.next());
            next.await.ok().map(Result::unwrap)
        })
    }
}

/// A connection as an application opens it, in a thread of its own.
pub(crate) fn dial_in_thread(
    captured: &Captured,
    to: SocketAddr,
) -> std::thread::JoinHandle<io::Result<TcpStream>> {
    let namespace = captured.pod.reopened();
    std::thread::spawn(move || namespace.run(|| dial(to)).unwrap())
}

#[test]
fn an_application_waits_until_its_connection_is_let_through() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::holding(&redirect, lab.pod(10));
        let mut proxy = Proxy::new(&redirect);
        for dialled in DIALLED.map(address) {
            let client = dial_in_thread(&captured, dialled);
            let attempt = proxy.next().expect("the proxy hears of it");
            let canonical = SocketAddr::new(dialled.ip().to_canonical(), dialled.port());
            assert_eq!(attempt.destination().address(), canonical);
            assert_eq!(attempt.namespace(), captured.pod.namespace.cookie());
            assert!(!client.is_finished(), "it waits");
            let listener = captured.listeners.outbound(dialled);
            listener.set_nonblocking(true).unwrap();
            let nothing = listener.accept().map(|_| ()).unwrap_err();
            assert_eq!(nothing.kind(), ErrorKind::WouldBlock);

            let began = Instant::now();
            let namespace = captured.net.namespace();
            proxy.held.let_through(&attempt, namespace).unwrap();
            let mut client = client.join().unwrap().unwrap();
            // The kernel's own second try would come after a second.
            assert!(began.elapsed() < Duration::from_millis(700));
            let mut accepted = accept(listener);
            assert_eq!(accepted.peer_addr().unwrap(), attempt.peer());
            assert_eq!(captured.destination(&accepted).unwrap(), canonical);
            client.write_all(b"hello").unwrap();
            accepted.write_all(b"world").unwrap();
            let mut bytes = [0; 5];
            accepted.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"hello");
            client.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"world");
        }
    });
}

#[test]
fn a_socket_that_is_bound_to_an_address_waits_like_any_other() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::holding(&redirect, lab.pod(10));
        let mut proxy = Proxy::new(&redirect);
        for (own, dialled) in [
            (captured.pod.v4(), "10.77.1.2:80"),
            (captured.pod.v6(), "[fd77::5]:443"),
        ] {
            let to = address(dialled);
            let open = |to: SocketAddr| {
                let kind = Type::STREAM.nonblocking();
                let socket = Socket::new(Domain::for_address(to), kind, None).unwrap();
                socket.bind(&SocketAddr::new(own, 0).into()).unwrap();
                let _ = socket.connect(&to.into());
                socket
            };
            let client = captured.pod.run(|| open(to));
            let attempt = proxy.next().expect("the proxy hears of it");
            assert_eq!(attempt.peer().ip(), own);
            let namespace = captured.net.namespace();
            proxy.held.let_through(&attempt, namespace).unwrap();
            accept(captured.listeners.outbound(to));
            let named = client.peer_addr().unwrap().as_socket();
            assert_eq!(named, Some(to));

            // Another port has not answered yet.
            let other = SocketAddr::new(to.ip(), 81);
            let refused = captured.pod.run(|| open(other));
            let attempt = proxy.next().expect("the proxy hears of it");
            let refuse = proxy.held.refuse(&attempt, Unreachable::Host, namespace);
            refuse.unwrap();
            let error = refused.take_error().unwrap();
            let code = error.and_then(|error| error.raw_os_error());
            assert_eq!(code, Some(libc::EHOSTUNREACH), "{dialled}");
        }
    });
}

#[test]
fn connect_fails_as_the_destination_does() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::holding(&redirect, lab.pod(10));
        let mut proxy = Proxy::new(&redirect);
        for dialled in DIALLED.map(address) {
            for (why, code) in [
                (Unreachable::Port, libc::ECONNREFUSED),
                (Unreachable::Host, libc::EHOSTUNREACH),
                (Unreachable::Network, libc::ENETUNREACH),
            ] {
                let client = dial_in_thread(&captured, dialled);
                let attempt = proxy.next().expect("the proxy hears of it");
                let namespace = captured.net.namespace();
                proxy.held.refuse(&attempt, why, namespace).unwrap();
                let error = client.join().unwrap().unwrap_err();
                assert_eq!(error.raw_os_error(), Some(code), "{dialled} {why:?}");
            }
        }
    });
}

#[test]
fn an_application_waits_for_an_answer_that_takes_its_time() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::holding(&redirect, lab.pod(10));
        let mut proxy = Proxy::new(&redirect);
        let pod = captured.pod.reopened();
        let (sender, outcome) = mpsc::channel();
        let client = std::thread::spawn(move || {
            let limit = Duration::from_secs(20);
            let connect = || TcpStream::connect_timeout(&address("10.77.1.2:80"), limit);
            sender.send(pod.run(connect).unwrap()).unwrap();
        });
        let attempt = proxy.next().expect("the proxy hears of it");
        // Kernels send SYNs each second at first, five of them (tcp_syn_linear_timeouts).
        let early = outcome.recv_timeout(Duration::from_secs(6));
        assert!(early.is_err(), "it is let through: {early:?}");
        let namespace = captured.net.namespace();
        let refused = proxy.held.refuse(&attempt, Unreachable::Host, namespace);
        refused.unwrap();
        let error = outcome.recv().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EHOSTUNREACH));
        client.join().unwrap();
    });
}

#[test]
fn a_destination_that_has_just_answered_is_connected_to_at_once() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::holding(&redirect, lab.pod(10));
        let mut proxy = Proxy::new(&redirect);
        let to = address("10.77.1.2:80");
        let client = dial_in_thread(&captured, to);
        let attempt = proxy.next().expect("the proxy hears of it");
        let namespace = captured.net.namespace();
        proxy.held.let_through(&attempt, namespace).unwrap();
        client.join().unwrap().unwrap();
        captured.pod.run(|| dial(to)).unwrap();

        // Another port has not answered; nor has the same one, after a while.
        let other = dial_in_thread(&captured, address("10.77.1.2:81"));
        let attempt = proxy.next().expect("the proxy hears of another port");
        assert_eq!(attempt.destination().address().port(), 81);
        let refused = proxy.held.refuse(&attempt, Unreachable::Port, namespace);
        refused.unwrap();
        assert!(other.join().unwrap().is_err());
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let client = dial_in_thread(&captured, to);
            if let Some(attempt) = proxy.next() {
                proxy.held.let_through(&attempt, namespace).unwrap();
                client.join().unwrap().unwrap();
                return;
            }
            assert!(Instant::now() < deadline, "held again within seconds");
        }
    });
}

#[test]
fn without_a_proxy_an_application_is_refused_at_once() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::holding(&redirect, lab.pod(10));
        let Captured {
            pod,
            listeners,
            captured: _redirect,
            ..
        } = captured;
        drop(listeners);
        for dialled in DIALLED.map(address) {
            let began = Instant::now();
            let error = pod.run(|| dial(dialled)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            assert!(began.elapsed() < Duration::from_secs(1));
        }
    });
}

#[test]
fn a_pod_that_connects_without_end_leaves_others_their_share() {
    const ATTEMPTS: u16 = 600;
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let floods = Captured::holding(&redirect, lab.pod(10));
        let other = Captured::holding(&redirect, lab.pod(20));
        let mut proxy = Proxy::new(&redirect);
        let ip: IpAddr = address("10.77.1.2:80").ip();
        let began = Instant::now();
        let sockets: Vec<Socket> = floods.pod.run(|| {
            let open = |port| {
                let kind = Type::STREAM.nonblocking();
                let socket = Socket::new(Domain::IPV4, kind, None).unwrap();
                // Under way.
                let _ = socket.connect(&SocketAddr::new(ip, port).into());
                socket
            };
            (1..=ATTEMPTS).map(open).collect()
        });
        let intervals = began.elapsed().as_millis() / 100 + 2;
        let connected = |socket: &&Socket| socket.peer_addr().is_ok();
        let connected = sockets.iter().filter(connected).count();
        let held = sockets.len() - connected;
        assert!(held as u128 <= 128 * intervals, "{held} in {intervals}");
        assert!(held >= 128, "{held} are held");

        let client = dial_in_thread(&other, address("10.77.1.2:80"));
        let cookie = other.pod.namespace.cookie();
        let attempt = loop {
            let attempt = proxy.next().expect("the proxy hears of the other pod");
            if attempt.namespace() == cookie {
                break attempt;
            }
        };
        let namespace = other.net.namespace();
        let refused = proxy.held.refuse(&attempt, Unreachable::Port, namespace);
        refused.unwrap();
        assert!(client.join().unwrap().is_err());
    });
}

#[test]
fn what_an_application_is_told_stays_within_its_pod() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::holding(&redirect, lab.pod(10));
        let neighbour = lab.pod(20);
        let mut proxy = Proxy::new(&redirect);
        // Any address can be bound with IP_TRANSPARENT, another pod's, too: an answer to it
        // would leave.
        let _client = captured.pod.run(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
            socket.set_ip_transparent_v4(true).unwrap();
            let other = SocketAddr::new(neighbour.v4(), 0);
            socket.bind(&other.into()).unwrap();
            let _ = socket.connect(&address("10.77.1.2:80").into());
            socket
        });
        let attempt = proxy.next().expect("the proxy hears of it");
        assert_eq!(attempt.peer().ip(), neighbour.v4());
        let namespace = captured.net.namespace();
        let refused = proxy.held.refuse(&attempt, Unreachable::Port, namespace);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::AddrNotAvailable);
    });
}
