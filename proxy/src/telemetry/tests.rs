//! Pods that come and go while connections of theirs are open.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use weft_model::mesh::{Candidate, Transport};
use weft_model::network_policy::NetworkPolicy;
use weft_model::workload::Workload;
use weft_model::{Change, Mesh};
use weft_testing::fixtures;

use super::connection_record::ConnectionRecord;
use super::flag::ResponseFlag;
use super::info::ConnectionInfo;
use super::node_telemetry::{PodTelemetry, Telemetry};
use super::outcome::CloseReason;
use super::test_support::{Bed, access_lines, field, inbound, outbound, pod};
use crate::component::Component;

const OPENED: &str = "istio_tcp_connections_opened_total";
const CLOSED: &str = "istio_tcp_connections_closed_total";
const SENT: &str = "istio_tcp_sent_bytes_total";

fn open(pod: &PodTelemetry, info: Arc<ConnectionInfo>) -> ConnectionRecord {
    let mut record = ConnectionRecord::start(pod, info, Instant::now());
    record.opened(Duration::ZERO, None);
    record
}

fn error() -> io::Error {
    io::Error::other("nobody listens")
}

#[test]
fn by_one_label_alone_an_agents_telemetry_differs_from_a_sidecars() {
    let said = |component: Component| {
        let bed = Bed::with(Telemetry::new(component, 100, 100));
        let lines = access_lines(|| {
            bed.open().close(CloseReason::Finished);
            bed.start().fail(ResponseFlag::Connect, &error());
        });
        assert_eq!(lines.len(), 2);
        for line in &lines {
            assert_eq!(field(line, "component"), component.as_str());
        }
        let names = lines.iter().flatten().map(|(name, _)| *name);
        (bed.telemetry.encode().unwrap(), names.collect::<Vec<_>>())
    };
    let (of_agent, fields) = said(Component::NodeAgent);
    let (of_sidecar, same_fields) = said(Component::Sidecar);
    let build = |component: &str| {
        let version = env!("CARGO_PKG_VERSION");
        format!("istio_build{{component=\"{component}\",tag=\"{version}\"}} 1\n")
    };
    assert!(of_agent.contains(&build("node-agent")), "{of_agent}");
    assert!(of_sidecar.contains(&build("sidecar")), "{of_sidecar}");
    assert!(of_agent.contains("istio_tcp_connections_opened_total{component=\"node-agent\","));
    assert_ne!(of_agent, of_sidecar);
    let renamed = of_sidecar.replace("component=\"sidecar\"", "component=\"node-agent\"");
    assert_eq!(lines_of(&of_agent), lines_of(&renamed));
    assert_eq!(fields, same_fields);
}

#[test]
fn between_a_sidecar_and_another_pod_of_its_node_it_is_mutual_tls_that_protects() {
    let of = |name: &str, is_sidecar| {
        Arc::new(Workload {
            is_sidecar,
            ..Workload::clone(&pod(name, name))
        })
    };
    for (source, destination, expected) in [
        (false, false, "same_node"),
        (true, false, "mutual_tls"),
        (false, true, "mutual_tls"),
        (true, true, "mutual_tls"),
    ] {
        let to = of("server", destination);
        let candidate = Candidate {
            address: ([10, 244, 1, 3], 8080).into(),
            transport: Transport::SameNode {
                workload: to,
                gateway: ([10, 244, 1, 3], 15008).into(),
            },
        };
        let client = ([10, 244, 1, 2], 40_000).into();
        let from = of("client", source);
        let info = ConnectionInfo::outbound(&from, client, None, Some(&candidate), None);
        assert_eq!(info.hop.as_str(), "same-node");
        assert_eq!(info.security.as_str(), expected);
    }
}

