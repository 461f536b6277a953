//! Pins: they stay when the agent dies, and are removed by whoever comes after it.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use weft_ebpf_common::map;
use weft_model::mtls::MtlsMode;
use weft_node_agent::redirect::{PinsError, Redirect, RedirectError, RedirectOptions};

use crate::lab::{Captured, Lab, Pod, accept, address, dial, eventually, isolated};

/// A folder in a BPF file system that only this test's process sees.
fn pin_directory() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let pins = folder.path().join("pins");
    (folder, pins)
}

fn options(lab: &Lab, pins: &Path) -> RedirectOptions {
    RedirectOptions {
        pin_directory: Some(pins.to_owned()),
        ..lab.options()
    }
}

/// An agent that has captured the pod strictly, and died.
fn dead_agent(lab: &Lab, pod: &Pod, pins: &Path) {
    // The helper must find the BPF file system mounted: it has our mounts.
    drop(Redirect::load(&options(lab, pins)).unwrap());
    let namespace = format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        pod.namespace.as_fd().as_raw_fd()
    );
    let (cgroup, pins) = (lab.cgroup.display(), pins.display());
    let output = lab.helper(
        "agent",
        &format!("die-as-agent {cgroup} {pins} {namespace} {}", pod.v4()),
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("captured"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn count_files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries
        .map(|entry| {
            if entry.path().is_dir() {
                count_files(&entry.path())
            } else {
                1
            }
        })
        .sum()
}

#[test]
fn a_dead_agent_leaves_a_strict_pod_refused_both_ways() {
    isolated(|lab: &Lab| {
        let (_folder, pins) = pin_directory();
        let (pod, peer) = (lab.pod(10), lab.pod(20));
        let server = TcpListener::bind("10.9.0.1:7000").unwrap();
        let application = pod.run(|| TcpListener::bind("10.9.0.10:8080")).unwrap();
        dead_agent(lab, &pod, &pins);
        let outbound = pod.run(|| dial(server.local_addr().unwrap()));
        assert_eq!(outbound.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let inbound = peer.run(|| dial(application.local_addr().unwrap()));
        assert_eq!(inbound.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let node = dial(application.local_addr().unwrap());
        assert_eq!(node.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        // Kubelet's probes still pass, or every pod of the node would be restarted.
        let undeclared = pod.run(|| TcpListener::bind("10.9.0.10:8081")).unwrap();
        for (listener, passes) in [(&application, true), (&undeclared, false)] {
            let probe = lab.probe(listener);
            assert_eq!(probe.status.success(), passes, "{probe:?}");
        }
    });
}

#[test]
fn a_successor_takes_over_what_a_dead_agent_left() {
    isolated(|lab: &Lab| {
        let (_folder, pins) = pin_directory();
        let pod = lab.pod(10);
        dead_agent(lab, &pod, &pins);
        let redirect = Redirect::load(&options(lab, &pins)).unwrap();
        // Before the pod is captured again nothing passes in the clear.
        let server = TcpListener::bind("10.9.0.1:7000").unwrap();
        let early = pod.run(|| dial(server.local_addr().unwrap()));
        assert_eq!(early.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let captured = Captured::new(&redirect, pod, MtlsMode::Strict, &[]);
        let (client, destination) = captured.dial(address("10.77.1.2:80"));
        assert_eq!(destination.unwrap(), address("10.77.1.2:80"));
        assert_eq!(client.peer_addr().unwrap(), address("10.77.1.2:80"));
        let peer = lab.pod(20);
        peer.run(|| dial(SocketAddr::new(captured.pod.v4(), 80)))
            .unwrap();
        accept(&captured.listeners.plaintext[0]);
        redirect.remove_leftovers().unwrap();
        let folders = fs::read_dir(pins.join(version())).unwrap().flatten();
        let links =
            folders.filter(|entry| entry.file_name().to_string_lossy().starts_with("links-"));
        assert_eq!(links.count(), 1, "one folder of links: this agent's");
    });
}

#[test]
fn a_pod_that_has_left_the_mesh_meanwhile_is_let_go() {
    isolated(|lab: &Lab| {
        let (_folder, pins) = pin_directory();
        let (pod, peer) = (lab.pod(10), lab.pod(20));
        let server = TcpListener::bind("10.9.0.1:7000").unwrap();
        let application = pod.run(|| TcpListener::bind("10.9.0.10:8080")).unwrap();
        dead_agent(lab, &pod, &pins);
        let redirect = Redirect::load(&options(lab, &pins)).unwrap();
        redirect.mark_outside(&pod.namespace).unwrap();
        pod.run(|| dial(server.local_addr().unwrap())).expect("out");
        // The kernel takes an unpinned program off a moment later.
        eventually("the pod is reached", || {
            peer.run(|| dial(application.local_addr().unwrap())).is_ok()
        });
        assert_eq!(redirect.table_sizes().pod_addresses, 0);
    });
}

#[test]
fn leftovers_of_pods_that_are_gone_are_collected() {
    isolated(|lab: &Lab| {
        let (_folder, pins) = pin_directory();
        let pod = lab.pod(10);
        dead_agent(lab, &pod, &pins);
        drop(pod);
        let redirect = Redirect::load(&options(lab, &pins)).unwrap();
        assert_eq!(redirect.table_sizes().pod_addresses, 1);
        redirect.remove_leftovers().unwrap();
        let sizes = redirect.table_sizes();
        assert_eq!(
            (sizes.namespaces, sizes.pod_addresses),
            (1, 0),
            "only the node's own is left"
        );
    });
}

#[test]
fn an_agent_that_leaves_on_purpose_can_leave_its_pods_enforced() {
    isolated(|lab: &Lab| {
        let (_folder, pins) = pin_directory();
        let redirect = Redirect::load(&options(lab, &pins)).unwrap();
        let Captured {
            pod,
            captured,
            listeners,
            net,
            ..
        } = Captured::new(&redirect, lab.pod(10), MtlsMode::Strict, &[]);
        captured.leave_enforced();
        redirect.leave_enforced();
        drop((redirect, listeners, net));
        let server = TcpListener::bind("10.9.0.1:7000").unwrap();
        let refused = pod.run(|| dial(server.local_addr().unwrap()));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(Redirect::uninstall(&pins).unwrap() > 0);
        eventually("nothing is left", || {
            pod.run(|| dial(server.local_addr().unwrap())).is_ok()
        });
    });
}

#[test]
fn uninstalling_removes_every_pin_and_the_mount() {
    isolated(|lab: &Lab| {
        let (folder, pins) = pin_directory();
        let pod = lab.pod(10);
        dead_agent(lab, &pod, &pins);
        let files = count_files(&pins.join(version()));
        assert_eq!(Redirect::uninstall(&pins).unwrap(), files);
        assert_eq!(Redirect::uninstall(&pins).unwrap(), 0, "again");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.contains(&folder.path().display().to_string()),
            "{mounts}"
        );
        let server = TcpListener::bind("10.9.0.1:7000").unwrap();
        eventually("nothing is left", || {
            pod.run(|| dial(server.local_addr().unwrap())).is_ok()
        });
    });
}

#[test]
fn a_clean_end_leaves_no_links() {
    isolated(|lab: &Lab| {
        let (_folder, pins) = pin_directory();
        let redirect = Redirect::load(&options(lab, &pins)).unwrap();
        let captured = Captured::new(&redirect, lab.pod(10), MtlsMode::Strict, &[]);
        drop(captured);
        drop(redirect);
        let names: Vec<_> = fs::read_dir(pins.join(version()))
            .unwrap()
            .flatten()
            .collect();
        let names: Vec<_> = names.iter().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["maps"]);
    });
}

#[test]
fn two_agents_cannot_share_a_pin_directory() {
    isolated(|lab: &Lab| {
        let (_folder, pins) = pin_directory();
        let _first = Redirect::load(&options(lab, &pins)).unwrap();
        let second = Redirect::load(&options(lab, &pins)).unwrap_err();
        assert!(
            matches!(second, RedirectError::Pins(PinsError::InUse(_))),
            "{second}"
        );
        let uninstalled = Redirect::uninstall(&pins).unwrap_err();
        assert!(
            matches!(uninstalled, RedirectError::Pins(PinsError::InUse(_))),
            "{uninstalled}"
        );
    });
}

fn version() -> String {
    format!("v{}", weft_ebpf_common::SCHEMA_VERSION)
}

#[test]
fn a_successor_tries_its_programs_beside_the_agent_that_serves_and_leaves_nothing() {
    isolated(|lab: &Lab| {
        let (_folder, pins) = pin_directory();
        let options = options(lab, &pins);
        let serving = Redirect::load(&options).unwrap();
        let pinned = count_files(&pins);
        Redirect::try_out(&options).unwrap();
        let refused = RedirectOptions {
            // No kernel has room for as many.
            map_sizes: vec![(map::HELD, u32::MAX)],
            ..options.clone()
        };
        let error = Redirect::try_out(&refused).unwrap_err();
        assert!(matches!(error, RedirectError::Object { .. }), "{error}");
        assert_eq!(count_files(&pins), pinned);
        // The other one goes on.
        let captured = Captured::new(&serving, lab.pod(10), MtlsMode::Strict, &[]);
        let (_, destination) = captured.dial(address("10.77.1.2:80"));
        assert_eq!(destination.unwrap(), address("10.77.1.2:80"));
    });
}

#[test]
fn an_agent_that_has_captured_here_is_known_until_its_pins_are_removed() {
    isolated(|lab: &Lab| {
        let (_folder, pins) = pin_directory();
        assert!(!Redirect::has_captured(&pins));
        let refused = RedirectOptions {
            map_sizes: vec![(map::HELD, u32::MAX)],
            ..options(lab, &pins)
        };
        Redirect::load(&refused).unwrap_err();
        assert!(!Redirect::has_captured(&pins), "it has attached nothing");
        dead_agent(lab, &lab.pod(10), &pins);
        assert!(Redirect::has_captured(&pins));
        Redirect::load(&refused).unwrap_err();
        assert!(
            Redirect::has_captured(&pins),
            "one that can't doesn't take it off"
        );
        Redirect::uninstall(&pins).unwrap();
        assert!(!Redirect::has_captured(&pins));
    });
}
