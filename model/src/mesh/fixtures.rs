//! Small resources for tests.

use super::*;
use crate::identity::SpiffeId;
use crate::service::{ServiceKind, ServicePort};
use crate::workload::{CaptureExclusions, WorkloadLabels};

/// A captured, permissive pod.
pub(crate) fn workload(name: &str, address: &str, node: &str) -> Workload {
    Workload {
        uid: WorkloadUid::from(name),
        name: name.into(),
        identity: SpiffeId::new("cluster.local".parse().unwrap(), "default", name).unwrap(),
        addresses: vec![address.parse().unwrap()],
        node: node.into(),
        enrolment: Enrolment::Captured,
        mtls_mode: MtlsMode::Permissive,
        egress_mode: Default::default(),
        exclusions: CaptureExclusions::default(),
        locality: Default::default(),
        network_namespace: "".into(),
        labels: WorkloadLabels::default(),
    }
}

/// A ClusterIP service with one port.
pub(crate) fn service(name: &str, address: &str, port: u16) -> Service {
    Service {
        key: NamespacedName::new("default", name),
        hostname: format!("{name}.default.svc.cluster.local").into(),
        kind: ServiceKind::ClusterIp(vec![address.parse().unwrap()]),
        ports: vec![ServicePort {
            name: "".into(),
            port,
            app_protocol: "".into(),
        }],
    }
}

/// A ready endpoint.
pub(crate) fn endpoint(
    service: &str,
    address: &str,
    workload: Option<&str>,
    ports: (u16, u16),
) -> Endpoint {
    Endpoint {
        key: EndpointKey {
            service: NamespacedName::new("default", service),
            address: address.parse().unwrap(),
        },
        workload: workload.map(WorkloadUid::from),
        ports: vec![ports],
        ready: true,
    }
}

/// An HTTPRoute with one rule for everything, attached to a service of this namespace.
pub(crate) fn route(name: &str, service: &str) -> Route {
    Route {
        key: RouteKey {
            kind: crate::route::RouteKind::Http,
            name: NamespacedName::new("default", name),
        },
        created: 0,
        parents: vec![crate::route::Parent {
            service: NamespacedName::new("default", service),
            port: None,
            section: None,
        }],
        hostnames: Vec::new(),
        rules: vec![crate::route::Rule {
            name: name.into(),
            matches: vec![crate::route::RequestMatch::default()],
            filters: Vec::new(),
            backends: Vec::new(),
            timeouts: Default::default(),
            retry: None,
            session: None,
        }],
    }
}
