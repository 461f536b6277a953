//! Connections that arrive at a pod.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use weft_model::mtls::MtlsMode;
use weft_model::node_access::NodeAccess;
use weft_model::ports::HBONE_PORT;
use weft_model::workload::CaptureExclusions;
use weft_node_agent::redirect::{PodAddresses, PodRedirectConfig};
use weft_proxy::sockets::Purpose;

use crate::lab::{Captured, Lab, accept, address, dial, isolated};

const PERMISSIVE: MtlsMode = MtlsMode::Permissive;
const STRICT: MtlsMode = MtlsMode::Strict;

#[test]
fn every_port_is_handed_to_the_proxy() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), STRICT, &[]);
        let peer = lab.pod(20);
        for (family, ip) in captured.pod.addresses().into_iter().enumerate() {
            for (port, listener) in [
                (80, &captured.listeners.plaintext[family]),
                (65535, &captured.listeners.plaintext[family]),
                (15006, &captured.listeners.plaintext[family]),
                (HBONE_PORT, &captured.listeners.hbone[family]),
            ] {
                let to = SocketAddr::new(ip, port);
                let client = peer.run(|| dial(to)).unwrap();
                let accepted = accept(listener);
                assert_eq!(accepted.local_addr().unwrap(), to);
                assert_eq!(accepted.peer_addr().unwrap(), client.local_addr().unwrap());
            }
        }
    });
}

#[test]
fn the_application_sees_its_client() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), STRICT, &[]);
        for (bound, client) in [
            ("10.9.0.10:8080", "10.9.0.20:4444"),
            ("0.0.0.0:8081", "192.0.2.7:1"),
            ("[fd09::a]:8080", "[fd09::14]:4444"),
        ] {
            let application = captured.pod.run(|| TcpListener::bind(bound)).unwrap();
            let to = match address(bound).ip().is_unspecified() {
                true => SocketAddr::new(captured.pod.v4(), address(bound).port()),
                false => address(bound),
            };
            let purpose = Purpose::Application {
                client: address(client),
            };
            let stream = captured.connect(to, purpose).unwrap();
            let (accepted, from) = application.accept().unwrap();
            assert_eq!(from, address(client), "accept()");
            assert_eq!(
                accepted.peer_addr().unwrap(),
                address(client),
                "getpeername()"
            );
            assert_eq!(accepted.local_addr().unwrap(), to);
            assert_eq!(stream.peer_addr().unwrap(), to, "the proxy sees the truth");
        }
    });
}

#[test]
fn an_application_for_both_families_sees_an_ipv4_client_mapped() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), STRICT, &[]);
        let application = captured.pod.run(|| TcpListener::bind("[::]:8080")).unwrap();
        let to = SocketAddr::new(captured.pod.v4(), 8080);
        let purpose = Purpose::Application {
            client: address("10.9.0.20:4444"),
        };
        let _stream = captured.connect(to, purpose).unwrap();
        let (accepted, from) = application.accept().unwrap();
        assert_eq!(from, address("[::ffff:10.9.0.20]:4444"));
        assert_eq!(accepted.peer_addr().unwrap(), from);
    });
}

#[test]
fn an_ipv4_application_keeps_the_true_peer_of_an_ipv6_client() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), STRICT, &[]);
        let application = captured
            .pod
            .run(|| TcpListener::bind("10.9.0.10:8080"))
            .unwrap();
        let purpose = Purpose::Application {
            client: address("[fd09::14]:4444"),
        };
        let to = address("10.9.0.10:8080");
        let _stream = captured.connect(to, purpose).unwrap();
        let (_, from) = application.accept().unwrap();
        assert_eq!(from.ip(), captured.pod.v4());
    });
}

#[test]
fn the_proxy_reaches_the_application_also_from_another_address_of_the_pod() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), STRICT, &[]);
        captured.pod.ip("addr add 10.9.0.11/24 dev eth0");
        let application = captured
            .pod
            .run(|| TcpListener::bind("10.9.0.11:8080"))
            .unwrap();
        let purpose = Purpose::Application {
            client: address("10.9.0.20:4444"),
        };
        captured
            .connect(address("10.9.0.11:8080"), purpose)
            .unwrap();
        assert_eq!(application.accept().unwrap().1, address("10.9.0.20:4444"));
    });
}

