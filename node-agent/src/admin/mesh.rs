//! The mesh as the page `/config` shows it.

use serde_json::{Value, json};
use weft_model::Mesh;
use weft_model::external::ExternalService;
use weft_model::service::{Endpoint, Service, ServiceKind};
use weft_model::workload::{Enrolment, Workload};

/// Every workload, by its UID.
pub(super) fn workloads(mesh: &Mesh) -> Value {
    let workloads = mesh.workloads();
    workloads
        .map(|one| (one.uid.to_string(), workload(one)))
        .collect()
}

/// Every Service, by its name.
pub(super) fn services(mesh: &Mesh) -> Value {
    let services = mesh.services();
    services
        .map(|one| (one.key.to_string(), service(one, mesh)))
        .collect()
}

/// Every external service, by its name.
pub(super) fn external_services(mesh: &Mesh) -> Value {
    let services = mesh.external_services();
    services
        .map(|one| (one.key.to_string(), external_service(one)))
        .collect()
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
        "port_modes": workload.port_modes.to_string(),
        "node_access": workload.node_access.to_string(),
        "egress_mode": workload.egress_mode.to_string(),
        "path_normalization": workload.path_normalization.to_string(),
        "network_policies": {
            "ingress": workload.network_policies.ingress.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "egress": workload.network_policies.egress.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
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
        "node_ports": service.ports.iter().filter_map(|port| port.node_port).collect::<Vec<_>>(),
        "external_addresses": service.external_addresses,
        "session_affinity_seconds": service.session_affinity.map(|longest| longest.as_secs()),
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}

fn external_service(service: &ExternalService) -> Value {
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
        "node": endpoint.node,
        "zone_hints": endpoint.hints.zones,
        "node_hints": endpoint.hints.nodes,
    })
}
