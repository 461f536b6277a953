//! Connections to different destinations, which share no source ports.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use weft_model::mtls::MtlsMode;
use weft_node_agent::redirect::Unreachable;
use weft_proxy::sockets::{Purpose, Sockets};

use crate::held::Proxy;
use crate::lab::{Captured, Lab, Listeners, accept, address, dial, isolated};

const MODE: MtlsMode = MtlsMode::Permissive;

/// A socket that is bound to a port, as many may be at once.
fn bound(port: u16, domain: Domain) -> Socket {
    let socket = Socket::new(domain, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    let any: IpAddr = match domain {
        Domain::IPV4 => Ipv4Addr::UNSPECIFIED.into(),
        _ => "::".parse().unwrap(),
    };
    socket.bind(&SocketAddr::new(any, port).into()).unwrap();
    socket
}

#[test]
fn a_bound_source_port_reaches_several_destinations_at_once() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        let mut open = Vec::new();
        for (dialled, domain) in [
            ("10.77.1.2:80", Domain::IPV4),
            ("10.77.1.2:81", Domain::IPV4),
            ("10.77.1.3:80", Domain::IPV4),
            ("[::ffff:10.77.1.4]:80", Domain::IPV6),
        ] {
            let to = address(dialled);
            let client = captured.pod.run(|| bound(5000, domain));
            client.connect(&to.into()).expect(dialled);
            let accepted = accept(captured.listeners.outbound(to));
            assert_eq!(accepted.peer_addr().unwrap().port(), 5000);
            let canonical = SocketAddr::new(to.ip().to_canonical(), to.port());
            assert_eq!(captured.destination(&accepted).unwrap(), canonical);
            assert_eq!(client.peer_addr().unwrap().as_socket(), Some(to));
            open.push((client, accepted));
        }
    });
}

#[test]
fn each_destination_has_all_source_ports_of_the_pod() {
    const PORTS: usize = 50;
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        captured.pod.run(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40049").unwrap();
        });
        let mut open: HashMap<SocketAddr, Vec<(TcpStream, TcpStream)>> = HashMap::new();
        for dialled in [
            "10.77.1.2:80",
            "10.77.1.2:81",
            "10.77.1.3:80",
            "192.0.2.1:443",
        ] {
            let to = address(dialled);
            for number in 0..PORTS {
                let client = captured.pod.run(|| dial(to));
                let client = client.unwrap_or_else(|error| panic!("{dialled} {number}: {error}"));
                let accepted = accept(captured.listeners.outbound(to));
                assert_eq!(captured.destination(&accepted).unwrap(), to);
                assert_eq!(client.peer_addr().unwrap(), to);
                open.entry(to).or_default().push((client, accepted));
            }
        }
        // One more than without the mesh isn't possible either.
        let error = captured
            .pod
            .run(|| dial(address("10.77.1.2:80")))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    });
}

#[test]
fn destinations_of_ipv6_share_the_source_ports_of_the_pod() {
    const PORTS: usize = 50;
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        captured.pod.run(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40049").unwrap();
        });
        let destinations = ["[fd77::1]:80", "[fd77::1]:81", "[fd77::2]:80"].map(address);
        let mut open = Vec::new();
        for to in destinations.into_iter().cycle().take(PORTS) {
            let client = captured.pod.run(|| dial(to)).unwrap();
            let accepted = accept(captured.listeners.outbound(to));
            assert_eq!(captured.destination(&accepted).unwrap(), to);
            open.push((client, accepted));
        }
        for to in destinations {
            let error = captured.pod.run(|| dial(to)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrNotAvailable, "{to}");
        }
        // Those of IPv4 have theirs all the same.
        captured.pod.run(|| dial(address("10.77.1.2:80"))).unwrap();
    });
}

/// Opens that many connections to an application, one for each of a client's ports.
fn reach(captured: &Captured, application: &TcpListener, client: &str, count: u16) {
    for number in 0..count {
        let client = SocketAddr::new(client.parse().unwrap(), 1000 + number);
        let purpose = Purpose::Application { client };
        let to = application.local_addr().unwrap();
        let opened = captured.connect(to, purpose);
        let opened = opened.unwrap_or_else(|error| panic!("{client}: {error}"));
        let (accepted, from) = application.accept().unwrap();
        assert_eq!(from, client);
        assert_eq!(accepted.peer_addr().unwrap(), client);
        // The proxy's end is the first: its port has to wait, as that of whoever goes first.
        drop(opened);
        drop(accepted);
    }
}

#[test]
fn each_client_has_all_source_ports_of_the_pod_whose_application_it_reaches() {
    const PORTS: u16 = 50;
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        captured.pod.run(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40049").unwrap();
        });
        let application = captured.pod.run(|| TcpListener::bind("10.9.0.10:8080"));
        let application = application.unwrap();
        for client in ["10.9.0.20", "10.9.0.21", "192.0.2.1"] {
            reach(&captured, &application, client, PORTS);
        }
        // Ports that wait are used again after a second, not after a minute.
        std::thread::sleep(Duration::from_millis(2100));
        reach(&captured, &application, "10.9.0.20", PORTS);
    });
}

