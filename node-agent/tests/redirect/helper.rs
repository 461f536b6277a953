//! The tasks of a test's helper process.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use weft_model::mtls::MtlsMode;
use weft_model::node_access::{NodeAccess, Probe, ProbeKind};
use weft_node_agent::namespaces::NetworkNamespace;
use weft_node_agent::redirect::{
    PodAddresses, PodRedirectConfig, Redirect, RedirectOptions, UnknownPods,
};

use crate::lab::{Listeners, address, dial};

pub(crate) fn run(what: &str) {
    let words: Vec<&str> = what.split(' ').collect();
    match words[..] {
        ["dial", to] => match dial(address(to)) {
            Ok(stream) => {
                stay_until_looked_at(stream);
                std::process::exit(0);
            }
            Err(error) => {
                println!("{error}");
                std::process::exit(1);
            }
        },
        ["hold", namespace, listen, server, excluded] => hold(namespace, listen, server, excluded),
        ["die-as-agent", cgroup, pins, namespace, ip] => die_as_agent(cgroup, pins, namespace, ip),
        ["die-refusing", cgroup, pins, outside] => die_refusing(cgroup, pins, outside),
        _ => panic!("an unknown task: {what}"),
    }
}

/// Waits until the other end closes: a process that has ended has no cgroup to be known by.
fn stay_until_looked_at(mut stream: TcpStream) {
    let limit = Some(Duration::from_secs(10));
    stream.set_read_timeout(limit).expect("a stream");
    // However it ends, the other end had its time.
    let _ = stream.read(&mut [0]);
}

/// An application in a pod with connections of every kind. Says when it has them all, and, once
/// asked, whether those within the pod go on.
fn hold(namespace: &str, listen: &str, server: &str, excluded: &str) {
    let file = File::open(namespace).expect("the pod's namespace");
    let namespace = NetworkNamespace::from_file(file, Path::new(namespace)).expect("a namespace");
    let within = |at: &str| {
        let listener = TcpListener::bind(at).expect("a listener");
        let client = dial(listener.local_addr().expect("an address")).expect("within the pod");
        (client, listener.accept().expect("a connection").0, listener)
    };
    let work = || {
        let (local, same) = (within("127.0.0.1:0"), within(listen));
        let _outbound = dial(address(server)).expect("a server");
        let mut excluded = dial(address(excluded)).expect("an excluded server");
        let _inbound = same.2.accept().expect("a client");
        excluded.write_all(b"!").expect("a connection that goes on");
        excluded
            .read_exact(&mut [0])
            .expect("a connection that goes on");
        for (mut client, mut accepted, _) in [local, same] {
            client.write_all(b"!").expect("a connection that goes on");
            accepted
                .read_exact(&mut [0])
                .expect("a connection that goes on");
        }
        println!("within the pod all goes on");
    };
    namespace
        .run(work)
        .expect("the pod's namespace can be entered");
    std::process::exit(0);
}

/// Captures a pod strictly, which declares a probe for port 8080, with pins, and dies without taking anything back.
fn die_as_agent(cgroup: &str, pins: &str, namespace: &str, ip: &str) {
    let options = RedirectOptions {
        cgroup: Some(cgroup.into()),
        kubelet_cgroup: Some(Path::new(cgroup).join("kubelet")),
        pin_directory: Some(pins.into()),
        ..RedirectOptions::default()
    };
    let redirect = Redirect::load(&options).expect("the programs load");
    let open = || {
        let file = File::open(namespace).expect("the pod's namespace");
        NetworkNamespace::from_file(file, Path::new(namespace)).expect("a namespace")
    };
    let net = weft_node_agent::pod_sockets::PodSockets::new(open(), redirect.sockets());
    let listeners = Listeners::open(&net);
    let probe = Probe {
        port: 8080,
        kind: ProbeKind::Tcp,
    };
    let pod = PodRedirectConfig {
        namespace: &open(),
        addresses: PodAddresses::Assigned(&[ip.parse().expect("an address")]),
        exclusions: &Default::default(),
        listeners: listeners.pairs(),
        mtls_mode: MtlsMode::Strict,
        node_access: &NodeAccess::Probes([probe].into()),
        refused_uncaptured: None,
    };
    let _captured = redirect.capture(&pod).expect("the pod is captured");
    println!("captured");
    std::process::exit(0);
}

/// Refuses unknown pods, with pins, knows one to be outside, and dies.
fn die_refusing(cgroup: &str, pins: &str, outside: &str) {
    let options = RedirectOptions {
        cgroup: Some(cgroup.into()),
        pods_cgroup: Some(Path::new(cgroup).join("kubepods")),
        kubelet_cgroup: Some(Path::new(cgroup).join("kubelet")),
        pin_directory: Some(pins.into()),
        unknown_pods: UnknownPods::Refuse,
        ..RedirectOptions::default()
    };
    let redirect = Redirect::load(&options).expect("the programs load");
    let file = File::open(outside).expect("the pod's namespace");
    let outside = NetworkNamespace::from_file(file, Path::new(outside)).expect("a namespace");
    redirect.mark_outside(&outside).expect("the pod is known");
    println!("known");
    std::process::exit(0);
}
