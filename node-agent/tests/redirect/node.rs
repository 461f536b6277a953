//! Connections by the node's own processes, which a strict pod lets in.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use weft_model::authorization::PlaintextOrigin;
use weft_model::mtls::MtlsMode;
use weft_node_agent::redirect::{Redirect, RedirectOptions};
use weft_proxy::sockets::{Purpose, Sockets};

use crate::lab::{Captured, Lab, accept, address, dial, eventually, isolated};

const STRICT: MtlsMode = MtlsMode::Strict;

/// The origin, as the kernel says, of the connection that the plaintext listener accepts next.
fn origin(captured: &Captured, family: usize) -> PlaintextOrigin {
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
fn while_the_proxy_is_gone_the_node_still_reaches_a_strict_pod_but_its_pods_do_not() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let Captured {
            pod,
            listeners,
            captured: _captured,
            net,
            ..
        } = Captured::new(&redirect, lab.pod(10), STRICT, &[]);
        let application = pod.run(|| TcpListener::bind("10.9.0.10:8080")).unwrap();
        drop(listeners);
        let to = application.local_addr().unwrap();
        dial(to).expect("a probe of the node reaches the application");
        accept(&application);
        let output = lab.helper("kubepods/pod", &format!("dial {to}"));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            !output.status.success() && text.contains("refused"),
            "{text}"
        );
        net.bind("127.0.0.1:15006".parse().unwrap())
            .expect("the listener's port is free again");
    });
}
