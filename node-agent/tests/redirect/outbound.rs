//! Connections that a pod opens.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use weft_model::mtls::MtlsMode;
use weft_node_agent::redirect::{Redirect, RedirectOptions, UnknownPods};
use weft_proxy::sockets::Purpose;

use crate::lab::{Captured, Lab, accept, address, dial, disconnect, isolated};

const MODE: MtlsMode = MtlsMode::Permissive;

#[test]
fn the_proxy_learns_where_the_application_wanted_to_go() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        for dialled in ["10.77.1.2:80", "[fd77::5]:443", "192.0.2.1:65535"] {
            let (_, destination) = captured.dial(address(dialled));
            assert_eq!(destination.unwrap(), address(dialled));
        }
    });
}

#[test]
fn a_mapped_destination_is_captured_as_ipv4() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        let (client, destination) = captured.dial(address("[::ffff:10.77.1.2]:80"));
        assert_eq!(destination.unwrap(), address("10.77.1.2:80"));
        assert_eq!(
            client.peer_addr().unwrap(),
            address("[::ffff:10.77.1.2]:80")
        );
    });
}

#[test]
fn the_application_sees_the_address_that_it_dialled() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        for dialled in ["10.77.1.2:80", "[fd77::5]:443"] {
            let (client, _) = captured.dial(address(dialled));
            assert_eq!(client.peer_addr().unwrap(), address(dialled));
        }
    });
}

#[test]
fn the_application_sees_the_pods_address_as_its_own() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        let IpAddr::V4(v4) = captured.pod.v4() else {
            panic!("an IPv4 address");
        };
        for (dialled, own) in [
            ("10.77.1.2:80", IpAddr::V4(v4)),
            ("[fd77::5]:443", captured.pod.v6()),
            ("[::ffff:10.77.1.2]:80", v4.to_ipv6_mapped().into()),
        ] {
            let (client, _) = captured.dial(address(dialled));
            let named = client.local_addr().unwrap();
            assert_eq!(named.ip(), own, "{dialled}");
            assert_ne!(named.port(), 0, "{dialled}");
        }
    });
}

#[test]
fn the_name_of_a_socket_within_the_pod_is_left_alone() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        captured.pod.run(|| {
            for loopback in ["127.0.0.1:0", "[::1]:0"] {
                let server = TcpListener::bind(loopback).unwrap();
                let bound = server.local_addr().unwrap();
                assert_eq!(bound.ip(), address(loopback).ip());
                let client = TcpStream::connect(bound).unwrap();
                assert_eq!(client.local_addr().unwrap().ip(), bound.ip());
            }
        });
    });
}

#[test]
fn the_proxy_sees_the_truth_about_its_own_sockets() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        let to = address("10.77.1.2:80");
        let client = captured.pod.run(|| dial(to)).unwrap();
        let accepted = accept(captured.listeners.outbound(to));
        assert_eq!(
            accepted.peer_addr().unwrap().port(),
            client.local_addr().unwrap().port()
        );
        assert!(accepted.peer_addr().unwrap().ip().is_loopback());
        let local = accepted.local_addr().unwrap();
        assert!(local.ip().is_loopback());
        assert_eq!(local.port(), 15001);
    });
}

#[test]
fn excluded_ports_and_blocks_are_left_alone() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let excluded = ["7001", "10.9.0.0/30", "fd09::/126"];
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &excluded);
        let other = lab.pod(20);
        for (server, what) in [
            (
                other.run(|| TcpListener::bind("10.9.0.20:7001")),
                "the port",
            ),
            (TcpListener::bind("10.9.0.1:7002"), "the IPv4 block"),
            (TcpListener::bind("[fd09::1]:7002"), "the IPv6 block"),
        ] {
            assert_direct(&captured, &server.unwrap(), what);
        }
        for dialled in ["10.9.0.20:7002", "[fd09::14]:7002"] {
            let (_, destination) = captured.dial(address(dialled));
            assert_eq!(destination.unwrap(), address(dialled));
        }
    });
}

#[test]
fn exclusions_change_while_the_pod_runs() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let mut captured = Captured::new(&redirect, lab.pod(10), MODE, &["7001", "10.9.0.0/30"]);
        captured.update(MODE, &["7003"]);
        for dialled in ["10.77.0.1:7001", "10.9.0.1:7002"] {
            let (_, destination) = captured.dial(address(dialled));
            assert_eq!(destination.unwrap(), address(dialled));
        }
        let server = TcpListener::bind("10.9.0.1:7003").unwrap();
        assert_direct(&captured, &server, "the new port");
        let sizes = redirect.table_sizes();
        assert_eq!((sizes.excluded_ports, sizes.excluded_blocks), (1, 0));
    });
}

