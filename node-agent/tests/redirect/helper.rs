//! The tasks of a test's helper process.

use std::fs::File;
use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use weft_model::mtls::MtlsMode;
use weft_node_agent::namespaces::NetworkNamespace;
use weft_node_agent::redirect::{PodRedirectConfig, Redirect, RedirectOptions};

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
        ["die-as-agent", cgroup, pins, namespace, ip] => die_as_agent(cgroup, pins, namespace, ip),
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

/// Captures a pod strictly, with pins, and dies without taking anything back.
fn die_as_agent(cgroup: &str, pins: &str, namespace: &str, ip: &str) {
    let options = RedirectOptions {
        cgroup: Some(cgroup.into()),
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
    let pod = PodRedirectConfig {
        namespace: &open(),
        addresses: &[ip.parse().expect("an address")],
        exclusions: &Default::default(),
        listeners: listeners.pairs(),
        mtls_mode: MtlsMode::Strict,
    };
    let _captured = redirect.capture(&pod).expect("the pod is captured");
    println!("captured");
    std::process::exit(0);
}