/// The lines of metrics, in one order.
fn lines_of(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn the_series_of_a_pod_go_with_it_though_a_connection_is_still_open() {
    let bed = Bed::new();
    let (carried, mut http) = (bed.open(), bed.start());
    http.opened_for_requests(None);
    carried.progress().add_sent(1);
    assert_eq!(bed.total(SENT), 1);
    bed.pod.retire();
    let gone = || {
        let text = bed.telemetry.encode().unwrap();
        assert!(!text.contains("client"), "{text}");
    };
    gone();
    carried.progress().add_sent(1);
    gone();
    carried.close(CloseReason::UpstreamReset);
    http.fail(ResponseFlag::RequestSyntax, &error());
    bed.start().fail(ResponseFlag::Connect, &error());
    bed.open().close(CloseReason::Finished);
    gone();
}

#[test]
fn a_pod_that_goes_takes_nothing_from_another_of_the_same_deployment() {
    let bed = Bed::new();
    let sibling = bed.telemetry.for_pod(&pod("client-2", "client"));
    let info = outbound(&pod("client-2", "client"), &bed.server);
    let other = open(&sibling, info);
    other.progress().add_sent(5);
    bed.open().close(CloseReason::Finished);
    assert_eq!((bed.total(OPENED), bed.total(SENT)), (2, 5));
    bed.pod.retire();
    assert_eq!((bed.total(OPENED), bed.total(SENT)), (2, 5));
    other.progress().add_sent(5);
    other.close(CloseReason::Finished);
    assert_eq!((bed.total(CLOSED), bed.total(SENT)), (2, 10));
    drop(sibling);
    assert_eq!(bed.counted(OPENED, &[]), None);
}

#[test]
fn a_later_run_of_a_pods_proxy_keeps_its_series() {
    let bed = Bed::new();
    bed.open().close(CloseReason::Finished);
    let successor = bed.telemetry.for_pod(&bed.client);
    bed.pod.retire();
    bed.pod.retire();
    assert_eq!(bed.total(CLOSED), 1);
    let info = outbound(&bed.client, &bed.server);
    open(&successor, info).close(CloseReason::Finished);
    assert_eq!(bed.total(CLOSED), 2);
    drop(successor);
    assert_eq!(bed.counted(CLOSED, &[]), None);
}

#[test]
fn open_connections_are_listed_oldest_first_and_leave_when_they_end() {
    let bed = Bed::new();
    let server = bed.telemetry.for_pod(&bed.server);
    let first = bed.open();
    first.progress().add_received(4);
    let second = open(&server, inbound(&bed.server, &bed.client));
    let listed = serde_json::to_value(bed.telemetry.connections().list()).unwrap();
    assert_eq!(listed[0]["direction"], "outbound");
    assert_eq!(listed[0]["path"], "cross-node");
    assert_eq!(listed[0]["security"], "mutual_tls");
    assert_eq!(listed[0]["bytes_received"], 4);
    assert_eq!(listed[0]["service"], "shop/web");
    assert_eq!(
        listed[0]["destination"]["identity"],
        "spiffe://cluster.local/ns/shop/sa/server"
    );
    assert_eq!(listed[1]["direction"], "inbound");
    assert_eq!(bed.telemetry.connections().len(), 2);
    drop((first, second));
    assert!(bed.telemetry.connections().is_empty());
}

#[tokio::test]
async fn a_change_asks_about_each_connection_once_and_one_of_neither_workloads_nor_policies_about_none()
 {
    const PODS: usize = 10;
    const CONNECTIONS: usize = 70;
    let (bed, asked) = (Bed::new(), Arc::new(AtomicUsize::new(0)));
    let pods: Vec<_> = (0..PODS)
        .map(|number| {
            let workload = pod(&format!("client-{number}"), "client");
            (bed.telemetry.for_pod(&workload), workload)
        })
        .collect();
    let mut mesh = Mesh::default();
    let mut open = Vec::new();
    for (telemetry, workload) in &pods {
        mesh.apply(Change::Workload(Workload::clone(workload)));
        for _ in 0..CONNECTIONS {
            let info = outbound(workload, &bed.server);
            let mut record = ConnectionRecord::start(telemetry, info, Instant::now());
            let asked = Arc::clone(&asked);
            let still_allowed = move |_: &Mesh, _: &Arc<Workload>| {
                asked.fetch_add(1, Ordering::Relaxed);
                true
            };
            record.opened(Duration::ZERO, Some(Box::new(still_allowed)));
            open.push(record);
        }
    }
    let mut asked_after = async |change: Change| {
        mesh.apply(change);
        let now = Arc::new(mesh.clone());
        asked.store(0, Ordering::Relaxed);
        for (telemetry, workload) in &pods {
            telemetry.connections().recheck(&now, workload).await;
        }
        asked.load(Ordering::Relaxed)
    };
    let workload = || Change::Workload(fixtures::workload("another", [10, 0, 0, 9], "node-1"));
    let service = || Change::Service(fixtures::service("web", [10, 96, 0, 1], "http"));
    assert_eq!(asked_after(workload()).await, PODS * CONNECTIONS);
    assert_eq!(asked_after(service()).await, 0);
    let endpoint = fixtures::endpoint("web", [10, 0, 0, 9], 80, None);
    assert_eq!(asked_after(Change::Endpoint(endpoint)).await, 0);
    let policy = Change::NetworkPolicy(NetworkPolicy {
        key: fixtures::named("policy"),
        ingress: Vec::new(),
        egress: Vec::new(),
    });
    assert_eq!(asked_after(policy).await, PODS * CONNECTIONS);
    assert_eq!(asked_after(workload()).await, PODS * CONNECTIONS);
}