#[test]
fn a_block_of_all_ipv6_does_not_exclude_ipv4() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &["::/0"]);
        let (_, destination) = captured.dial(address("10.77.1.2:80"));
        assert_eq!(destination.unwrap(), address("10.77.1.2:80"));
        let server = TcpListener::bind("[fd09::1]:7000").unwrap();
        assert_direct(&captured, &server, "IPv6");
    });
}

#[test]
fn the_proxys_own_sockets_pass() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        for (bound, source) in [
            ("10.9.0.1:7000", captured.pod.v4()),
            ("[fd09::1]:7000", captured.pod.v6()),
        ] {
            let server = TcpListener::bind(bound).unwrap();
            let stream = captured.connect(address(bound), Purpose::Upstream).unwrap();
            let accepted = accept(&server);
            // From the pod's own address, so that network policies still apply.
            assert_eq!(accepted.peer_addr().unwrap().ip(), source);
            assert_eq!(stream.peer_addr().unwrap(), address(bound));
        }
    });
}

#[test]
fn an_application_can_listen_on_the_source_port_of_a_connection_of_the_proxys() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        let upstream = TcpListener::bind("10.9.0.1:7000").unwrap();
        let application = captured.pod.run(|| TcpListener::bind("127.0.0.1:7001"));
        let _application = application.unwrap();
        let client = address("10.9.0.77:5000");
        for (to, purpose) in [
            (upstream.local_addr().unwrap(), Purpose::Upstream),
            (address("127.0.0.1:7001"), Purpose::Application { client }),
        ] {
            let connection = captured.connect(to, purpose).unwrap();
            let port = connection.local_addr().unwrap().port();
            // The standard library's listener sets SO_REUSEADDR, as servers do.
            let listener = captured.pod.run(|| TcpListener::bind(("0.0.0.0", port)));
            listener.unwrap_or_else(|error| panic!("{purpose:?}: {error}"));
        }
    });
}

#[test]
fn loopback_and_udp_are_left_alone() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        for bound in ["127.0.0.1:7000", "127.0.0.2:7000", "[::1]:7000"] {
            let server = captured.pod.run(|| TcpListener::bind(bound)).unwrap();
            let client = captured.pod.run(|| dial(address(bound))).unwrap();
            assert_eq!(
                accept(&server).peer_addr().unwrap(),
                client.local_addr().unwrap()
            );
        }
        let unspecified = captured
            .pod
            .run(|| TcpListener::bind("127.0.0.1:7001"))
            .unwrap();
        captured.pod.run(|| dial(address("0.0.0.0:7001"))).unwrap();
        accept(&unspecified);
        let server = UdpSocket::bind("10.9.0.1:7000").unwrap();
        let client = captured.pod.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
        client.connect("10.9.0.1:7000").unwrap();
        client.send(b"datagram").unwrap();
        let (length, peer) = server.recv_from(&mut [0; 16]).unwrap();
        assert_eq!((length, peer.ip()), (8, captured.pod.v4()));
    });
}

#[test]
fn sockets_bound_to_a_device_or_to_an_address_are_captured() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        let to = address("10.77.1.2:80");
        let bound_to_device = captured.pod.run(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind_device(Some(b"eth0")).unwrap();
            socket
        });
        let bound_to_address = captured.pod.run(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket
                .bind(&SocketAddr::new(captured.pod.v4(), 0).into())
                .unwrap();
            socket
        });
        for socket in [bound_to_device, bound_to_address] {
            socket.connect(&to.into()).unwrap();
            let accepted = accept(captured.listeners.outbound(to));
            assert_eq!(captured.destination(&accepted).unwrap(), to);
        }
    });
}

#[test]
fn multipath_tcp_is_captured() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        let to = address("10.77.1.2:80");
        let socket = captured
            .pod
            .run(|| Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)));
        let socket = socket.expect("the kernel speaks Multipath TCP");
        socket.connect(&to.into()).unwrap();
        let accepted = accept(captured.listeners.outbound(to));
        assert_eq!(captured.destination(&accepted).unwrap(), to);
    });
}

#[test]
fn tcp_fast_open_is_captured() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        let to = address("10.77.1.2:80");
        let socket = captured
            .pod
            .run(|| Socket::new(Domain::IPV4, Type::STREAM, None))
            .unwrap();
        socket
            .send_to_with_flags(b"hello", &to.into(), libc::MSG_FASTOPEN)
            .unwrap();
        let mut accepted = accept(captured.listeners.outbound(to));
        assert_eq!(captured.destination(&accepted).unwrap(), to);
        let mut bytes = [0; 5];
        accepted.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
    });
}

