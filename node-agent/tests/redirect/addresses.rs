//! The names of sockets, as an application sees them.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use weft_model::mtls::MtlsMode;
use weft_proxy::sockets::{self, Purpose};

use crate::lab::{Captured, Lab, accept, address, block_on, disconnect, isolated};

const MODE: MtlsMode = MtlsMode::Permissive;

/// A socket of the application's.
fn socket(captured: &Captured, to: SocketAddr, protocol: Protocol) -> Socket {
    let create = || Socket::new(Domain::for_address(to), Type::STREAM, Some(protocol));
    captured.pod.run(create).unwrap()
}

fn connect(socket: &Socket, to: SocketAddr) {
    socket
        .connect_timeout(&to.into(), Duration::from_secs(2))
        .unwrap();
}

/// The socket's own address and its peer's, as the application is told.
fn names(socket: &Socket) -> (SocketAddr, SocketAddr) {
    let own = socket.local_addr().unwrap().as_socket().unwrap();
    let peer = socket.peer_addr().unwrap().as_socket().unwrap();
    (own, peer)
}

#[test]
fn a_socket_keeps_the_address_that_it_has_bound() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        captured.pod.ip("addr add 10.9.0.200/24 dev eth0");
        let to = address("10.77.1.2:80");
        for protocol in [Protocol::TCP, Protocol::MPTCP] {
            for (bound, after) in [
                ("0.0.0.0:0", "10.9.0.10"),
                ("10.9.0.10:0", "10.9.0.10"),
                ("10.9.0.200:0", "10.9.0.200"),
            ] {
                let client = socket(&captured, to, protocol);
                client.bind(&address(bound).into()).unwrap();
                let before = client.local_addr().unwrap().as_socket().unwrap();
                assert_eq!(before.ip(), address(bound).ip(), "{protocol:?}");
                connect(&client, to);
                let own = SocketAddr::new(after.parse().unwrap(), before.port());
                assert_eq!(names(&client), (own, to), "{protocol:?}, {bound}");
            }
        }
    });
}

#[test]
fn an_mptcp_socket_names_the_same_as_one_of_tcp() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        for (dialled, own) in [("10.77.1.2:80", "10.9.0.10"), ("[fd77::5]:443", "fd09::a")] {
            let to = address(dialled);
            let client = socket(&captured, to, Protocol::MPTCP);
            connect(&client, to);
            let accepted = accept(captured.listeners.outbound(to));
            assert_eq!(captured.destination(&accepted).unwrap(), to);
            let (seen, peer) = names(&client);
            assert_eq!(seen.ip(), own.parse::<IpAddr>().unwrap());
            assert_eq!(seen.port(), accepted.peer_addr().unwrap().port());
            assert_eq!(peer, to);
        }
    });
}

#[test]
fn an_mptcp_socket_that_is_used_again_within_the_pod_names_loopback() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        let within = captured.pod.run(|| TcpListener::bind("127.0.0.1:0"));
        let within = within.unwrap();
        let client = socket(&captured, address("10.77.1.2:80"), Protocol::MPTCP);
        connect(&client, address("10.77.1.2:80"));
        disconnect(&client);
        let to = within.local_addr().unwrap();
        connect(&client, to);
        let (own, peer) = names(&client);
        assert!(own.ip().is_loopback(), "{own}");
        assert_eq!(peer, to);
    });
}

#[test]
fn a_connection_of_the_proxy_keeps_the_address_that_the_application_has_bound() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        captured.pod.ip("addr add 10.9.0.200/24 dev eth0");
        captured.pod.ip("addr add fd09::200/64 dev eth0 nodad");
        for (server, bound, own) in [
            ("10.9.0.1:7000", "10.9.0.200", "10.9.0.200"),
            ("[fd09::1]:7000", "fd09::200", "fd09::200"),
            // The pod doesn't have this one.
            ("10.9.0.1:7001", "192.0.2.1", "10.9.0.10"),
        ] {
            let server = TcpListener::bind(server).unwrap();
            let to = server.local_addr().unwrap();
            let source = Some(bound.parse().unwrap());
            let (net, limit) = (&captured.net, Duration::from_secs(5));
            let open = sockets::connect_from(net, source, to, Purpose::Upstream, limit);
            let _open = block_on(open).unwrap();
            let peer = accept(&server).peer_addr().unwrap().ip();
            assert_eq!(peer, own.parse::<IpAddr>().unwrap());
        }
    });
}
