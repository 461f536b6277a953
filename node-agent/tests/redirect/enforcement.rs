//! Pods that may not be open: refused until they are captured, and whenever they aren't.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use weft_model::mtls::MtlsMode;
use weft_model::node_access::NodeAccess;
use weft_model::workload::{CaptureExclusions, RefusedConnections};
use weft_node_agent::redirect::{
    EnforcementConfig, PodAddresses, PodRedirect, PodRedirectConfig, Redirect, RedirectError,
    RedirectOptions, UnknownPods,
};
use weft_proxy::sockets::{self, Purpose};

use crate::lab::{
    Lab, Listeners, Pod, accept, address, block_on, dial, eventually, exclusions, isolated,
};

fn enforce(
    redirect: &mut PodRedirect,
    pod: &Pod,
    refused: RefusedConnections,
    exclusions: &CaptureExclusions,
) -> Result<(), RedirectError> {
    redirect.enforce(&EnforcementConfig {
        namespace: &pod.namespace,
        addresses: PodAddresses::Assigned(&pod.addresses()),
        exclusions,
        refused,
        node_access: &NodeAccess::All,
    })
}

fn refused_pod(redirect: &Redirect, pod: &Pod, refused: RefusedConnections) -> PodRedirect {
    let mut enforced = redirect.prepare(&pod.namespace).unwrap();
    enforce(&mut enforced, pod, refused, &exclusions(&[])).unwrap();
    enforced
}

fn is_refused(result: std::io::Result<TcpStream>) -> bool {
    result.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Servers of the node's own, by family: what a pod reaches when nothing holds it.
fn servers() -> [TcpListener; 2] {
    ["10.9.0.1:7000", "[fd09::1]:7000"].map(|at| TcpListener::bind(at).unwrap())
}

fn applications(pod: &Pod) -> [TcpListener; 2] {
    pod.addresses()
        .map(|ip| pod.run(|| TcpListener::bind((ip, 8080)).unwrap()))
}

#[test]
fn a_strict_pod_is_refused_both_ways_before_it_is_captured() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let (pod, peer) = (lab.pod(10), lab.pod(20));
        let (servers, applications) = (servers(), applications(&pod));
        let _enforced = refused_pod(&redirect, &pod, RefusedConnections::Both);
        for server in &servers {
            let to = server.local_addr().unwrap();
            assert!(is_refused(pod.run(|| dial(to))), "out to {to}");
        }
        for application in &applications {
            let to = application.local_addr().unwrap();
            assert!(is_refused(peer.run(|| dial(to))), "in to {to}");
            dial(to).expect("a probe of the node");
        }
        let local = pod.run(|| TcpListener::bind("127.0.0.1:8081")).unwrap();
        pod.run(|| dial(local.local_addr().unwrap()))
            .expect("loopback");
    });
}

#[test]
fn a_pod_of_registered_destinations_only_is_refused_outbound_before_it_is_captured() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let (pod, peer) = (lab.pod(10), lab.pod(20));
        let (servers, applications) = (servers(), applications(&pod));
        let _enforced = refused_pod(&redirect, &pod, RefusedConnections::Outbound);
        for server in &servers {
            assert!(is_refused(pod.run(|| dial(server.local_addr().unwrap()))));
        }
        for application in &applications {
            peer.run(|| dial(application.local_addr().unwrap()))
                .expect("it is permissive");
        }
    });
}

