//! The snapshot of the mesh: how changes are applied to it, and plain look-ups.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::address::canonical_ip;
use crate::authorization_policy::{AuthorizationPolicies, AuthorizationPolicy};
use crate::detect::protocol::DeclaredProtocol;
use crate::external::ExternalService;
use crate::idle::IdleLimits;
use crate::mesh::authorization_index::AuthorizationIndex;
use crate::mesh::change::Change;
use crate::mesh::endpoint_index::EndpointIndex;
use crate::mesh::node_index::NodeIndex;
use crate::mesh::protocol_index::ProtocolIndex;
use crate::mesh::route_index::RouteIndex;
use crate::mesh::service_index::ServiceIndex;
use crate::mesh::workload_index::WorkloadIndex;
use crate::name::NamespacedName;
use crate::network_policy::{NetworkPolicies, PolicyRevision};
use crate::node::Node;
use crate::revocation::RevocationList;
use crate::route::key::RouteKey;
use crate::route::rule::Route;
use crate::route::table::{CompiledRule, RouteTable};
use crate::service::{Endpoint, EndpointKey, Service};
use crate::traffic::{ReceivingRateLimits, TrafficPolicy};
use crate::workload::{Workload, WorkloadUid};

/// Everything that the mesh consists of at one moment. It is plain data. Cloning is cheap: a clone
/// shares all indexes, and a change copies those that it is about, without their entries. So
/// writers copy, change and publish; readers never wait.
///
/// ```
/// use weft_model::mesh::{Change, Resolution, Transport};
/// use weft_model::service::{Endpoint, EndpointKey, Service, ServiceKind, ServicePort};
/// use weft_model::workload::{Enrolment, Workload, WorkloadUid};
/// use weft_model::{Mesh, NamespacedName, OriginalDestination};
///
/// let web = NamespacedName::new("shop", "web");
/// let uid = WorkloadUid::from("web-1");
/// let identity = "spiffe://cluster.local/ns/shop/sa/web".parse()?;
/// let kind = ServiceKind::ClusterIp(vec!["10.96.0.1".parse()?]);
/// let mut mesh = Mesh::default();
/// mesh.apply(Change::Service(Service {
///     ports: vec![ServicePort {
///         name: "".into(),
///         port: 80,
///         app_protocol: "http".into(),
///         node_port: None,
///     }],
///     ..Service::new(web.clone(), "web.shop.svc.cluster.local".into(), kind)
/// }));
/// mesh.apply(Change::Workload(Workload {
///     addresses: vec!["10.0.2.1".parse()?],
///     enrolment: Enrolment::Captured,
///     ..Workload::new(uid.clone(), identity, "node-2")
/// }));
/// mesh.apply(Change::Endpoint(Endpoint {
///     workload: Some(uid),
///     ports: vec![(80, 8080)],
///     ready: true,
///     ..Endpoint::new(EndpointKey { service: web, address: "10.0.2.1".parse()? })
/// }));
///
/// // A pod of the namespace shop, on node-1, connects to the Service's address: its endpoint is reached by a tunnel.
/// let destination = OriginalDestination::new("10.96.0.1:80".parse()?);
/// let Resolution::Service { candidates, .. } = mesh.resolve("node-1", "shop", destination)? else {
///     unreachable!("it is a Service's address")
/// };
/// assert_eq!(candidates[0].address, "10.0.2.1:8080".parse()?);
/// assert!(matches!(candidates[0].transport, Transport::Tunnel { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    pub(super) workloads: Arc<WorkloadIndex>,
    pub(super) services: Arc<ServiceIndex>,
    pub(super) endpoints: Arc<EndpointIndex>,
    protocols: Arc<ProtocolIndex>,
    routes: Arc<RouteIndex>,
    traffic_policies: Arc<HashMap<NamespacedName, Arc<TrafficPolicy>>>,
    /// External services by name.
    pub(super) external_services: Arc<BTreeMap<NamespacedName, Arc<ExternalService>>>,
    pub(super) nodes: Arc<NodeIndex>,
    network_policies: Arc<NetworkPolicies>,
    authorization: Arc<AuthorizationIndex>,
    revocations: Arc<RevocationList>,
}

impl Mesh {
    /// Turns the snapshot into the one after a change. Applying the same change twice is
    /// harmless.
    pub fn apply(&mut self, change: Change) {
        self.apply_all([change]);
    }

