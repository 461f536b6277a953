//! Pods that nobody has told of, which the kernel refuses by itself where that is wanted.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use weft_model::mtls::MtlsMode;
use weft_node_agent::redirect::{Redirect, RedirectOptions, UnknownPods};

use crate::full::leave_no_memory;
use crate::lab::{Captured, Lab, Pod, accept, address, dial, eventually, isolated};

/// What is dropped is never answered: long enough for what is.
const ANSWERED_WITHIN: Duration = Duration::from_millis(300);

fn options(lab: &Lab) -> RedirectOptions {
    RedirectOptions {
        unknown_pods: UnknownPods::Refuse,
        ..lab.options()
    }
}

fn refusing(lab: &Lab) -> Redirect {
    Redirect::load(&options(lab)).expect("the programs load and attach")
}

/// A peer that is known, and outside of the mesh.
fn known_peer(lab: &Lab, redirect: &Redirect) -> Pod {
    let peer = lab.pod(20);
    redirect.mark_outside(&peer.namespace).unwrap();
    peer
}

/// Applications of a pod, by family.
fn applications(lab: &Lab, pod: &Pod, port: u16) -> [TcpListener; 2] {
    let listen = |ip| pod.run(|| TcpListener::bind((ip, port)).unwrap());
    lab.as_pod(|| pod.addresses().map(listen))
}

fn dial_shortly(from: &Pod, to: SocketAddr) -> std::io::Result<TcpStream> {
    from.run(|| TcpStream::connect_timeout(&to, ANSWERED_WITHIN))
}

#[track_caller]
fn assert_dropped(from: &Pod, application: &TcpListener) {
    let to = application.local_addr().unwrap();
    let error = dial_shortly(from, to).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{to}");
    application.set_nonblocking(true).unwrap();
    let accepted = application.accept();
    assert!(accepted.is_err(), "reached in the clear: {accepted:?}");
}

#[track_caller]
fn assert_reached(from: &Pod, application: &TcpListener) -> (TcpStream, TcpStream) {
    let client = dial_shortly(from, application.local_addr().unwrap()).unwrap();
    (client, accept(application))
}

#[track_caller]
fn assert_goes_on((client, accepted): &mut (TcpStream, TcpStream)) {
    client.write_all(b"!").unwrap();
    let limit = Some(Duration::from_secs(5));
    accepted.set_read_timeout(limit).unwrap();
    accepted.read_exact(&mut [0]).unwrap();
}

fn count(redirect: &Redirect, finding: &str) -> u64 {
    let counters = redirect.counters();
    let counter = counters.iter().find(|counter| counter.finding == finding);
    counter.map_or(0, |counter| counter.count)
}

#[test]
fn an_unknown_pod_is_refused_inbound_before_any_agent_looks_at_it() {
    isolated(|lab: &Lab| {
        let redirect = refusing(lab);
        let (pod, peer) = (lab.pod(10), known_peer(lab, &redirect));
        let applications = applications(lab, &pod, 8080);
        for application in &applications {
            assert_dropped(&peer, application);
        }
        assert!(count(&redirect, "unknown_listener") >= 2);
        let before = redirect.table_sizes();
        redirect.mark_outside(&pod.namespace).unwrap();
        let mut open = applications
            .each_ref()
            .map(|application| assert_reached(&peer, application));
        redirect.unmark_outside(&pod.namespace).unwrap();
        for (application, open) in applications.iter().zip(&mut open) {
            assert_dropped(&peer, application);
            assert_goes_on(open);
        }
        assert_eq!(redirect.table_sizes(), before);
    });
}

#[test]
fn what_does_not_come_from_elsewhere_reaches_an_unknown_pod() {
    isolated(|lab: &Lab| {
        let redirect = refusing(lab);
        let (pod, peer) = (lab.pod(10), known_peer(lab, &redirect));
        let local = lab.as_pod(|| pod.run(|| TcpListener::bind("127.0.0.1:8081").unwrap()));
        assert_reached(&pod, &local);
        for application in &applications(lab, &pod, 8080) {
            let to = application.local_addr().unwrap();
            for cgroup in ["agent", "kubelet"] {
                std::thread::scope(|scope| {
                    let node = scope.spawn(|| lab.helper(cgroup, &format!("dial {to}")));
                    accept(application);
                    assert!(node.join().unwrap().status.success(), "{cgroup} {to}");
                });
            }
            // A pod in the node's network namespace is still a pod.
            let output = lab.helper("kubepods/pod", &format!("dial {to}"));
            assert!(!output.status.success(), "{output:?}");
            assert_dropped(&peer, application);
        }
        assert!(count(&redirect, "node_to_unknown") > 0);
        let sockets = |at: &str, of: &Pod| of.run(|| UdpSocket::bind(at).unwrap());
        let server = lab.as_pod(|| sockets("10.9.0.10:53", &pod));
        let client = sockets("10.9.0.20:0", &peer);
        client.send_to(b"?", "10.9.0.10:53").unwrap();
        server
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        server.recv(&mut [0]).expect("UDP passes");
    });
}

