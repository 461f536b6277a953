//! Floods of values that somebody else chooses, and what is left of them.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Method, StatusCode};
use weft_model::NamespacedName;
use weft_model::workload::{Workload, WorkloadLabels};

use crate::component::Component;
use crate::telemetry::ResponseFlag;
use crate::telemetry::connection_record::ConnectionRecord;
use crate::telemetry::info::ConnectionInfo;
use crate::telemetry::node_telemetry::{PodTelemetry, Telemetry};
use crate::telemetry::request_record::{RequestDescription, RequestRecord};
use crate::telemetry::test_support::{Bed, inbound, outbound, pod};

const REQUESTS: &str = "istio_requests_total";
const OVERFLOWED: &str = "weft_metrics_overflow_total";
/// Series of a pod for each direction, where a test fills them.
const SERIES_PER_POD: usize = 100;
/// Of all pods together, where no test fills them.
const SERIES_PER_NODE: usize = usize::MAX;

fn request(method: &str, authority: &str) -> RequestDescription {
    RequestDescription {
        method: Method::from_bytes(method.as_bytes()).unwrap(),
        path: "/".to_owned(),
        authority: authority.to_owned(),
        grpc: true,
        rule: None,
    }
}

/// Counts a request with that answer.
fn answered(of: &PodTelemetry, info: &Arc<ConnectionInfo>, status: u16, grpc_status: u16) {
    let mut record = RequestRecord::start(of, Arc::clone(info), request("GET", "web"));
    let status = StatusCode::from_u16(status).unwrap();
    record.response_started(status, &HeaderMap::new());
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", grpc_status.into());
    record.trailers(&trailers);
    record.finish();
}

/// The connection to a service of that name.
fn to_service(client: &Arc<Workload>, server: &Arc<Workload>, name: &str) -> Arc<ConnectionInfo> {
    let info = (*outbound(client, server)).clone();
    Arc::new(ConnectionInfo {
        service: Some(NamespacedName::new("shop", name)),
        service_hostname: Some(format!("{name}.shop.svc.cluster.local").into()),
        ..info
    })
}

fn series(bed: &Bed, name: &str) -> usize {
    let text = bed.telemetry.encode().unwrap();
    let name = format!("{name}{{");
    text.lines().filter(|line| line.starts_with(&name)).count()
}

#[test]
fn whatever_status_a_server_sends_its_clients_metrics_stay_small() {
    let bed = Bed::new();
    let info = outbound(&bed.client, &bed.server);
    for status in 0..20_000 {
        answered(&bed.pod, &info, 200, status);
    }
    assert_eq!(series(&bed, REQUESTS), 18);
    let unknown = bed.counted(REQUESTS, &["grpc_response_status=\"unknown\""]);
    assert_eq!(unknown, Some(20_000 - 17));
    for status in 100..1000 {
        answered(&bed.pod, &info, status, 0);
    }
    assert!(series(&bed, REQUESTS) < 100);
    assert_eq!(bed.total(REQUESTS), 20_900);
    assert!(bed.telemetry.encode().unwrap().len() < 8 << 20);
    assert_eq!(bed.total(OVERFLOWED), 0);
}

#[test]
fn whatever_a_client_asks_for_is_one_series() {
    let bed = Bed::new();
    let info = outbound(&bed.client, &bed.server);
    for number in 0..20_000 {
        let asked = request(&format!("METHOD{number}"), &format!("host-{number}"));
        RequestRecord::start(&bed.pod, Arc::clone(&info), asked).finish();
    }
    assert_eq!(series(&bed, REQUESTS), 1);
}