#[test]
fn a_socket_used_again_has_its_new_destination() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        let (client, _) = captured.dial(address("10.77.1.2:80"));
        disconnect(&client);
        let to = address("10.77.3.4:81");
        SockRef::from(&client).connect(&to.into()).unwrap();
        let accepted = accept(captured.listeners.outbound(to));
        assert_eq!(captured.destination(&accepted).unwrap(), to);
        assert_eq!(client.peer_addr().unwrap(), to);
    });
}

#[test]
fn a_connection_to_the_proxys_own_port_has_no_destination() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        let (_, destination) = captured.dial(address("127.0.0.1:15001"));
        assert_eq!(destination.unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn without_the_proxy_a_captured_pod_is_refused() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let Captured {
            pod,
            listeners,
            captured: _captured,
            net: _net,
            ..
        } = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        let server = TcpListener::bind("10.9.0.1:7000").unwrap();
        drop(listeners);
        let error = pod.run(|| dial(server.local_addr().unwrap())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn unknown_pods_are_left_alone_by_default() {
    isolated(|lab: &Lab| {
        let _redirect = lab.redirect();
        let stranger = lab.pod(30);
        let server = TcpListener::bind("10.9.0.1:7000").unwrap();
        let _client = stranger.run(|| dial(server.local_addr().unwrap())).unwrap();
        assert_eq!(accept(&server).peer_addr().unwrap().ip(), stranger.v4());
    });
}

#[test]
fn unknown_pods_can_be_refused_until_they_are_known() {
    isolated(|lab: &Lab| {
        let options = RedirectOptions {
            unknown_pods: UnknownPods::Refuse,
            ..lab.options()
        };
        let redirect = Redirect::load(&options).unwrap();
        let stranger = lab.pod(30);
        let servers =
            ["10.9.0.1:7000", "[fd09::1]:7000"].map(|bound| TcpListener::bind(bound).unwrap());
        let dial_both = || {
            servers
                .each_ref()
                .map(|server| stranger.run(|| dial(server.local_addr().unwrap())))
        };
        for refused in dial_both() {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
        let within = stranger
            .run(|| TcpListener::bind("127.0.0.1:7000"))
            .unwrap();
        stranger
            .run(|| dial(within.local_addr().unwrap()))
            .expect("loopback is never refused");
        redirect.mark_outside(&stranger.namespace).unwrap();
        for passed in dial_both() {
            passed.expect("a pod known to be outside passes");
        }
        redirect.unmark_outside(&stranger.namespace).unwrap();
        for refused in dial_both() {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
        // The node itself is known from the start.
        let server = stranger
            .run(|| TcpListener::bind("10.9.0.30:7000"))
            .unwrap();
        dial(server.local_addr().unwrap()).expect("the node's own connections pass");
    });
}

#[test]
fn a_pod_taken_out_is_left_alone_and_leaves_nothing() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let before = redirect.table_sizes();
        let mut captured = Captured::new(&redirect, lab.pod(10), MODE, &["7001", "10.1.0.0/16"]);
        captured.captured.stop_outbound().unwrap();
        let server = TcpListener::bind("10.9.0.1:7000").unwrap();
        assert_direct(&captured, &server, "after outbound capture has stopped");
        let Captured {
            pod,
            captured,
            net: _net,
            listeners: _listeners,
            ..
        } = captured;
        captured.release().unwrap();
        assert_eq!(redirect.table_sizes(), before);
        let server = pod.run(|| TcpListener::bind("10.9.0.10:7000")).unwrap();
        let client = dial(server.local_addr().unwrap()).unwrap();
        assert_eq!(
            accept(&server).peer_addr().unwrap(),
            client.local_addr().unwrap()
        );
    });
}

#[test]
fn two_agents_share_a_cgroup_each_with_its_own_pods() {
    isolated(|lab: &Lab| {
        let (one, other) = (lab.redirect(), lab.redirect());
        let mine = Captured::new(&one, lab.pod(10), MODE, &[]);
        let theirs = Captured::new(&other, lab.pod(20), MODE, &[]);
        for captured in [&mine, &theirs] {
            let to = address("10.77.1.2:80");
            let (client, destination) = captured.dial(to);
            assert_eq!(destination.unwrap(), to);
            assert_eq!(client.peer_addr().unwrap(), to);
        }
        drop(other);
        let (_, destination) = mine.dial(address("10.77.1.2:81"));
        assert_eq!(destination.unwrap(), address("10.77.1.2:81"));
    });
}

/// The pod reaches a server itself, from its own address.
fn assert_direct(captured: &Captured, server: &TcpListener, what: &str) {
    let to = server.local_addr().unwrap();
    let _client: TcpStream = captured.pod.run(|| dial(to)).expect(what);
    let peer = accept(server).peer_addr().unwrap().ip();
    assert!(
        captured.pod.addresses().contains(&peer),
        "{what}: from {peer}"
    );
}