#[test]
fn a_permissive_pod_with_policies_is_refused_inbound_alone_before_it_is_captured() {
    isolated(|lab: &Lab| {
        let options = RedirectOptions {
            unknown_pods: UnknownPods::Refuse,
            ..lab.options()
        };
        let redirect = Redirect::load(&options).unwrap();
        let (pod, peer) = (lab.pod(10), lab.pod(20));
        redirect.mark_outside(&peer.namespace).unwrap();
        let (servers, applications) = (servers(), applications(&pod));
        let are_refused = || {
            let out = |server: &TcpListener| {
                let to = server.local_addr().unwrap();
                is_refused(pod.run(|| dial(to)))
            };
            let inward = |application: &TcpListener| {
                let to = application.local_addr().unwrap();
                is_refused(peer.run(|| dial(to)))
            };
            [
                applications.each_ref().map(inward),
                servers.each_ref().map(out),
            ]
        };
        let inbound_alone = [[true; 2], [false; 2]];
        let mut enforced = refused_pod(&redirect, &pod, RefusedConnections::Inbound);
        assert!(enforced.is_refused());
        assert_eq!(are_refused(), inbound_alone);
        for application in &applications {
            dial(application.local_addr().unwrap()).expect("a probe of the node");
        }
        // It may reach registered destinations only for a while.
        let (both, inbound) = (RefusedConnections::Both, RefusedConnections::Inbound);
        enforce(&mut enforced, &pod, both, &exclusions(&["7001"])).unwrap();
        assert_eq!(are_refused(), [[true; 2]; 2]);
        enforce(&mut enforced, &pod, inbound, &exclusions(&["7001"])).unwrap();
        assert_eq!(are_refused(), inbound_alone);
        assert_eq!(redirect.table_sizes().excluded_ports, 0);
    });
}

#[test]
fn a_captured_permissive_pod_with_policies_is_refused_inbound_when_its_agent_ends() {
    isolated(|lab: &Lab| {
        let folder = tempfile::tempdir().unwrap();
        let pins = folder.path().join("pins");
        let (pod, peer) = (lab.pod(10), lab.pod(20));
        let ([server, _], [application, _]) = (servers(), applications(&pod));
        let reach_pod = || peer.run(|| dial(application.local_addr().unwrap()));
        let reach_server = || pod.run(|| dial(server.local_addr().unwrap()));
        let redirect = Redirect::load(&pinned(lab, &pins)).unwrap();
        let net = pod.net(&redirect);
        let listeners = Listeners::open(&net);
        let captured = redirect.capture(&PodRedirectConfig {
            namespace: &pod.namespace,
            addresses: PodAddresses::Assigned(&pod.addresses()),
            exclusions: &CaptureExclusions::default(),
            listeners: listeners.pairs(),
            mtls_mode: MtlsMode::Permissive,
            node_access: &NodeAccess::All,
            refused_uncaptured: Some(RefusedConnections::Inbound),
        });
        let captured = captured.unwrap();
        // Plaintext comes to the proxy, which decides.
        let _client = reach_pod().unwrap();
        accept(&listeners.plaintext[0]);
        captured.leave_enforced();
        drop(listeners);
        redirect.leave_enforced();
        drop((redirect, net));
        assert!(is_refused(reach_pod()), "no agent");
        reach_server().expect("out as ever");
        let redirect = Redirect::load(&pinned(lab, &pins)).unwrap();
        assert!(is_refused(reach_pod()), "a successor that has not looked");
        let enforced = refused_pod(&redirect, &pod, RefusedConnections::Inbound);
        redirect.remove_leftovers().unwrap();
        assert!(is_refused(reach_pod()), "a successor's own refusal");
        reach_server().expect("out as ever");
        enforced.release().unwrap();
        eventually("the pod is reached", || reach_pod().is_ok());
    });
}

#[test]
fn exclusions_and_the_proxys_own_connections_pass_before_the_capture() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let pod = lab.pod(10);
        let servers = servers();
        let mut enforced = redirect.prepare(&pod.namespace).unwrap();
        let both = RefusedConnections::Both;
        for excluded in [["7000"], ["10.9.0.1/32"]] {
            enforce(&mut enforced, &pod, both, &exclusions(&excluded)).unwrap();
            let to = servers[0].local_addr().unwrap();
            pod.run(|| dial(to)).expect("excluded");
        }
        let to = servers[1].local_addr().unwrap();
        assert!(is_refused(pod.run(|| dial(to))), "another block");
        enforce(&mut enforced, &pod, both, &exclusions(&[])).unwrap();
        let limit = std::time::Duration::from_secs(2);
        let net = pod.net(&redirect);
        block_on(sockets::connect(&net, to, Purpose::Upstream, limit)).expect("the proxy's own");
        assert!(is_refused(pod.run(|| dial(to))), "excluded no more");
    });
}