#[test]
fn records_of_what_the_node_opens_end_with_its_connections() {
    isolated(|lab: &Lab| {
        let redirect = refusing(lab);
        let pod = lab.pod(10);
        let application = &applications(lab, &pod, 8080)[0];
        drop(dial(application.local_addr().unwrap()).unwrap());
        accept(application);
        // A destination that nobody has: the attempt fails.
        let _ = TcpStream::connect_timeout(&address("10.9.0.99:1"), ANSWERED_WITHIN);
        eventually("no record is left", || {
            redirect.record_counts().node_connections == 0
        });
    });
}

#[test]
fn the_nodes_own_listeners_are_never_refused() {
    isolated(|lab: &Lab| {
        let redirect = refusing(lab);
        let peer = known_peer(lab, &redirect);
        let listen = || TcpListener::bind("10.9.0.1:0").unwrap();
        // The latter as a pod's in the node's network namespace.
        for server in [listen(), lab.as_pod(listen)] {
            assert_reached(&peer, &server);
        }
        assert_eq!(count(&redirect, "unknown_listener"), 0);
    });
}

#[test]
fn an_unknown_pod_is_captured_without_an_open_moment() {
    isolated(|lab: &Lab| {
        let redirect = refusing(lab);
        let (pod, peer) = (lab.pod(10), known_peer(lab, &redirect));
        let [application, _] = applications(lab, &pod, 8080);
        let to = application.local_addr().unwrap();
        assert_dropped(&peer, &application);
        let captured = Captured::new(&redirect, pod, MtlsMode::Permissive, &[]);
        let _client = dial_shortly(&peer, to).unwrap();
        accept(&captured.listeners.plaintext[0]);
        assert!(application.accept().is_err(), "the proxy has it");
        let (_, destination) = captured.dial(address("10.77.1.2:80"));
        assert_eq!(destination.unwrap(), address("10.77.1.2:80"));
    });
}

#[test]
fn a_pod_that_may_be_open_passes_before_its_capture_and_after() {
    isolated(|lab: &Lab| {
        let redirect = refusing(lab);
        let (pod, peer) = (lab.pod(10), known_peer(lab, &redirect));
        let [application, _] = applications(lab, &pod, 8080);
        let server = TcpListener::bind("10.9.0.1:7000").unwrap();
        let leaves = |pod: &Pod| pod.run(|| dial(server.local_addr().unwrap()));
        redirect.refuse_unknown(&pod.namespace).unwrap();
        let to = application.local_addr().unwrap();
        let refused = dial_shortly(&peer, to).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        redirect.leave_alone(&pod.namespace).unwrap();
        // The kernel takes an unpinned program off a moment later.
        eventually("it is reached", || dial_shortly(&peer, to).is_ok());
        accept(&application);
        leaves(&pod).unwrap();
        // As when its capture fails, and when it succeeds and ends.
        drop(redirect.prepare(&pod.namespace).unwrap());
        assert_reached(&peer, &application);
        let captured = Captured::new(&redirect, pod, MtlsMode::Permissive, &[]);
        let _client = dial_shortly(&peer, to).unwrap();
        accept(&captured.listeners.plaintext[0]);
        let Captured { pod, captured, .. } = captured;
        captured.release().unwrap();
        eventually("it is reached", || {
            let reached = dial_shortly(&peer, to).is_ok();
            reached && application.accept().is_ok()
        });
        leaves(&pod).unwrap();
        let cookie = pod.namespace.cookie();
        // Nothing changes for what somebody looks after.
        let prepared = redirect.prepare(&pod.namespace).unwrap();
        redirect.forget_known(cookie).unwrap();
        assert_reached(&peer, &application);
        prepared.release().unwrap();
        assert_dropped(&peer, &application);
        leaves(&pod).unwrap_err();
    });
}

