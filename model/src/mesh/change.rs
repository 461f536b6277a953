//! Changes of the mesh: what the control plane sends to a proxy.

use std::sync::Arc;

use crate::authorization_policy::AuthorizationPolicy;
use crate::external::ExternalService;
use crate::name::NamespacedName;
use crate::network_policy::NetworkPolicy;
use crate::node::Node;
use crate::revocation::RevocationList;
use crate::route::key::RouteKey;
use crate::route::rule::Route;
use crate::service::{Endpoint, EndpointKey, Service};
use crate::traffic::policy::TrafficPolicy;
use crate::workload::{Workload, WorkloadUid};

/// One step from a snapshot to the next: a resource is new or different, or removed.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A workload is new or different.
    Workload(Workload),
    /// A workload is removed.
    WorkloadRemoved(WorkloadUid),
    /// A Service is new or different.
    Service(Service),
    /// A Service is removed.
    ServiceRemoved(NamespacedName),
    /// An endpoint is new or different.
    Endpoint(Endpoint),
    /// An endpoint is removed.
    EndpointRemoved(EndpointKey),
    /// A route is new or different.
    Route(Route),
    /// A route is removed.
    RouteRemoved(RouteKey),
    /// The TrafficPolicy of a Service is new or different.
    TrafficPolicy(Box<TrafficPolicy>),
    /// The TrafficPolicy of a Service is removed.
    TrafficPolicyRemoved(NamespacedName),
    /// An external service is new or different.
    ExternalService(ExternalService),
    /// An external service is removed.
    ExternalServiceRemoved(NamespacedName),
    /// A node is new or different.
    Node(Node),
    /// The node of that name is removed.
    NodeRemoved(Arc<str>),
    /// A NetworkPolicy is new or different.
    NetworkPolicy(NetworkPolicy),
    /// A NetworkPolicy is removed.
    NetworkPolicyRemoved(NamespacedName),
    /// An AuthorizationPolicy is new or different.
    AuthorizationPolicy(AuthorizationPolicy),
    /// An AuthorizationPolicy is removed.
    AuthorizationPolicyRemoved(NamespacedName),
    /// The list of revoked certificates is new or different.
    RevocationList(RevocationList),
    /// No certificate is revoked.
    RevocationListRemoved,
}
