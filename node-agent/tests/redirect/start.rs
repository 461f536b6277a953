//! Starting: what is checked, and what is said when it isn't right.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use weft_model::authorization::PlaintextOrigin;
use weft_model::mtls::MtlsMode;
use weft_model::node_access::NodeAccess;
use weft_model::workload::CaptureExclusions;
use weft_node_agent::namespaces::NetworkNamespace;
use weft_node_agent::redirect::{
    CgroupError, PodAddresses, PodRedirectConfig, Redirect, RedirectError, RedirectOptions,
};

use crate::lab::{Captured, Lab, accept, address, block_on, dial, hierarchy, isolated};

#[test]
fn every_program_works_on_this_kernel() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        assert!(
            redirect.capabilities().is_complete(),
            "{}",
            redirect.capabilities()
        );
    });
}

#[test]
fn an_agent_outside_of_the_cgroup_is_told_so() {
    isolated(|lab: &Lab| {
        let options = RedirectOptions {
            cgroup: Some(lab.cgroup.join("kubepods")),
            ..lab.options()
        };
        let error = Redirect::load(&options).unwrap_err();
        assert!(
            matches!(error, RedirectError::Cgroup(CgroupError::NotBelow { .. })),
            "{error}"
        );
    });
}

#[test]
fn a_directory_that_is_no_cgroup_is_refused() {
    isolated(|lab: &Lab| {
        for (path, expected) in [
            ("/tmp", "not a directory of a cgroup"),
            ("/nowhere", "cannot open"),
        ] {
            let cgroup = Some(PathBuf::from(path));
            let error = Redirect::load(&RedirectOptions {
                cgroup,
                ..lab.options()
            })
            .unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    });
}

#[test]
fn the_hierarchy_is_found_where_its_mount_is_hidden() {
    isolated(|lab: &Lab| {
        let root = hierarchy();
        let relative = lab.cgroup.strip_prefix(&root).unwrap().to_owned();
        umount2(&root, MntFlags::MNT_DETACH).unwrap();
        assert!(!lab.cgroup.exists());
        let options = RedirectOptions {
            pods_cgroup: Some(relative.join("kubepods")),
            cgroup: Some(relative),
            ..RedirectOptions::default()
        };
        let redirect = Redirect::load(&options).unwrap();
        let captured = Captured::new(&redirect, lab.pod(10), MtlsMode::Strict, &[]);
        let (_, destination) = captured.dial(address("10.77.1.2:80"));
        assert_eq!(destination.unwrap(), address("10.77.1.2:80"));
    });
}

#[test]
fn a_pin_directory_where_nothing_can_be_mounted_is_refused_with_advice() {
    isolated(|lab: &Lab| {
        let pin_directory = Some(Path::new("/proc/weft-pins").to_owned());
        let error = Redirect::load(&RedirectOptions {
            pin_directory,
            ..lab.options()
        })
        .unwrap_err();
        assert!(error.to_string().contains("mount -t bpf bpf"), "{error}");
    });
}

#[test]
fn verdicts_are_counted() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MtlsMode::Strict, &[]);
        let count = |finding: &str| {
            let counters = redirect.counters();
            let counter = counters.iter().find(|counter| counter.finding == finding);
            counter.map_or(0, |counter| counter.count)
        };
        for port in 1..=3 {
            let _ = captured.dial(address(&format!("10.77.1.2:{port}")));
        }
        assert_eq!(count("outbound"), 3);
        assert_eq!(count("destination_kept"), 3);
        assert_eq!(count("destination_lost"), 0);
    });
}

#[test]
fn a_line_for_every_connection_can_be_had() {
    static LINES: Lines = Lines(Mutex::new(Vec::new()));
    isolated(|lab: &Lab| {
        log::set_logger(&LINES).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        let options = RedirectOptions {
            log: true,
            ..lab.options()
        };
        let redirect = Redirect::load(&options).unwrap();
        let captured = Captured::new(&redirect, lab.pod(10), MtlsMode::Strict, &[]);
        let _ = captured.dial(address("10.77.1.2:80"));
        let read = redirect.read_log().unwrap();
        let wait = async {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let lines = LINES.0.lock().unwrap();
                if lines.iter().any(|line| line.contains("10.77.1.2:80")) {
                    break;
                }
            }
        };
        block_on(async {
            tokio::select! {
                result = read => panic!("reading ended: {result:?}"),
                () = wait => {}
                () = tokio::time::sleep(Duration::from_secs(5)) => {
                    panic!("no line but {:?}", LINES.0.lock().unwrap())
                }
            }
        });
    });
}

#[test]
fn the_nodes_own_namespace_is_never_captured() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let host = NetworkNamespace::current().unwrap();
        let captured = Captured::new(&redirect, lab.pod(10), MtlsMode::Strict, &[]);
        let pod = PodRedirectConfig {
            namespace: &host,
            addresses: PodAddresses::Assigned(&[]),
            exclusions: &CaptureExclusions::default(),
            listeners: captured.listeners.pairs(),
            mtls_mode: MtlsMode::Strict,
            node_access: &NodeAccess::All,
            refused_uncaptured: None,
        };
        let error = redirect.capture(&pod).unwrap_err();
        assert!(matches!(error, RedirectError::HostNamespace), "{error}");
        // What is said about a pod with hostNetwork must not be taken for the node itself.
        redirect.mark_outside(&host).unwrap();
        redirect.unmark_outside(&host).unwrap();
        let _client = dial(SocketAddr::new(captured.pod.v4(), 8080)).unwrap();
        let accepted = accept(&captured.listeners.plaintext[0]);
        let origin = captured.sockets.origin(accepted.as_fd());
        assert_eq!(origin, PlaintextOrigin::Node);
    });
}

#[test]
fn a_namespace_is_captured_once() {
    isolated(|lab: &Lab| {
        let redirect = lab.redirect();
        let captured = Captured::new(&redirect, lab.pod(10), MtlsMode::Strict, &[]);
        let Captured {
            pod,
            net: _net,
            listeners,
            captured: first,
            sockets: _,
        } = captured;
        let (addresses, exclusions) = (pod.addresses(), CaptureExclusions::default());
        let again = PodRedirectConfig {
            namespace: &pod.reopened(),
            addresses: PodAddresses::Assigned(&addresses),
            exclusions: &exclusions,
            listeners: listeners.pairs(),
            mtls_mode: MtlsMode::Strict,
            node_access: &NodeAccess::All,
            refused_uncaptured: None,
        };
        let error = redirect.capture(&again).unwrap_err();
        assert!(matches!(error, RedirectError::AlreadyCaptured), "{error}");
        redirect
            .mark_outside(&pod.namespace)
            .expect_err("it is captured");
        redirect.unmark_outside(&pod.namespace).unwrap();
        let _client = pod
            .run(|| dial(address("10.77.1.2:80")))
            .expect("the first is unharmed");
        accept(&listeners.outbound[0]);
        first.release().unwrap();
        redirect
            .capture(&again)
            .expect("once released it can be captured again");
    });
}

struct Lines(Mutex<Vec<String>>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}", record.target(), record.args());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}
