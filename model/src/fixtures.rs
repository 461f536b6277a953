//! Small resources for tests.

use crate::identity::SpiffeId;
use crate::name::NamespacedName;
use crate::route::key::{RouteKey, RouteKind};
use crate::route::matching::RequestMatch;
use crate::route::rule::{Parent, Route, Rule};
use crate::service::{Endpoint, EndpointKey, Service, ServiceKind, ServicePort};
use crate::workload::{Enrolment, Workload, WorkloadUid};

/// A captured, permissive pod.
pub(crate) fn workload(name: &str, address: &str, node: &str) -> Workload {
    let identity = SpiffeId::new("cluster.local".parse().unwrap(), "default", name).unwrap();
    Workload {
        addresses: vec![address.parse().unwrap()],
        enrolment: Enrolment::Captured,
        ..Workload::new(WorkloadUid::from(name), identity, node)
    }
}

/// A ClusterIP service with one port.
pub(crate) fn service(name: &str, address: &str, port: u16) -> Service {
    let hostname = format!("{name}.default.svc.cluster.local").into();
    let kind = ServiceKind::ClusterIp(vec![address.parse().unwrap()]);
    Service {
        ports: vec![ServicePort {
            name: "".into(),
            port,
            app_protocol: "".into(),
            node_port: None,
        }],
        ..Service::new(NamespacedName::new("default", name), hostname, kind)
    }
}

/// A ready endpoint.
pub(crate) fn endpoint(
    service: &str,
    address: &str,
    workload: Option<&str>,
    ports: (u16, u16),
) -> Endpoint {
    let key = EndpointKey {
        service: NamespacedName::new("default", service),
        address: address.parse().unwrap(),
    };
    Endpoint {
        workload: workload.map(WorkloadUid::from),
        ports: vec![ports],
        ready: true,
        ..Endpoint::new(key)
    }
}

/// An HTTPRoute with one rule for everything, attached to a service of this namespace.
pub(crate) fn route(name: &str, service: &str) -> Route {
    Route {
        key: RouteKey {
            kind: RouteKind::Http,
            name: NamespacedName::new("default", name),
        },
        created: 0,
        parents: vec![Parent {
            service: NamespacedName::new("default", service),
            port: None,
            section: None,
        }],
        hostnames: Vec::new(),
        rules: vec![Rule {
            name: name.into(),
            matches: vec![RequestMatch::default()],
            ..Rule::default()
        }],
    }
}
