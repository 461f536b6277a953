//! Connections by the node's own processes, which a strict pod lets in.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use weft_model::authorization::PlaintextOrigin;
use weft_model::mtls::MtlsMode;
use weft_model::node_access::{NodeAccess, Probe, ProbeKind};
use weft_node_agent::redirect::{Redirect, RedirectOptions};
use weft_proxy::sockets::{Purpose, Sockets};

use crate::lab::{Captured, Lab, accept, address, dial, eventually, isolated};

const STRICT: MtlsMode = MtlsMode::Strict;

/// The origin, as the kernel says, of the connection that the plaintext listener accepts next.
pub(crate) fn origin(captured: &Captured, family: usize) -> PlaintextOrigin {
    let accepted = accept(&captured.listeners.plaintext[family]);
    captured.sockets.origin(accepted.as_fd())
}

#[test]
fn a_process_of_the_node_is_known_as_such() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), STRICT, &[]);
        for (dialled, family) in [
            ("10.9.0.10:8080", 0),
            ("[fd09::a]:8080", 1),
            ("[::ffff:10.9.0.10]:8080", 0),
        ] {
            let _client = dial(address(dialled)).unwrap();
            assert_eq!(
                origin(&captured, family),
                PlaintextOrigin::Node,
                "{dialled}"
            );
        }
    });
}

#[test]
fn another_pod_is_the_network() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), STRICT, &[]);
        let peer = lab.pod(20);
        redirect.mark_outside(&peer.namespace).unwrap();
        let _client = peer
            .run(|| dial(SocketAddr::new(captured.pod.v4(), 8080)))
            .unwrap();
        assert_eq!(origin(&captured, 0), PlaintextOrigin::Network);
    });
}

#[test]
fn a_process_below_the_pods_cgroup_is_not_the_node() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), STRICT, &[]);
        let to = SocketAddr::new(captured.pod.v4(), 8080);
        for (cgroup, expected) in [
            ("kubepods/pod", PlaintextOrigin::Network),
            ("agent", PlaintextOrigin::Node),
            ("kubelet", PlaintextOrigin::Kubelet),
        ] {
            let seen = std::thread::scope(|scope| {
                let helper = scope.spawn(|| lab.helper(cgroup, &format!("dial {to}")));
                let seen = origin(&captured, 0);
                let output = helper.join().unwrap();
                assert!(
                    output.status.success(),
                    "{}",
                    String::from_utf8_lossy(&output.stdout)
                );
                seen
            });
            assert_eq!(seen, expected, "{cgroup}");
        }
    });
}

#[test]
fn a_process_in_a_pod_that_only_proc_tells_of_is_not_the_node() {
    // As on a node with the first version of cgroups: the kernel doesn't help.
    let pod = "kubepods-elsewhere/pod6f1c7a52-8f5e-4c1b-9d7e-0a1b2c3d4e5f";
    isolated(|lab: &Lab| {
        let options = RedirectOptions {
            pods_cgroup: None,
            ..lab.options()
        };
        std::fs::create_dir_all(lab.cgroup.join(pod)).unwrap();
        let redirect = Redirect::load(&options).unwrap();
        let captured = Captured::new(&redirect, lab.pod(10), STRICT, &[]);
        let to = SocketAddr::new(captured.pod.v4(), 8080);
        for (cgroup, expected) in [
            (pod, PlaintextOrigin::Network),
            ("agent", PlaintextOrigin::Node),
        ] {
            std::thread::scope(|scope| {
                scope.spawn(|| lab.helper(cgroup, &format!("dial {to}")));
                assert_eq!(origin(&captured, 0), expected, "{cgroup}");
            });
        }
    });
}

#[test]
fn records_end_when_the_other_end_exists_or_the_attempt_fails() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), STRICT, &[]);
        let client = dial(SocketAddr::new(captured.pod.v4(), 8080)).unwrap();
        let accepted = accept(&captured.listeners.plaintext[0]);
        let purpose = Purpose::Application {
            client: client.local_addr().unwrap(),
        };
        let nobody = SocketAddr::new(captured.pod.v4(), 9);
        captured
            .connect(nobody, purpose)
            .expect_err("nobody listens");
        let application = captured
            .pod
            .run(|| TcpListener::bind("10.9.0.10:8080"))
            .unwrap();
        let _own = captured
            .connect(application.local_addr().unwrap(), purpose)
            .unwrap();
        eventually("no record is left", || {
            let counts = redirect.record_counts();
            (
                counts.node_connections,
                counts.own_connections,
                counts.pending,
            ) == (0, 0, 0)
        });
        // What is known about an accepted socket stays with it, also without its client.
        drop(client);
        assert_eq!(
            captured.sockets.origin(accepted.as_fd()),
            PlaintextOrigin::Node
        );
    });
}