#[test]
fn an_application_can_bind_a_port_that_was_used_through_the_proxy() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), STRICT, &[]);
        let peer = lab.pod(20);
        let to = SocketAddr::new(captured.pod.v4(), 8080);
        let _client = peer.run(|| dial(to)).unwrap();
        let _accepted = accept(&captured.listeners.plaintext[0]);
        captured
            .pod
            .run(|| TcpListener::bind(to))
            .expect("the port is free");
    });
}

#[test]
fn connections_within_the_pod_are_left_alone() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), STRICT, &["8080"]);
        for bound in [
            "127.0.0.1:8080",
            "[::1]:8080",
            "10.9.0.10:8080",
            "[fd09::a]:8080",
        ] {
            let application = captured.pod.run(|| TcpListener::bind(bound)).unwrap();
            let client = captured.pod.run(|| dial(address(bound))).unwrap();
            assert_eq!(
                accept(&application).peer_addr().unwrap(),
                client.local_addr().unwrap()
            );
        }
    });
}

/// A pod whose proxy is gone, with an application that still listens.
fn without_proxy(lab: &Lab, mode: MtlsMode) -> [std::io::Result<()>; 2] {
    let redirect = lab.redirect();
    let Captured {
        pod,
        listeners,
        captured: _captured,
        net: _net,
        ..
    } = Captured::new(&redirect, lab.pod(10), mode, &[]);
    let applications = ["10.9.0.10:8080", "[fd09::a]:8080"]
        .map(|bound| pod.run(|| TcpListener::bind(bound)).unwrap());
    drop(listeners);
    let peer = lab.pod(20);
    applications.map(|application| {
        peer.run(|| dial(application.local_addr().unwrap()))?;
        accept(&application);
        Ok(())
    })
}

#[test]
fn a_strict_pod_without_its_proxy_refuses() {
    isolated(|lab: &Lab| {
        for refused in without_proxy(lab, STRICT) {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
    });
}

#[test]
fn a_permissive_pod_without_its_proxy_goes_on() {
    isolated(|lab: &Lab| {
        for passed in without_proxy(lab, PERMISSIVE) {
            passed.expect("straight to the application");
        }
    });
}

#[test]
fn an_address_nobody_told_of_is_refused_when_strict() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let mut captured = Captured::new(&redirect, lab.pod(10), PERMISSIVE, &[]);
        captured.pod.ip("addr add 10.9.0.11/24 dev eth0");
        let application = captured
            .pod
            .run(|| TcpListener::bind("10.9.0.11:8080"))
            .unwrap();
        let peer = lab.pod(20);
        let dial = || peer.run(|| dial(application.local_addr().unwrap()));
        dial().expect("permissive");
        captured.update(STRICT, &[]);
        assert_eq!(dial().unwrap_err().kind(), ErrorKind::ConnectionRefused);
        captured.update(PERMISSIVE, &[]);
        dial().expect("permissive again");
    });
}

#[test]
fn a_released_pod_is_reached_directly() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let Captured {
            pod,
            captured,
            listeners: _listeners,
            net: _net,
            ..
        } = Captured::new(&redirect, lab.pod(10), STRICT, &[]);
        drop(captured);
        let peer = lab.pod(20);
        let application = pod.run(|| TcpListener::bind("10.9.0.10:8080")).unwrap();
        let client = peer
            .run(|| dial(application.local_addr().unwrap()))
            .unwrap();
        assert_eq!(
            accept(&application).peer_addr().unwrap(),
            client.local_addr().unwrap()
        );
    });
}

#[test]
fn an_address_that_has_passed_to_another_pod_stays_with_it() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let old = Captured::new(&redirect, lab.pod(10), STRICT, &[]);
        let new = Captured::new(&redirect, lab.pod(20), STRICT, &[]);
        // As when the old pod is released only after its address was given to the new one.
        let mut captured = new.captured;
        captured
            .update(&PodRedirectConfig {
                namespace: &new.pod.namespace,
                addresses: PodAddresses::Assigned(&[new.pod.v4(), new.pod.v6(), old.pod.v4()]),
                exclusions: &CaptureExclusions::default(),
                listeners: new.listeners.pairs(),
                mtls_mode: STRICT,
                node_access: &NodeAccess::All,
                refused_uncaptured: None,
            })
            .unwrap();
        old.captured.release().unwrap();
        drop(old.pod);
        new.pod.ip("addr add 10.9.0.10/24 dev eth0");
        let peer = lab.pod(30);
        let _client = peer.run(|| dial(address("10.9.0.10:80"))).unwrap();
        accept(&new.listeners.plaintext[0]);
    });
}