#[test]
fn a_pod_whose_exclusions_find_no_room_is_refused_without_them() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let pod = lab.pod(10);
        let servers = servers();
        let mut enforced = redirect.prepare(&pod.namespace).unwrap();
        let too_many = CaptureExclusions {
            ports: (1..=20_000).collect(),
            ..CaptureExclusions::default()
        };
        enforce(&mut enforced, &pod, RefusedConnections::Both, &too_many)
            .expect_err("the table is full");
        assert!(enforced.is_refused());
        let to = servers[0].local_addr().unwrap();
        assert!(is_refused(pod.run(|| dial(to))));
    });
}

#[test]
fn a_pod_that_nobody_has_told_of_can_be_refused_inbound_until_it_is_known() {
    isolated(|lab: &Lab| {
        let options = RedirectOptions {
            unknown_pods: UnknownPods::Refuse,
            ..lab.options()
        };
        let redirect = Redirect::load(&options).unwrap();
        let (unknown, outside, peer) = (lab.pod(10), lab.pod(11), lab.pod(20));
        redirect.mark_outside(&peer.namespace).unwrap();
        let [application, _] = applications(&unknown);
        let to = application.local_addr().unwrap();
        peer.run(|| dial(to)).expect("not seen yet");
        redirect.refuse_unknown(&unknown.namespace).unwrap();
        assert!(is_refused(peer.run(|| dial(to))));
        dial(to).expect("a probe of the node");
        // Known as strict: never open.
        let enforced = refused_pod(&redirect, &unknown, RefusedConnections::Both);
        assert!(is_refused(peer.run(|| dial(to))));
        redirect.refuse_unknown(&unknown.namespace).unwrap();
        enforced.release().unwrap();
        eventually("it is reached", || peer.run(|| dial(to)).is_ok());
        // Known as outside: let go.
        let [application, _] = applications(&outside);
        let to = application.local_addr().unwrap();
        redirect.refuse_unknown(&outside.namespace).unwrap();
        assert!(is_refused(peer.run(|| dial(to))));
        redirect.mark_outside(&outside.namespace).unwrap();
        eventually("it is reached", || peer.run(|| dial(to)).is_ok());
        // Of whom something was said, nothing changes.
        redirect.refuse_unknown(&outside.namespace).unwrap();
        peer.run(|| dial(to)).unwrap();
        // Gone again, it leaves nothing.
        redirect.unmark_outside(&outside.namespace).unwrap();
        redirect.refuse_unknown(&outside.namespace).unwrap();
        redirect.forget_unknown(outside.namespace.cookie()).unwrap();
        assert_eq!(redirect.table_sizes().pod_addresses, 0);
    });
}

/// Connections that reached somebody in the clear, counted until dropped.
fn count_accepted<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    listener: &'scope TcpListener,
    stop: &'scope AtomicBool,
    count: &'scope AtomicUsize,
) {
    listener.set_nonblocking(true).unwrap();
    scope.spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok(_) => {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(1)),
            }
        }
    });
}

