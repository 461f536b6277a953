//! Resources as discovery carries them.

use weft_model::Change;
use weft_proto::kind_and_name;
use weft_proto::v1::resource::Resource as Content;
use weft_proto::v1::service::Kind;
use weft_proto::v1::{
    DiscoveryResponse, Headless, Resource, ResourceKind, ResourceVersion, Service, ServicePort,
};

/// Every kind of resource, as it is on the wire: what an agent subscribes to.
pub fn all_kinds() -> Vec<i32> {
    let is_kind = |kind: &i32| ResourceKind::try_from(*kind).is_ok();
    (1..100).filter(is_kind).collect()
}

/// The resource that a change adds.
///
/// # Panics
/// When the change removes one.
pub fn resource(change: &Change, version: &str) -> Resource {
    let content = match change {
        Change::Workload(workload) => Content::Workload(workload.into()),
        Change::Service(service) => Content::Service(service.into()),
        Change::Endpoint(endpoint) => Content::Endpoint(endpoint.into()),
        Change::Route(route) => Content::Route(route.into()),
        Change::ExternalService(service) => Content::ExternalService(service.into()),
        Change::TrafficPolicy(policy) => Content::TrafficPolicy((&**policy).into()),
        Change::Node(node) => Content::Node(node.into()),
        removal => panic!("{removal:?} adds nothing"),
    };
    Resource {
        name: kind_and_name(change).1,
        version: version.to_owned(),
        resource: Some(content),
    }
}

/// A headless Service in the namespace `shop`. A port of 0 or above 65535 makes it one that
/// nobody can use.
pub fn headless_service(name: &str, version: &str, port: u32) -> Resource {
    Resource {
        name: format!("shop/{name}"),
        version: version.to_owned(),
        resource: Some(Content::Service(Service {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            kind: Some(Kind::Headless(Headless {})),
            ports: vec![ServicePort {
                port,
                ..ServicePort::default()
            }],
            ..Service::default()
        })),
    }
}

/// A response that adds these resources.
pub fn changed(sequence: u64, changed: Vec<Resource>) -> DiscoveryResponse {
    DiscoveryResponse {
        sequence,
        changed,
        ..DiscoveryResponse::default()
    }
}

/// A response that removes a Service of the namespace `shop`.
pub fn service_removed(sequence: u64, name: &str) -> DiscoveryResponse {
    let removed = ResourceVersion {
        kind: ResourceKind::Service.into(),
        name: format!("shop/{name}"),
        version: String::new(),
    };
    DiscoveryResponse {
        sequence,
        removed: vec![removed],
        ..DiscoveryResponse::default()
    }
}