    /// Turns the snapshot into the one after several changes, which costs less than one after
    /// the other.
    pub fn apply_all(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            self.apply_uncompiled(change);
        }
        if !self.authorization.is_compiled() {
            Arc::make_mut(&mut self.authorization).compile();
        }
    }

    fn apply_uncompiled(&mut self, change: Change) {
        match change {
            Change::Workload(workload) => self.put_workload(workload),
            Change::WorkloadRemoved(uid) => {
                Arc::make_mut(&mut self.workloads).remove(&uid);
                Arc::make_mut(&mut self.authorization).remove_workload(&uid);
            }
            Change::Service(service) => {
                let key = service.key.clone();
                Arc::make_mut(&mut self.services).insert(Arc::new(service));
                self.compile_service(&key);
            }
            Change::ServiceRemoved(key) => {
                Arc::make_mut(&mut self.services).remove(&key);
                self.compile_service(&key);
            }
            Change::Endpoint(endpoint) => self.put_endpoint(Arc::new(endpoint)),
            Change::EndpointRemoved(key) => self.remove_endpoint(&key),
            Change::Route(route) => {
                Arc::make_mut(&mut self.routes).insert(Arc::new(route), &self.services)
            }
            Change::RouteRemoved(key) => {
                Arc::make_mut(&mut self.routes).remove(&key, &self.services)
            }
            Change::TrafficPolicy(policy) => {
                let key = policy.service.clone();
                Arc::make_mut(&mut self.traffic_policies).insert(key, Arc::from(policy));
            }
            Change::TrafficPolicyRemoved(key) => {
                Arc::make_mut(&mut self.traffic_policies).remove(&key);
            }
            Change::ExternalService(service) => {
                let key = service.key.clone();
                Arc::make_mut(&mut self.external_services).insert(key, Arc::new(service));
            }
            Change::ExternalServiceRemoved(key) => {
                Arc::make_mut(&mut self.external_services).remove(&key);
            }
            Change::Node(node) => Arc::make_mut(&mut self.nodes).insert(Arc::new(node)),
            Change::NodeRemoved(name) => Arc::make_mut(&mut self.nodes).remove(&name),
            Change::NetworkPolicy(policy) => {
                Arc::make_mut(&mut self.network_policies).insert(policy)
            }
            Change::NetworkPolicyRemoved(key) => {
                Arc::make_mut(&mut self.network_policies).remove(&key)
            }
            Change::AuthorizationPolicy(policy) => {
                Arc::make_mut(&mut self.authorization).insert(policy)
            }
            Change::AuthorizationPolicyRemoved(key) => {
                Arc::make_mut(&mut self.authorization).remove(&key)
            }
            Change::RevocationList(list) => self.revocations = Arc::new(list),
            Change::RevocationListRemoved => self.revocations = Arc::default(),
        }
    }

    /// Whether all who may be connected to each other here may be in another snapshot, which is
    /// known when both have the same workloads, NetworkPolicies and AuthorizationPolicies: most
    /// changes are of something else.
    pub fn admits_the_same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.workloads, &other.workloads)
            && self.network_policies.revision() == other.network_policies.revision()
            && self.authorization.revision() == other.authorization.revision()
    }

    fn put_workload(&mut self, workload: Workload) {
        let uid = workload.uid.clone();
        let workloads = Arc::make_mut(&mut self.workloads);
        workloads.insert(workload);
        if let Some(now) = workloads.get(&uid)
            && !self.authorization.has(now)
        {
            Arc::make_mut(&mut self.authorization).insert_workload(now);
        }
    }

    /// Compiles anew what follows from a Service, which is new, different or removed.
    fn compile_service(&mut self, key: &NamespacedName) {
        Arc::make_mut(&mut self.routes).compile(key, &self.services);
        let of_service = self.endpoints.of_service(key);
        let now = self.services.get(key).map(|service| &**service);
        Arc::make_mut(&mut self.protocols).update_service(of_service, now);
    }

    fn put_endpoint(&mut self, endpoint: Arc<Endpoint>) {
        let replaced = Arc::make_mut(&mut self.endpoints).insert(Arc::clone(&endpoint));
        let (old, new) = (replaced.as_deref(), Some(&*endpoint));
        Arc::make_mut(&mut self.protocols).update_endpoint(old, new, &self.services);
    }

    fn remove_endpoint(&mut self, key: &EndpointKey) {
        let removed = Arc::make_mut(&mut self.endpoints).remove(key);
        Arc::make_mut(&mut self.protocols).update_endpoint(
            removed.as_deref(),
            None,
            &self.services,
        );
    }

    /// The certificates that count no more.
    pub fn revocations(&self) -> &Arc<RevocationList> {
        &self.revocations
    }

    /// The workload of that UID.
    pub fn workload(&self, uid: &WorkloadUid) -> Option<&Arc<Workload>> {
        self.workloads.get(uid)
    }

    /// The workload that has that address.
    pub fn workload_by_address(&self, address: IpAddr) -> Option<&Arc<Workload>> {
        self.workloads.by_address(canonical_ip(address))
    }

    /// The AuthorizationPolicies of the workload of that UID. As long as the `Arc` is the same,
    /// so are its verdicts.
    pub fn authorization_policies(&self, uid: &WorkloadUid) -> Option<&Arc<AuthorizationPolicies>> {
        self.authorization.of_workload(uid)
    }

    /// The AuthorizationPolicy of that name.
    pub fn authorization_policy(&self, key: &NamespacedName) -> Option<&Arc<AuthorizationPolicy>> {
        self.authorization.get(key)
    }

    /// What tells all AuthorizationPolicies apart from those of another moment.
    pub fn authorization_revision(&self) -> &PolicyRevision {
        self.authorization.revision()
    }

    /// All workloads, in no particular order.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.iter()
    }

    /// All Services, in no particular order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter()
    }

    /// The Service of that name.
    pub fn service(&self, key: &NamespacedName) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// The endpoints of a Service, ready or not.
    pub fn endpoints(&self, service: &NamespacedName) -> &[Arc<Endpoint>] {
        self.endpoints.of_service(service)
    }

    /// Whether some Service leads there: an endpoint of it that takes connections has that address,
    /// and that port as the target of one of the Service's. Pods aren't asked about: they are known
    /// by their own addresses.
    pub fn is_endpoint(&self, address: SocketAddr) -> bool {
        let address = SocketAddr::new(canonical_ip(address.ip()), address.port());
        self.endpoints.takes_connections_at(address)
    }

    /// The protocol of a port of a workload, as the Services declare it that the workload is
    /// an endpoint of, ready or not, and whose target port that is; unknown where there are
    /// none.
    ///
    /// Of several that disagree, the one counts that lets the proxy look at less: opaque
    /// where one of them declares it, else TLS, else HTTP, and unknown only where none
    /// declares anything ([`DeclaredProtocol::merge`]).
    pub fn declared_protocol(&self, workload: &WorkloadUid, port: u16) -> DeclaredProtocol {
        self.protocols.get(workload, port)
    }

    /// The Service that a workload is an endpoint of on that target port, when there is
    /// exactly one.
    pub fn service_of_port(&self, workload: &WorkloadUid, port: u16) -> Option<&Arc<Service>> {
        let only = self.protocols.only_service(workload, port, &self.endpoints);
        self.services.get(only?)
    }

    /// The rate limits of the Services that lead to a port of a workload.
    pub fn receiving_rate_limits(
        &self,
        workload: &WorkloadUid,
        port: u16,
    ) -> ReceivingRateLimits<'_> {
        if self.traffic_policies.is_empty() {
            return ReceivingRateLimits::default();
        }
        let services = self.protocols.services(workload, port, &self.endpoints);
        let policies = services.filter_map(|service| self.traffic_policy(service));
        ReceivingRateLimits::of(policies.map(|policy| &**policy))
    }

    /// The route of that key.
    pub fn route(&self, key: &RouteKey) -> Option<&Arc<Route>> {
        self.routes.get(key)
    }

    /// The rules for what clients of a namespace send to a port of a Service; `None` where
    /// no route is attached.
    pub fn route_table(
        &self,
        service: &NamespacedName,
        port: u16,
        client_namespace: &str,
    ) -> Option<&Arc<RouteTable>> {
        let routes = self.routes.of_service(service)?;
        routes.table(client_namespace, port)
    }

    /// The compiled rules of all routes.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<CompiledRule>> {
        self.routes.compiled().flat_map(|routes| routes.rules())
    }

    /// The idle limits of connections that a workload opens to a port of a Service, or to
    /// anything else.
    pub fn outbound_idle_limits(
        &self,
        client: &Workload,
        service: Option<(&NamespacedName, u16)>,
    ) -> IdleLimits {
        let of_service = service.and_then(|(service, port)| {
            let policy = self.traffic_policy(service)?;
            Some(policy.idle_limits.at(port))
        });
        of_service.unwrap_or_default().or(client.idle_limits)
    }

    /// The idle limits of connections to a port of a workload: those of the Service that it is
    /// an endpoint of there, when there is exactly one, then its own.
    pub fn inbound_idle_limits(&self, server: &Workload, port: u16) -> IdleLimits {
        let of_service = self.service_of_port(&server.uid, port).and_then(|service| {
            let limits = &self.traffic_policy(&service.key)?.idle_limits;
            let mut endpoints = self.endpoints(&service.key).iter();
            let is_this =
                |endpoint: &&Arc<Endpoint>| endpoint.workload.as_ref() == Some(&server.uid);
            // Ports differ rarely: only then it matters which one leads here.
            let endpoint = match limits.ports.is_empty() {
                true => None,
                false => endpoints.find(is_this),
            };
            let mut ports = endpoint.iter().flat_map(|endpoint| &endpoint.ports);
            let service_port = ports.find(|(_, target)| *target == port);
            Some(service_port.map_or(limits.all, |(service_port, _)| limits.at(*service_port)))
        });
        of_service.unwrap_or_default().or(server.idle_limits)
    }

    /// All nodes, in no particular order.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.iter()
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.get(name)
    }

    /// The TrafficPolicy of a Service, `None` where it has none.
    pub fn traffic_policy(&self, service: &NamespacedName) -> Option<&Arc<TrafficPolicy>> {
        self.traffic_policies.get(service)
    }

    /// All NetworkPolicies.
    pub fn network_policies(&self) -> &NetworkPolicies {
        &self.network_policies
    }
}

#[cfg(test)]
mod tests;