#[test]
fn a_pod_with_too_many_destinations_counts_the_rest_together_and_takes_no_others_series() {
    let bed = Bed::with(Telemetry::new(
        Component::NodeAgent,
        SERIES_PER_POD,
        SERIES_PER_NODE,
    ));
    let victim = pod("victim-1", "victim");
    let of_victim = bed.telemetry.for_pod(&victim);
    let to_web = outbound(&victim, &bed.server);
    answered(&of_victim, &to_web, 200, 0);
    let services = SERIES_PER_POD + 1000;
    for number in 0..services {
        let info = to_service(&bed.client, &bed.server, &format!("service-{number}"));
        answered(&bed.pod, &info, 200, 0);
        let failed = ConnectionRecord::start(&bed.pod, info, Instant::now());
        failed.fail(
            ResponseFlag::Connect,
            &std::io::Error::other("nobody listens"),
        );
    }
    let mine = ["source_workload=\"client\""];
    assert_eq!(bed.counted(REQUESTS, &mine), Some(services as u64));
    let overflow = [
        "source_workload=\"client\"",
        "destination_service=\"overflow\"",
    ];
    assert!(bed.counted(REQUESTS, &overflow).unwrap() > 1000);
    let own = bed.counted(OVERFLOWED, &["pod=\"client-1\""]).unwrap();
    assert_eq!(own as usize, 2 * services - SERIES_PER_POD);
    let both = series(&bed, REQUESTS) + series(&bed, "istio_tcp_connections_failed_total");
    assert!(both <= SERIES_PER_POD + 3, "{both}");
    // The victim's are there, and it may have more.
    answered(&of_victim, &to_web, 503, 0);
    let theirs = [
        "source_workload=\"victim\"",
        "destination_service=\"web.shop",
    ];
    assert_eq!(bed.counted(REQUESTS, &theirs), Some(2));
    assert_eq!(bed.counted(OVERFLOWED, &["pod=\"victim-1\""]), Some(0));
    bed.pod.retire();
    assert_eq!(
        bed.counted(REQUESTS, &mine),
        None,
        "the overflow goes with the pod"
    );
}

#[test]
fn pods_that_fill_the_nodes_series_bound_its_text_and_leave_room_for_others() {
    const NODE: usize = 64;
    let bed = Bed::with(Telemetry::new(Component::NodeAgent, SERIES_PER_POD, NODE));
    // Each has an account of its own that is larger.
    let pods = ["greedy-1", "greedy-2", "late-1"].map(|name| pod(name, name));
    let runs = pods.each_ref().map(|pod| bed.telemetry.for_pod(pod));
    for (pod, of_pod) in pods.iter().zip(&runs) {
        for number in 0..1000 {
            let info = to_service(pod, &bed.server, &format!("service-{number}"));
            answered(of_pod, &info, 200, 0);
        }
    }
    let of = |name: &str| {
        let text = bed.telemetry.encode().unwrap();
        let (requests, own) = (
            format!("{REQUESTS}{{"),
            format!("source_workload=\"{name}\""),
        );
        text.lines()
            .filter(|line| line.starts_with(&requests) && line.contains(&own))
            .count()
    };
    // And one of the overflow.
    assert_eq!(["greedy-1", "greedy-2", "late-1"].map(of), [33, 17, 9]);
    assert_eq!(
        bed.counted(REQUESTS, &["source_workload=\"late-1\""]),
        Some(1000)
    );
    assert_eq!(bed.counted(OVERFLOWED, &["pod=\"late-1\""]), Some(992));
    for run in runs {
        run.retire();
    }
    assert_eq!(series(&bed, REQUESTS), 0);
    let info = to_service(&bed.client, &bed.server, "after");
    answered(&bed.pod, &info, 200, 0);
    let after = ["destination_service=\"after.shop"];
    assert_eq!(bed.counted(REQUESTS, &after), Some(1));
}

#[test]
fn clients_that_change_their_labels_leave_room_for_those_of_other_namespaces() {
    let bed = Bed::with(Telemetry::new(
        Component::NodeAgent,
        SERIES_PER_POD,
        SERIES_PER_NODE,
    ));
    let server = bed.telemetry.for_pod(&bed.server);
    for number in 0..5000 {
        let flood = Workload {
            labels: WorkloadLabels {
                workload: "flood".into(),
                app: "flood".into(),
                version: format!("v{number}").into(),
            },
            ..(*foreign("flood")).clone()
        };
        answered(&server, &inbound(&bed.server, &Arc::new(flood)), 200, 0);
    }
    assert_eq!(series(&bed, REQUESTS), SERIES_PER_POD / 4 + 1);
    for client in [bed.client.clone(), foreign("other")] {
        answered(&server, &inbound(&bed.server, &client), 200, 0);
        let name = format!("source_workload=\"{}\"", client.labels.workload);
        assert_eq!(bed.counted(REQUESTS, &[&name]), Some(1));
    }
}

/// A pod of a namespace of its own.
fn foreign(namespace: &str) -> Arc<Workload> {
    let identity = format!("spiffe://cluster.local/ns/{namespace}/sa/client");
    let client = (*pod(&format!("{namespace}-1"), namespace)).clone();
    Arc::new(Workload {
        identity: identity.parse().unwrap(),
        ..client
    })
}
