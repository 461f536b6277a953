//! Services and their endpoints.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::name::{InvalidNamespacedName, NamespacedName};
use crate::workload::WorkloadUid;

/// Kind of a Service: how its clients reach it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ServiceKind {
    /// By these virtual addresses; the mesh chooses the endpoint.
    ClusterIp(Vec<IpAddr>),
    /// By the addresses of its pods, which DNS answers with; the client chooses.
    Headless,
    /// A DNS name outside the cluster (`spec.externalName`).
    External(Arc<str>),
}

/// One port of a Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServicePort {
    /// Name of the port; empty where the Service has just one and leaves it out.
    pub name: Arc<str>,
    /// Port number that clients use.
    pub port: u16,
    /// `appProtocol`; empty where it is not declared.
    pub app_protocol: Arc<str>,
    /// Port of every node that leads to it (`nodePort`).
    pub node_port: Option<u16>,
}

/// A Kubernetes Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// Namespace and name of the Service object.
    pub key: NamespacedName,
    /// DNS name, such as `web.shop.svc.cluster.local`.
    pub hostname: Arc<str>,
    /// Kind: how clients reach it.
    pub kind: ServiceKind,
    /// TCP ports.
    pub ports: Vec<ServicePort>,
    /// Each client gets endpoints of its own node only (`internalTrafficPolicy: Local`).
    pub is_node_local: bool,
    /// Longest time since its last use for which a client stays with its endpoint
    /// (`sessionAffinity: ClientIP`); `None` where it doesn't.
    pub session_affinity: Option<Duration>,
    /// Endpoints that each client gets where there are any (`trafficDistribution`); all when
    /// `None`.
    pub traffic_distribution: Option<TrafficDistribution>,
    /// Addresses beside its virtual ones at which its ports are: of load balancers, and
    /// `externalIPs`.
    pub external_addresses: Vec<IpAddr>,
    /// Seconds from 1970 until it was created; 0 when it doesn't say. Of several with one
    /// external address and port, the oldest has it.
    pub created: i64,
}

/// The endpoints that a client should get.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TrafficDistribution {
    /// Those of its zone.
    PreferSameZone,
    /// Those of its node, then of its zone.
    PreferSameNode,
}

impl Service {
    /// A Service without ports that asks for nothing special.
    pub fn new(key: NamespacedName, hostname: Arc<str>, kind: ServiceKind) -> Self {
        Self {
            key,
            hostname,
            kind,
            ports: Vec::new(),
            is_node_local: false,
            session_affinity: None,
            traffic_distribution: None,
            external_addresses: Vec::new(),
            created: 0,
        }
    }

    /// The declared port of that number.
    pub fn port(&self, port: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|candidate| candidate.port == port)
    }

    /// Its virtual addresses; empty unless it is of kind ClusterIP.
    pub fn addresses(&self) -> &[IpAddr] {
        match &self.kind {
            ServiceKind::ClusterIp(addresses) => addresses,
            ServiceKind::Headless | ServiceKind::External(_) => &[],
        }
    }
}

/// Key of an endpoint: its Service and its address. Its text is
/// `namespace/service/address`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EndpointKey {
    /// Service that it serves.
    pub service: NamespacedName,
    /// Canonical address.
    pub address: IpAddr,
}

impl fmt::Display for EndpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.address)
    }
}

impl FromStr for EndpointKey {
    type Err = InvalidNamespacedName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidNamespacedName(text.to_owned());
        let (service, address) = text.rsplit_once('/').ok_or_else(invalid)?;
        let address = address.parse().map_err(|_| invalid())?;
        Ok(Self {
            service: service.parse()?,
            address,
        })
    }
}

/// One address that serves a Service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// Service and address.
    pub key: EndpointKey,
    /// Pod behind the address, when there is one.
    pub workload: Option<WorkloadUid>,
    /// Pairs of service port and target port, which is the one on this address. A service port may
    /// have several target ports.
    pub ports: Vec<(u16, u16)>,
    /// Whether it takes new connections. Kept when it doesn't, so that the
    /// mesh can tell "no endpoints" from "none ready".
    pub ready: bool,
    /// Pairs of ports at which it serves while it is on its way out: where none of a node is ready
    /// for a service port, they take connections of clients that may use those of their node only.
    pub terminating_ports: Vec<(u16, u16)>,
    /// Node that it is on, where no pod says so; empty where nobody does.
    pub node: Arc<str>,
    /// Clients that it is meant for.
    pub hints: TopologyHints,
}

/// Hints of a slice: the clients that an endpoint is meant for (KEP-2433).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TopologyHints {
    /// Zones of their nodes; empty where there is no hint.
    pub zones: Vec<Arc<str>>,
    /// Their nodes; empty where there is no hint.
    pub nodes: Vec<Arc<str>>,
}

impl TopologyHints {
    /// Whether there is no hint.
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty() && self.nodes.is_empty()
    }
}

impl Endpoint {
    /// An endpoint that takes no connections, and of which nothing else is known.
    pub fn new(key: EndpointKey) -> Self {
        Self {
            key,
            workload: None,
            ports: Vec::new(),
            ready: false,
            terminating_ports: Vec::new(),
            node: "".into(),
            hints: TopologyHints::default(),
        }
    }

    /// The pairs of ports that take connections.
    pub fn ready_ports(&self) -> &[(u16, u16)] {
        if self.ready { &self.ports } else { &[] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_keys_round_trip_as_text() {
        let key = EndpointKey {
            service: NamespacedName::new("shop", "web"),
            address: "fd00::1".parse().unwrap(),
        };
        assert_eq!(key.to_string().parse::<EndpointKey>().unwrap(), key);
        assert!("shop/web/no-address".parse::<EndpointKey>().is_err());
    }
}
