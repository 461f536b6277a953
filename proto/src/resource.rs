//! Resources of any kind: what a discovery response carries.

use weft_model::mesh::Change;
use weft_model::name::InvalidNamespacedName;
use weft_model::revocation::RevocationList;
use weft_model::route::InvalidRouteKey;
use weft_model::workload::WorkloadUid;

use crate::authorization::InvalidAuthorizationPolicy;
use crate::endpoint::InvalidEndpoint;
use crate::external_service::InvalidExternalService;
use crate::network_policy::InvalidNetworkPolicy;
use crate::node::InvalidNode;
use crate::revocation::revocation_list;
use crate::route::error::InvalidRoute;
use crate::service::InvalidService;
use crate::traffic_policy::InvalidTrafficPolicy;
use crate::v1::{self, ResourceKind};
use crate::workload::InvalidWorkload;

/// The reason why a resource can't be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidResource {
    /// It carries nothing that this version knows.
    #[error("the resource is of a kind that this version doesn't know")]
    UnknownKind,
    /// Its name says something else than its content.
    #[error("the resource is named `{name}` but holds `{content}`")]
    Name {
        /// The name it came under.
        name: String,
        /// The name that its content has.
        content: String,
    },
    /// A name that doesn't parse.
    #[error(transparent)]
    Key(#[from] InvalidNamespacedName),
    /// A route's name that doesn't parse.
    #[error(transparent)]
    RouteKey(#[from] InvalidRouteKey),
    /// Its content, a workload.
    #[error("workload: {0}")]
    Workload(#[from] InvalidWorkload),
    /// Its content, a service.
    #[error("service: {0}")]
    Service(#[from] InvalidService),
    /// Its content, an endpoint.
    #[error("endpoint: {0}")]
    Endpoint(#[from] InvalidEndpoint),
    /// Its content, a route.
    #[error("route: {0}")]
    Route(#[from] InvalidRoute),
    /// Its content, an external service.
    #[error("external service: {0}")]
    External(#[from] InvalidExternalService),
    /// Its content, a NetworkPolicy.
    #[error("network policy: {0}")]
    NetworkPolicy(#[from] InvalidNetworkPolicy),
    /// Its content, an AuthorizationPolicy.
    #[error("authorization policy: {0}")]
    AuthorizationPolicy(#[from] InvalidAuthorizationPolicy),
    /// Its content, the TrafficPolicy of a service.
    #[error("traffic policy: {0}")]
    TrafficPolicy(#[from] InvalidTrafficPolicy),
    /// Its content, a node.
    #[error("node: {0}")]
    Node(#[from] InvalidNode),
}

/// Kind and name of the resource that a change is about.
pub fn kind_and_name(change: &Change) -> (ResourceKind, String) {
    match change {
        Change::Workload(workload) => (ResourceKind::Workload, workload.uid.to_string()),
        Change::WorkloadRemoved(uid) => (ResourceKind::Workload, uid.to_string()),
        Change::Service(service) => (ResourceKind::Service, service.key.to_string()),
        Change::ServiceRemoved(key) => (ResourceKind::Service, key.to_string()),
        Change::Endpoint(endpoint) => (ResourceKind::Endpoint, endpoint.key.to_string()),
        Change::EndpointRemoved(key) => (ResourceKind::Endpoint, key.to_string()),
        Change::Route(route) => (ResourceKind::Route, route.key.to_string()),
        Change::RouteRemoved(key) => (ResourceKind::Route, key.to_string()),
        Change::ExternalService(service) => {
            (ResourceKind::ExternalService, service.key.to_string())
        }
        Change::ExternalServiceRemoved(key) => (ResourceKind::ExternalService, key.to_string()),
        Change::NetworkPolicy(policy) => (ResourceKind::NetworkPolicy, policy.key.to_string()),
        Change::NetworkPolicyRemoved(key) => (ResourceKind::NetworkPolicy, key.to_string()),
        Change::AuthorizationPolicy(policy) => {
            (ResourceKind::AuthorizationPolicy, policy.key.to_string())
        }
        Change::AuthorizationPolicyRemoved(key) => {
            (ResourceKind::AuthorizationPolicy, key.to_string())
        }
        Change::TrafficPolicy(policy) => {
            let name = policy.service.to_string();
            (ResourceKind::TrafficPolicy, name)
        }
        Change::TrafficPolicyRemoved(key) => (ResourceKind::TrafficPolicy, key.to_string()),
        Change::RevocationList(_) | Change::RevocationListRemoved => (
            ResourceKind::RevocationList,
            RevocationList::NAME.to_owned(),
        ),
        Change::Node(node) => (ResourceKind::Node, node.name.to_string()),
        Change::NodeRemoved(name) => (ResourceKind::Node, name.to_string()),
    }
}

impl TryFrom<v1::Resource> for Change {
    type Error = InvalidResource;

    fn try_from(message: v1::Resource) -> Result<Self, Self::Error> {
        let change = match message.resource.ok_or(InvalidResource::UnknownKind)? {
            v1::resource::Resource::Workload(workload) => Change::Workload(workload.try_into()?),
            v1::resource::Resource::Service(service) => Change::Service(service.try_into()?),
            v1::resource::Resource::Endpoint(endpoint) => Change::Endpoint(endpoint.try_into()?),
            v1::resource::Resource::Route(route) => Change::Route(route.try_into()?),
            v1::resource::Resource::ExternalService(service) => {
                Change::ExternalService(service.try_into()?)
            }
            v1::resource::Resource::NetworkPolicy(policy) => {
                Change::NetworkPolicy(policy.try_into()?)
            }
            v1::resource::Resource::AuthorizationPolicy(policy) => {
                Change::AuthorizationPolicy(policy.try_into()?)
            }
            v1::resource::Resource::TrafficPolicy(policy) => {
                Change::TrafficPolicy(Box::new(policy.try_into()?))
            }
            v1::resource::Resource::Node(node) => Change::Node(node.try_into()?),
            v1::resource::Resource::RevocationList(list) => {
                Change::RevocationList(revocation_list(list))
            }
        };
        let (_, content) = kind_and_name(&change);
        if content != message.name {
            return Err(InvalidResource::Name {
                name: message.name,
                content,
            });
        }
        Ok(change)
    }
}

/// The change that removes a named resource.
///
/// # Errors
/// When the kind is unknown or the name is not one of that kind.
pub fn removal(kind: ResourceKind, name: &str) -> Result<Change, InvalidResource> {
    match kind {
        ResourceKind::Workload => Ok(Change::WorkloadRemoved(WorkloadUid::from(name))),
        ResourceKind::Service => Ok(Change::ServiceRemoved(name.parse()?)),
        ResourceKind::Endpoint => Ok(Change::EndpointRemoved(name.parse()?)),
        ResourceKind::Route => Ok(Change::RouteRemoved(name.parse()?)),
        ResourceKind::ExternalService => Ok(Change::ExternalServiceRemoved(name.parse()?)),
        ResourceKind::NetworkPolicy => Ok(Change::NetworkPolicyRemoved(name.parse()?)),
        ResourceKind::AuthorizationPolicy => Ok(Change::AuthorizationPolicyRemoved(name.parse()?)),
        ResourceKind::TrafficPolicy => Ok(Change::TrafficPolicyRemoved(name.parse()?)),
        ResourceKind::Node => Ok(Change::NodeRemoved(name.into())),
        ResourceKind::RevocationList => Ok(Change::RevocationListRemoved),
        ResourceKind::Unspecified => Err(InvalidResource::UnknownKind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    fn headless(name: &str) -> v1::Resource {
        v1::Resource {
            name: name.into(),
            version: "1".into(),
            resource: Some(v1::resource::Resource::Service(v1::Service {
                namespace: "shop".into(),
                name: "web".into(),
                kind: Some(v1::service::Kind::Headless(v1::Headless {})),
                ..Default::default()
            })),
        }
    }

    #[test]
    fn a_resource_under_a_foreign_name_is_refused() {
        assert!(Change::try_from(headless("shop/web")).is_ok());
        let error = Change::try_from(headless("shop/other")).unwrap_err();
        assert!(error.to_string().contains("shop/other"), "{error}");
    }

    #[test]
    fn removal_names_what_it_removes() {
        for (kind, name) in [
            (ResourceKind::Workload, "uid-1"),
            (ResourceKind::Service, "shop/web"),
            (ResourceKind::Endpoint, "shop/web/10.0.0.1"),
            (ResourceKind::Route, "HTTPRoute/shop/web"),
            (ResourceKind::ExternalService, "shop/web"),
            (ResourceKind::NetworkPolicy, "shop/web"),
            (ResourceKind::TrafficPolicy, "shop/web"),
        ] {
            let change = removal(kind, name).unwrap();
            assert_eq!(kind_and_name(&change), (kind, name.to_owned()));
        }
        assert!(removal(ResourceKind::Service, "no-namespace").is_err());
        assert!(removal(ResourceKind::Unspecified, "x").is_err());
    }

    proptest! {
        /// Whatever arrives is converted or refused, never a panic.
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(resource) = v1::Resource::decode(bytes.as_slice()) {
                let _ = Change::try_from(resource);
            }
        }
    }
}
