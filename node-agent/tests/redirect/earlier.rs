//! Connections that a pod has before it is refused or captured.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use weft_model::workload::RefusedConnections;
use weft_node_agent::draining::DrainingAgents;
use weft_node_agent::earlier_connections::{self, EarlierConnections};

use crate::lab::{Lab, accept, dial, exclusions, isolated};

fn is_reset(stream: &mut TcpStream) -> bool {
    let limit = Some(Duration::from_millis(500));
    stream.set_read_timeout(limit).unwrap();
    stream
        .read(&mut [0])
        .is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

/// Which of an application's connections end: inbound, outbound. Those within the pod, and those
/// to its exclusions, never do.
fn end_earlier_connections(directions: RefusedConnections, expected: [bool; 2]) {
    isolated(move |lab: &Lab| {
        let (pod, peer) = (lab.pod(10), lab.pod(20));
        let [server, excluded] =
            ["10.9.0.1:7000", "10.9.0.1:7001"].map(|at| TcpListener::bind(at).unwrap());
        let namespace = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            pod.namespace.as_fd().as_raw_fd()
        );
        std::thread::scope(|scope| {
            let task = format!("hold {namespace} 10.9.0.10:8080 10.9.0.1:7000 10.9.0.1:7001");
            let application = scope.spawn(move || lab.helper("kubepods/pod", &task));
            let mut outbound = accept(&server);
            let mut kept = accept(&excluded);
            let mut inbound = peer
                .run(|| dial("10.9.0.10:8080".parse().unwrap()))
                .unwrap();
            // The application has taken it.
            kept.read_exact(&mut [0]).unwrap();
            let (excluded, draining) = (exclusions(&["7001"]), DrainingAgents::default());
            let result =
                earlier_connections::end(&pod.namespace, directions, &excluded, &draining).unwrap();
            let ended = expected.into_iter().filter(|is_ended| *is_ended).count();
            assert_eq!(result, EarlierConnections { ended, left: 0 });
            assert_eq!([is_reset(&mut inbound), is_reset(&mut outbound)], expected);
            kept.write_all(b"?").expect("excluded: it goes on");
            let output = application.join().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains("within the pod all goes on"), "{text}");
        });
    });
}

#[test]
fn a_strict_pod_keeps_no_connection_from_before() {
    end_earlier_connections(RefusedConnections::Both, [true, true]);
}

#[test]
fn a_pod_of_registered_destinations_only_keeps_none_that_it_has_opened() {
    end_earlier_connections(RefusedConnections::Outbound, [false, true]);
}

#[test]
fn a_permissive_pod_with_policies_keeps_none_that_it_has_accepted() {
    end_earlier_connections(RefusedConnections::Inbound, [true, false]);
}

#[test]
fn connections_of_the_agent_itself_go_on() {
    isolated(|lab: &Lab| {
        let pod = lab.pod(10);
        let server = TcpListener::bind("10.9.0.1:7000").unwrap();
        let to = server.local_addr().unwrap();
        // As the proxy's: this process has it.
        let mut own = pod.run(|| dial(to)).unwrap();
        let mut accepted = accept(&server);
        let (both, none) = (RefusedConnections::Both, exclusions(&[]));
        let result =
            earlier_connections::end(&pod.namespace, both, &none, &DrainingAgents::default())
                .unwrap();
        assert_eq!(result, EarlierConnections::default());
        own.write_all(b"!").unwrap();
        accepted.read_exact(&mut [0]).unwrap();
    });
}