#[test]
fn a_listener_from_before_is_refused_once_its_pod_is_found() {
    isolated(|lab: &Lab| {
        let (pod, peer) = (lab.pod(10), lab.pod(20));
        let [application, _] = applications(lab, &pod, 8080);
        let redirect = refusing(lab);
        redirect.mark_outside(&peer.namespace).unwrap();
        assert_reached(&peer, &application);
        redirect.refuse_unknown(&pod.namespace).unwrap();
        let to = application.local_addr().unwrap();
        let refused = dial_shortly(&peer, to).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn without_memory_for_its_mark_a_listener_is_refused_once_its_pod_is_found() {
    isolated(|lab: &Lab| {
        let redirect = refusing(lab);
        let (pod, peer) = (lab.pod(10), known_peer(lab, &redirect));
        leave_no_memory(&pod);
        let [application, _] = applications(lab, &pod, 8080);
        assert_reached(&peer, &application);
        assert_eq!(count(&redirect, "listener_unmarked"), 2);
        redirect.refuse_unknown(&pod.namespace).unwrap();
        let to = application.local_addr().unwrap();
        let refused = dial_shortly(&peer, to).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

/// A folder in a BPF file system that only this test's process sees.
fn pin_directory() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let pins = folder.path().join("pins");
    (folder, pins)
}

fn pinned(lab: &Lab, pins: &Path) -> RedirectOptions {
    RedirectOptions {
        pin_directory: Some(pins.to_owned()),
        ..options(lab)
    }
}

/// An agent that knew of one pod, and was killed.
fn dead_agent(lab: &Lab, outside: &Pod, pins: &Path) {
    // The helper must find the BPF file system mounted: it has our mounts.
    drop(Redirect::load(&pinned(lab, pins)).unwrap());
    let namespace = format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        outside.namespace.as_fd().as_raw_fd()
    );
    let (cgroup, pins) = (lab.cgroup.display(), pins.display());
    let what = format!("die-refusing {cgroup} {pins} {namespace}");
    let output = lab.helper("agent", &what);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("known"), "{output:?}");
}

#[test]
fn a_pod_that_begins_while_no_agent_runs_is_refused_both_ways() {
    isolated(|lab: &Lab| {
        let (_folder, pins) = pin_directory();
        let peer = lab.pod(20);
        dead_agent(lab, &peer, &pins);
        let server = TcpListener::bind("10.9.0.1:7000").unwrap();
        let to = server.local_addr().unwrap();
        let pod = lab.pod(10);
        for application in &applications(lab, &pod, 8080) {
            assert_dropped(&peer, application);
        }
        let outbound = pod.run(|| dial(to)).unwrap_err();
        assert_eq!(outbound.kind(), ErrorKind::ConnectionRefused);
        // Whoever was known goes on, and so do probes and the node.
        let [known, _] = applications(lab, &peer, 8080);
        assert_known(&peer, &known, to);
        let [probed, _] = applications(lab, &pod, 8081);
        assert!(lab.probe(&probed).status.success());
        // A successor knows of it in turn.
        let redirect = Redirect::load(&pinned(lab, &pins)).unwrap();
        assert_dropped(&peer, &probed);
        redirect.mark_outside(&pod.namespace).unwrap();
        assert_reached(&peer, &probed);
        pod.run(|| dial(to)).unwrap();
        redirect.mark_outside(&peer.namespace).unwrap();
        redirect.remove_leftovers().unwrap();
        assert_reached(&peer, &probed);
    });
}

/// A pod that is known is reached by the node, and reaches it.
fn assert_known(pod: &Pod, application: &TcpListener, server: SocketAddr) {
    let _client = dial(application.local_addr().unwrap()).unwrap();
    accept(application);
    pod.run(|| dial(server)).unwrap();
}

#[test]
fn agents_that_follow_each_other_cut_nothing_and_open_nothing() {
    isolated(|lab: &Lab| {
        let (_folder, pins) = pin_directory();
        let redirect = Redirect::load(&pinned(lab, &pins)).unwrap();
        let (known, pod, peer) = (lab.pod(30), lab.pod(10), known_peer(lab, &redirect));
        redirect.leave_alone(&known.namespace).unwrap();
        let [application, _] = applications(lab, &known, 8080);
        let [unknown, _] = applications(lab, &pod, 8080);
        let mut open = assert_reached(&peer, &application);
        let to = application.local_addr().unwrap();
        let (stop, reached) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    dial_shortly(&peer, to).expect("a known pod is never refused");
                    accept(&application);
                    reached.fetch_add(1, Ordering::Relaxed);
                }
            });
            let more = |than: usize| {
                eventually("it goes on to be reached", || {
                    reached.load(Ordering::Relaxed) > than + 20
                });
                reached.load(Ordering::Relaxed)
            };
            let mut before = more(0);
            redirect.leave_enforced();
            drop(redirect);
            for _ in 0..3 {
                before = more(before);
                assert_dropped(&peer, &unknown);
                let next = Redirect::load(&pinned(lab, &pins)).unwrap();
                before = more(before);
                assert_dropped(&peer, &unknown);
                next.leave_enforced();
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_goes_on(&mut open);
        // Nobody refuses any more once that isn't wanted.
        let allowing = RedirectOptions {
            unknown_pods: UnknownPods::Allow,
            ..pinned(lab, &pins)
        };
        let _redirect = Redirect::load(&allowing).unwrap();
        eventually("it is reached", || {
            dial_shortly(&peer, unknown.local_addr().unwrap()).is_ok()
        });
    });
}

#[test]
fn without_that_choice_nobody_is_refused_inbound() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let (pod, peer) = (lab.pod(10), lab.pod(20));
        for application in &applications(lab, &pod, 8080) {
            assert_reached(&peer, application);
        }
        assert_eq!(count(&redirect, "unknown_listener"), 0);
    });
}