#[test]
fn a_client_that_cannot_be_named_is_never_taken_for_the_pod_itself_on_loopback() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &["8080", "8081", "8082"]);
        let outside = lab.pod(20);
        let connect = |pod: &crate::lab::Pod, listening: &str, to: &str| {
            pod.run(|| {
                let application = TcpListener::bind(listening).unwrap();
                let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                client.bind(&address("127.9.9.9:0").into()).unwrap();
                client.connect(&address(to).into()).unwrap();
                let from = application.accept().unwrap().1;
                let port = client.local_addr().unwrap().as_socket().unwrap().port();
                assert_eq!(from.port(), port);
                from.ip().to_canonical()
            })
        };
        // As the proxy's connection, whose client the kernel has forgotten.
        for listening in ["10.9.0.10:8080", "0.0.0.0:8081", "[::]:8082"] {
            let port = address(listening).port();
            let to = format!("10.9.0.10:{port}");
            assert_eq!(connect(&captured.pod, listening, &to), captured.pod.v4());
        }
        let own: IpAddr = "127.9.9.9".parse().unwrap();
        assert_eq!(
            connect(&captured.pod, "127.0.0.1:8080", "127.0.0.1:8080"),
            own
        );
        assert_eq!(connect(&outside, "10.9.0.20:8080", "10.9.0.20:8080"), own);
    });
}

#[test]
fn connections_from_one_port_are_held_each_for_its_own_destination() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::holding(&redirect, lab.pod(10));
        let mut proxy = Proxy::new(&redirect);
        let open = |to: &str| {
            captured.pod.run(|| {
                let socket = bound(5000, Domain::IPV4);
                socket.set_nonblocking(true).unwrap();
                // Under way.
                let _ = socket.connect(&address(to).into());
                socket
            })
        };
        let refused = open("10.77.1.2:80");
        let first = proxy.next().expect("the proxy hears of the first");
        let connected = open("10.77.1.3:80");
        let second = proxy.next().expect("the proxy hears of the second");
        assert_eq!(first.peer(), second.peer());
        let namespace = captured.net.namespace();
        let held = &proxy.held;
        held.let_through(&second, namespace).unwrap();
        held.refuse(&first, Unreachable::Port, namespace).unwrap();
        let accepted = accept(captured.listeners.outbound(address("10.77.1.3:80")));
        assert_eq!(
            captured.destination(&accepted).unwrap(),
            address("10.77.1.3:80")
        );
        assert!(connected.peer_addr().is_ok());
        let error = refused.take_error().unwrap().expect("it is refused");
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    });
}

#[test]
fn nobody_outside_reaches_the_outbound_listener() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let pod = lab.pod(10);
        let net = pod.net(&redirect);
        let listener = net.bind_to_loopback(15001).unwrap();
        for outside in [None, Some(lab.pod(20))] {
            let connect = || dial(address("10.9.0.10:15001"));
            let connected = match &outside {
                None => connect(),
                Some(neighbour) => neighbour.run(connect),
            };
            assert_eq!(connected.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
        let nothing = listener.accept().map(|_| ()).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
        let _client = pod.run(|| dial(address("127.1.2.3:15001"))).unwrap();
        accept(&listener);
    });
}

#[test]
fn an_application_cannot_take_an_address_of_the_proxys() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        for taken in ["0.0.0.0:15001", "127.0.0.1:15001", "127.200.3.4:15001"] {
            let bind = || -> io::Result<Socket> {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
                socket.set_reuse_address(true)?;
                socket.set_reuse_port(true)?;
                socket.bind(&address(taken).into())?;
                Ok(socket)
            };
            let error = captured.pod.run(bind).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse, "{taken}");
        }
        let to = address("10.77.1.2:80");
        assert_eq!(captured.dial(to).1.unwrap(), to);
    });
}

#[test]
fn without_all_loopback_addresses_connections_go_to_one() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let narrow = lab.pod(10);
        narrow.ip("addr del 127.0.0.1/8 dev lo");
        narrow.ip("addr add 127.0.0.1/32 dev lo");
        // This one listens on the proxy's port, at an address where it always could.
        let occupied = lab.pod(20);
        let own = occupied.run(|| TcpListener::bind("10.9.0.20:15001"));
        for pod in [narrow, occupied] {
            let captured = Captured::new(&redirect, pod, MODE, &[]);
            let to = address("10.77.1.2:80");
            let client = captured.pod.run(|| dial(to)).unwrap();
            let accepted = accept(captured.listeners.outbound(to));
            assert_eq!(accepted.local_addr().unwrap(), address("127.0.0.1:15001"));
            assert_eq!(captured.destination(&accepted).unwrap(), to);
            assert_eq!(client.peer_addr().unwrap(), to);
        }
        drop(own.unwrap());
    });
}

#[test]
fn a_pod_whose_proxy_was_of_an_earlier_version_is_spread_by_the_next() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let mut captured = Captured::new(&redirect, lab.pod(10), MODE, &[]);
        let local = |captured: &Captured| {
            let to = address("10.77.1.2:80");
            let _client = captured.pod.run(|| dial(to)).unwrap();
            let accepted = accept(captured.listeners.outbound(to));
            assert_eq!(captured.destination(&accepted).unwrap(), to);
            accepted.local_addr().unwrap()
        };
        // It knew of one address only.
        let Listeners {
            outbound: [v4, _], ..
        } = &mut captured.listeners;
        drop(std::mem::replace(
            v4,
            TcpListener::bind("127.0.0.1:0").unwrap(),
        ));
        *v4 = captured.net.bind(address("127.0.0.1:15001")).unwrap();
        captured.update(MODE, &[]);
        assert_eq!(local(&captured), address("127.0.0.1:15001"));

        let Listeners {
            outbound: [v4, _], ..
        } = &mut captured.listeners;
        drop(std::mem::replace(
            v4,
            TcpListener::bind("127.0.0.1:0").unwrap(),
        ));
        *v4 = captured.net.bind_to_loopback(15001).unwrap();
        // Its program runs a moment longer, and knows of one still.
        assert_eq!(local(&captured), address("127.0.0.1:15001"));
        captured.update(MODE, &[]);
        assert_ne!(local(&captured), address("127.0.0.1:15001"));
    });
}
