//! What `/config` of the admin endpoint shows: what the agent knows, and the state of
//! its pods.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use weft_model::Mesh;
use weft_model::external::ExternalService;
use weft_model::service::{Endpoint, Service, ServiceKind};
use weft_model::workload::{Enrolment, Workload};
use weft_proxy::discovery::DiscoveryStatus;

use crate::agent::capture::Capturer;

pub(crate) fn describe(capturer: &Capturer, discovery: &DiscoveryStatus) -> Value {
    let mesh = capturer.runtime.node.store.snapshot();
    let pods: serde_json::Map<_, _> = capturer
        .table
        .snapshot()
        .into_iter()
        .map(|(uid, state)| (uid.to_string(), json!(state)))
        .collect();
    let certificates = capturer.runtime.certificates.expiries().into_iter().map(|(identity, expiry)| {
        json!({ "identity": identity.to_string(), "not_after": expiry.map(unix_seconds) })
    });
    json!({
        "node": capturer.runtime.node.name,
        "control_plane": {
            "connected": discovery.connected,
            "synchronized": discovery.synchronized,
            "last_response": discovery.last_response.map(unix_seconds),
            "last_error": discovery.last_error,
            "rejected": discovery.rejected,
        },
        "pods": pods,
        "certificates": certificates.collect::<Vec<_>>(),
        "workloads": sorted(mesh.workloads().map(|one| (one.uid.to_string(), workload(one)))),
        "services": sorted(mesh.services().map(|one| (one.key.to_string(), service(one, &mesh)))),
        "external_services": sorted(mesh.external_services().map(|one| (one.key.to_string(), external(one)))),
    })
}

fn sorted(items: impl Iterator<Item = (String, Value)>) -> Value {
    // A map of serde_json is ordered by key.
    Value::Object(items.collect())
}

fn workload(workload: &Workload) -> Value {
    json!({
        "name": workload.name,
        "namespace": workload.namespace(),
        "identity": workload.identity.to_string(),
        "addresses": workload.addresses,
        "node": workload.node,
        "enrolment": match workload.enrolment {
            Enrolment::Outside => "outside",
            Enrolment::Pending => "pending",
            Enrolment::Captured => "captured",
        },
        "mtls_mode": workload.mtls_mode.to_string(),
        "egress_mode": workload.egress_mode.to_string(),
        "excluded_ports": workload.exclusions.ports,
        "excluded_blocks": workload.exclusions.blocks.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn service(service: &Service, mesh: &Mesh) -> Value {
    let kind = match &service.kind {
        ServiceKind::ClusterIp(addresses) => json!({ "cluster_ip": addresses }),
        ServiceKind::Headless => json!("headless"),
        ServiceKind::External(name) => json!({ "external": name }),
    };
    let endpoints = mesh.endpoints(&service.key).iter().map(|one| endpoint(one));
    json!({
        "hostname": service.hostname,
        "kind": kind,
        "ports": service.ports.iter().map(|port| port.port).collect::<Vec<_>>(),
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}

fn external(service: &ExternalService) -> Value {
    let hosts = service.hosts.iter().map(ToString::to_string);
    let addresses = service.addresses.iter().map(ToString::to_string);
    json!({
        "mesh_wide": service.is_mesh_wide,
        "hosts": hosts.collect::<Vec<_>>(),
        "addresses": addresses.collect::<Vec<_>>(),
        "ports": service.ports.iter().map(|port| port.number).collect::<Vec<_>>(),
        "endpoints": service.endpoints,
        "originates_tls": service.tls.is_some(),
    })
}

fn endpoint(endpoint: &Endpoint) -> Value {
    json!({
        "address": endpoint.key.address,
        "workload": endpoint.workload.as_ref().map(ToString::to_string),
        "ports": endpoint.ports,
        "ready": endpoint.ready,
    })
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