#[test]
fn no_connection_slips_through_between_refusal_and_capture() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let (pod, peer) = (lab.pod(10), lab.pod(20));
        let ([server, _], [application, _]) = (servers(), applications(&pod));
        let mut enforced = refused_pod(&redirect, &pod, RefusedConnections::Both);
        let net = pod.net(&redirect);
        let listeners = Listeners::open(&net);
        let (stop, open, dialled) = (
            AtomicBool::new(false),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        std::thread::scope(|scope| {
            count_accepted(scope, &server, &stop, &open);
            count_accepted(scope, &application, &stop, &open);
            for (from, to) in [
                (&pod, server.local_addr().unwrap()),
                (&peer, application.local_addr().unwrap()),
            ] {
                let (stop, dialled) = (&stop, &dialled);
                scope.spawn(move || {
                    from.run(|| {
                        while !stop.load(Ordering::Relaxed) {
                            let _ = dial(to);
                            dialled.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                });
            }
            // Accepted and closed, or the dialling would end when nobody takes them.
            for listener in [&listeners.outbound[0], &listeners.plaintext[0]] {
                static IGNORED: AtomicUsize = AtomicUsize::new(0);
                count_accepted(scope, listener, &stop, &IGNORED);
            }
            for _ in 0..200 {
                enforced
                    .update(&PodRedirectConfig {
                        namespace: &pod.namespace,
                        addresses: PodAddresses::Assigned(&pod.addresses()),
                        exclusions: &CaptureExclusions::default(),
                        listeners: listeners.pairs(),
                        mtls_mode: MtlsMode::Strict,
                        node_access: &NodeAccess::All,
                        refused_uncaptured: Some(RefusedConnections::Both),
                    })
                    .unwrap();
                let both = RefusedConnections::Both;
                enforce(&mut enforced, &pod, both, &exclusions(&[])).unwrap();
            }
            while dialled.load(Ordering::Relaxed) < 1000 {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
        });
        println!("{} dialled", dialled.load(Ordering::Relaxed));
        assert_eq!(open.load(Ordering::Relaxed), 0, "reached in the clear");
    });
}

fn pinned(lab: &Lab, pins: &Path) -> RedirectOptions {
    RedirectOptions {
        pin_directory: Some(pins.to_owned()),
        ..lab.options()
    }
}

#[test]
fn a_refused_pod_that_nobody_looks_after_stays_refused_until_it_leaves_the_mesh() {
    isolated(|lab: &Lab| {
        let folder = tempfile::tempdir().unwrap();
        let pins = folder.path().join("pins");
        let (pod, peer) = (lab.pod(10), lab.pod(20));
        let ([server, _], [application, _]) = (servers(), applications(&pod));
        let is_closed = || {
            is_refused(pod.run(|| dial(server.local_addr().unwrap())))
                && is_refused(peer.run(|| dial(application.local_addr().unwrap())))
        };
        let redirect = Redirect::load(&pinned(lab, &pins)).unwrap();
        // As when the task that looks after it ends in an unforeseen way, and another begins.
        drop(refused_pod(&redirect, &pod, RefusedConnections::Both));
        assert!(is_closed(), "dropped");
        refused_pod(&redirect, &pod, RefusedConnections::Both).leave_enforced();
        assert!(is_closed(), "left");
        redirect.leave_enforced();
        drop(redirect);
        assert!(is_closed(), "no agent");
        let redirect = Redirect::load(&pinned(lab, &pins)).unwrap();
        assert!(is_closed(), "a successor that has not looked at it yet");
        let enforced = refused_pod(&redirect, &pod, RefusedConnections::Both);
        redirect.remove_leftovers().unwrap();
        assert!(is_closed(), "a successor's own refusal");
        enforced.release().unwrap();
        pod.run(|| dial(server.local_addr().unwrap())).unwrap();
        // The kernel takes an unpinned program off a moment later.
        eventually("the pod is reached", || {
            peer.run(|| dial(application.local_addr().unwrap())).is_ok()
        });
    });
}

#[test]
fn a_captured_pod_of_registered_destinations_only_is_refused_when_its_agent_ends() {
    isolated(|lab: &Lab| {
        let folder = tempfile::tempdir().unwrap();
        let pins = folder.path().join("pins");
        let pod = lab.pod(10);
        let [server, _] = servers();
        let redirect = Redirect::load(&pinned(lab, &pins)).unwrap();
        let net = pod.net(&redirect);
        let listeners = Listeners::open(&net);
        let captured = redirect.capture(&PodRedirectConfig {
            namespace: &pod.namespace,
            addresses: PodAddresses::Assigned(&pod.addresses()),
            exclusions: &CaptureExclusions::default(),
            listeners: listeners.pairs(),
            mtls_mode: MtlsMode::Permissive,
            node_access: &NodeAccess::All,
            refused_uncaptured: Some(RefusedConnections::Outbound),
        });
        captured.unwrap().leave_enforced();
        drop(listeners);
        redirect.leave_enforced();
        drop((redirect, net));
        // An application that takes the proxy's port is not handed anything, either.
        let hijacker = pod.run(|| TcpListener::bind("127.0.0.1:15001")).unwrap();
        let to: SocketAddr = server.local_addr().unwrap();
        assert!(is_refused(pod.run(|| dial(to))));
        hijacker.set_nonblocking(true).unwrap();
        assert!(hijacker.accept().is_err());
        assert!(is_refused(pod.run(|| dial(address("10.9.0.1:7001")))));
    });
}