#[test]
fn a_kubelet_that_was_moved_is_found_again() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), STRICT, &[]);
        let to = SocketAddr::new(captured.pod.v4(), 8080);
        let seen = || {
            std::thread::scope(|scope| {
                scope.spawn(|| lab.helper("kubelet", &format!("dial {to}")));
                origin(&captured, 0)
            })
        };
        assert_eq!(seen(), PlaintextOrigin::Kubelet);
        // As systemd does it when a service is restarted: another cgroup of the same name.
        let cgroup = lab.cgroup.join("kubelet");
        eventually("nobody is in it", || std::fs::remove_dir(&cgroup).is_ok());
        redirect.look_for_kubelet().unwrap();
        std::fs::create_dir(&cgroup).unwrap();
        assert_eq!(seen(), PlaintextOrigin::Node, "not before the agent looks");
        redirect.look_for_kubelet().unwrap();
        assert_eq!(seen(), PlaintextOrigin::Kubelet);
    });
}

#[test]
fn while_the_proxy_is_gone_kubelet_reaches_the_ports_of_probes_and_nobody_reaches_others() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let mut all = Captured::new(&redirect, lab.pod(10), STRICT, &[]);
        let probe = Probe {
            port: 8080,
            kind: ProbeKind::Tcp,
        };
        all.open_to_node(&NodeAccess::Probes([probe].into()));
        let Captured {
            pod,
            listeners,
            captured: _captured,
            net,
            ..
        } = all;
        let listen = |port: u16| {
            let at = SocketAddr::new(pod.v4(), port);
            pod.run(|| TcpListener::bind(at)).unwrap()
        };
        let (probed, other) = (listen(8080), listen(8081));
        drop(listeners);
        let probe = lab.probe(&probed);
        assert!(probe.status.success(), "{probe:?}");
        assert!(!lab.probe(&other).status.success());
        for (cgroup, listener) in [
            ("agent", &probed),
            ("agent", &other),
            ("kubepods/pod", &probed),
        ] {
            let to = listener.local_addr().unwrap();
            let output = lab.helper(cgroup, &format!("dial {to}"));
            let text = String::from_utf8_lossy(&output.stdout);
            let is_refused = !output.status.success() && text.contains("refused");
            assert!(is_refused, "{cgroup} {to}: {text}");
        }
        net.bind("127.0.0.1:15006".parse().unwrap())
            .expect("the listener's port is free again");
    });
}

#[test]
fn while_the_proxy_is_gone_a_pod_that_is_open_to_its_node_stays_so() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let Captured {
            pod,
            listeners,
            captured: _captured,
            ..
        } = Captured::new(&redirect, lab.pod(10), STRICT, &[]);
        let application = pod.run(|| TcpListener::bind("10.9.0.10:8080")).unwrap();
        drop(listeners);
        dial(application.local_addr().unwrap()).expect("the node reaches the application");
        accept(&application);
    });
}

#[test]
fn ports_that_are_open_to_the_node_go_with_their_pod() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let mut captured = Captured::new(&redirect, lab.pod(10), STRICT, &[]);
        assert_eq!(redirect.table_sizes().node_ports, 1);
        let probes = (1..=64).map(|port| Probe {
            port,
            kind: ProbeKind::Tcp,
        });
        captured.open_to_node(&NodeAccess::Probes(probes.collect()));
        assert_eq!(redirect.table_sizes().node_ports, 64);
        captured.open_to_node(&NodeAccess::default());
        assert_eq!(redirect.table_sizes().node_ports, 0);
        captured.open_to_node(&NodeAccess::All);
        captured.captured.release().unwrap();
        assert_eq!(redirect.table_sizes().node_ports, 0);
    });
}
