//! Small resources, as the model has them: all in the namespace `default`.

use std::net::IpAddr;

use weft_model::route::matching::{PathMatch, RequestMatch};
use weft_model::route::{Backend, BackendTarget, Parent, Route, RouteKey, RouteKind, Rule};
use weft_model::service::{Endpoint, EndpointKey, Service, ServiceKind, ServicePort};
use weft_model::workload::{Enrolment, Workload, WorkloadUid};
use weft_model::{NamespacedName, SpiffeId};

/// The port of every service.
pub const PORT: u16 = 80;

/// A name in the namespace `default`.
pub fn named(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

/// The identity of a service account.
pub fn identity(service_account: &str) -> SpiffeId {
    SpiffeId::new("cluster.local".parse().unwrap(), "default", service_account).unwrap()
}

/// A captured, permissive pod that has a service account of its own name.
pub fn workload(name: &str, address: impl Into<IpAddr>, node: &str) -> Workload {
    Workload {
        addresses: vec![address.into()],
        enrolment: Enrolment::Captured,
        ..Workload::new(WorkloadUid::from(name), identity(name), node)
    }
}

/// A Service at a virtual address, whose port declares this `appProtocol`.
pub fn service(name: &str, address: impl Into<IpAddr>, app_protocol: &str) -> Service {
    let kind = ServiceKind::ClusterIp(vec![address.into()]);
    Service {
        ports: vec![ServicePort {
            name: "".into(),
            port: PORT,
            app_protocol: app_protocol.into(),
            node_port: None,
        }],
        ..Service::new(named(name), name.into(), kind)
    }
}

/// A ready endpoint of a Service, which may be a pod.
pub fn endpoint(
    service: &str,
    address: impl Into<IpAddr>,
    port: u16,
    workload: Option<&WorkloadUid>,
) -> Endpoint {
    let key = EndpointKey {
        service: named(service),
        address: address.into(),
    };
    Endpoint {
        workload: workload.cloned(),
        ports: vec![(PORT, port)],
        ready: true,
        ..Endpoint::new(key)
    }
}

/// A backend: a share of a rule's requests for a Service.
pub fn backend(service: &str, weight: u32) -> Backend {
    Backend {
        target: BackendTarget::Service {
            service: named(service),
            port: PORT,
        },
        weight,
        filters: Vec::new(),
    }
}

/// A rule for every request.
pub fn rule(backends: Vec<Backend>) -> Rule {
    Rule {
        matches: vec![RequestMatch::default()],
        backends,
        ..Rule::default()
    }
}

/// The same rule, for requests below this path only.
pub fn below(path: &str, rule: Rule) -> Rule {
    let matches = vec![RequestMatch {
        path: PathMatch::Prefix(path.into()),
        ..RequestMatch::default()
    }];
    Rule { matches, ..rule }
}

/// A route that is attached to a Service and has its name.
pub fn route(kind: RouteKind, service: &str, rules: Vec<Rule>) -> Route {
    Route {
        key: RouteKey {
            kind,
            name: named(service),
        },
        created: 0,
        parents: vec![Parent {
            service: named(service),
            port: None,
            section: None,
        }],
        hostnames: Vec::new(),
        rules,
    }
}
