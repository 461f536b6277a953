//! A workload: one pod, as the mesh sees it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::access_log::AccessLogSettings;
use crate::address::{AddressBlock, canonical_ip};
use crate::authorization_policy::AuthorizationMembership;
use crate::egress::EgressMode;
use crate::identity::SpiffeId;
use crate::idle::IdleLimits;
use crate::mtls::{MtlsMode, PortModes};
use crate::name::NamespacedName;
use crate::node_access::NodeAccess;
use crate::route::path::PathNormalization;

/// Identifier of a workload for as long as it lives: the Kubernetes pod UID, or
/// `namespace/name` where a manifest directory gives none. Never reused for
/// another pod, unlike an address.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct WorkloadUid(Arc<str>);

impl WorkloadUid {
    /// The UID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for WorkloadUid {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for WorkloadUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Enrolment state of a pod: how far it is into the mesh.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Enrolment {
    /// Not opted in: its traffic is left alone.
    #[default]
    Outside,
    /// Opted in, but its node has not yet reported that it is captured. Peers
    /// can't reach its proxy yet.
    Pending,
    /// Captured: its proxy answers on the HBONE port of its addresses.
    Captured,
}

impl Enrolment {
    /// Whether the pod is meant to be in the mesh.
    pub fn is_enrolled(self) -> bool {
        self != Self::Outside
    }
}

/// The part of an enrolled pod's outbound traffic that is not captured.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CaptureExclusions {
    /// Destination ports.
    pub ports: Vec<u16>,
    /// Destination address blocks.
    pub blocks: Vec<AddressBlock>,
}

impl CaptureExclusions {
    /// The most ports of one pod: the kernel's table of them is one for all pods of a node.
    pub const MOST_PORTS: usize = 64;
    /// The most blocks of one pod.
    pub const MOST_BLOCKS: usize = 64;
}

/// The connections of a pod that are refused while its proxy doesn't carry them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RefusedConnections {
    /// Those that arrive, but the node's own.
    Inbound,
    /// Those that it opens, but its exclusions.
    Outbound,
    /// Both of these.
    Both,
}

impl RefusedConnections {
    /// Those of these directions; none where neither is.
    pub fn of(inbound: bool, outbound: bool) -> Option<Self> {
        match (inbound, outbound) {
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::Inbound),
            (false, true) => Some(Self::Outbound),
            (false, false) => None,
        }
    }

    /// Whether connections that arrive are among them.
    pub fn includes_inbound(self) -> bool {
        self != Self::Outbound
    }

    /// Whether connections that the pod opens are among them.
    pub fn includes_outbound(self) -> bool {
        self != Self::Inbound
    }
}

/// One pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Workload {
    /// Identifier for as long as it lives.
    pub uid: WorkloadUid,
    /// Pod name.
    pub name: Arc<str>,
    /// SPIFFE ID of its certificate; also holds its namespace and service account.
    pub identity: SpiffeId,
    /// Canonical addresses, the primary one first. Empty before kubelet has reported
    /// them: the agent of its node asks the pod itself.
    pub addresses: Vec<IpAddr>,
    /// Name of the node that it runs on.
    pub node: Arc<str>,
    /// Region and zone of that node.
    pub locality: Locality,
    /// Enrolment state.
    pub enrolment: Enrolment,
    /// Its proxy is a container of its own: its node's agent has nothing to do with it.
    pub is_sidecar: bool,
    /// Mutual TLS mode of its inbound side.
    pub mtls_mode: MtlsMode,
    /// The modes of ports that have one of their own.
    pub port_modes: PortModes,
    /// Plaintext that it takes from its own node while it is strict.
    pub node_access: NodeAccess,
    /// Policy for its connections to unregistered destinations.
    pub egress_mode: EgressMode,
    /// The form in which the paths of its requests are compared with routes and sent on.
    pub path_normalization: PathNormalization,
    /// Idle limits of its connections, in either direction.
    pub idle_limits: IdleLimits,
    /// Lines of the access log about it.
    pub access_log: Arc<AccessLogSettings>,
    /// Outbound traffic that is not captured.
    pub exclusions: CaptureExclusions,
    /// Name under `/run/netns` of its network namespace; empty where the node
    /// finds it by the pod's UID.
    pub network_namespace: Arc<str>,
    /// Labels of its metrics and access log entries.
    pub labels: WorkloadLabels,
    /// Its part in NetworkPolicies, as one that they select and as a peer.
    pub network_policies: Arc<PolicyMembership>,
    /// Its part in AuthorizationPolicies, which only its own proxy asks for.
    pub authorization: Arc<AuthorizationMembership>,
}

/// Topology of a node: the labels `topology.kubernetes.io/region` and
/// `topology.kubernetes.io/zone` of the Node; empty where it lacks them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Locality {
    /// Region, such as `eu-west-1`.
    pub region: Arc<str>,
    /// Zone of the region, such as `eu-west-1a`.
    pub zone: Arc<str>,
}

/// Labels that telemetry gives a workload.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct WorkloadLabels {
    /// Name of the owner (Deployment, StatefulSet, Job ...), or the pod's own.
    pub workload: Arc<str>,
    /// `app.kubernetes.io/name`, else `app`.
    pub app: Arc<str>,
    /// `app.kubernetes.io/version`, else `version`.
    pub version: Arc<str>,
}

/// A pod's part in NetworkPolicies.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct PolicyMembership {
    /// The policies that select it and are about connections to it; they are of its namespace.
    /// When there are none, every connection is admitted.
    pub ingress: Vec<NamespacedName>,
    /// The same for connections from it.
    pub egress: Vec<NamespacedName>,
    /// The selectors of peers that match it, of all policies of the mesh, in ascending order.
    pub selectors: Vec<Arc<str>>,
    /// Its named ports of TCP.
    pub ports: Vec<(Arc<str>, u16)>,
}

impl Workload {
    /// A pod that is not enrolled and of which nothing else is known: it has the name of its
    /// UID, no addresses, the default modes and no labels.
    pub fn new(uid: WorkloadUid, identity: SpiffeId, node: &str) -> Self {
        Self {
            name: Arc::clone(&uid.0),
            uid,
            identity,
            addresses: Vec::new(),
            node: node.into(),
            locality: Locality::default(),
            enrolment: Enrolment::default(),
            is_sidecar: false,
            mtls_mode: MtlsMode::default(),
            port_modes: PortModes::default(),
            node_access: NodeAccess::default(),
            egress_mode: EgressMode::default(),
            path_normalization: PathNormalization::default(),
            idle_limits: IdleLimits::default(),
            access_log: Arc::default(),
            exclusions: CaptureExclusions::default(),
            network_namespace: "".into(),
            labels: WorkloadLabels::default(),
            network_policies: Arc::default(),
            authorization: Arc::default(),
        }
    }

    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        self.identity.namespace()
    }

    /// Whether the agent of its node is to capture it.
    pub fn is_for_node_agent(&self) -> bool {
        self.enrolment.is_enrolled() && !self.is_sidecar
    }

    /// The mutual TLS mode of one of its ports.
    pub fn mtls_mode_at(&self, port: u16) -> MtlsMode {
        self.port_modes.at(port).unwrap_or(self.mtls_mode)
    }

    /// The strictest mode that any of its ports has.
    pub fn strictest_mtls_mode(&self) -> MtlsMode {
        let of_ports = self.port_modes.iter().map(|(_, mode)| mode);
        of_ports.fold(self.mtls_mode, MtlsMode::max)
    }

    /// The connections that are refused while it isn't captured. A strict one accepts and
    /// sends nothing in the clear, one with strict ports accepts nothing, as the kernel knows no
    /// ports then; what policies say of those that arrive at one, and where one
    /// goes that may reach registered destinations only, nobody asks before it has a proxy.
    pub fn refused_uncaptured(&self) -> Option<RefusedConnections> {
        let is_strict = self.mtls_mode == MtlsMode::Strict;
        RefusedConnections::of(
            self.strictest_mtls_mode() == MtlsMode::Strict || self.authorization.may_deny(),
            is_strict || self.egress_mode == EgressMode::RegisteredOnly,
        )
    }

    /// Whether the address is one of this pod's.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&canonical_ip(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorization_policy::DefaultAuthorization;

    #[test]
    fn policies_that_may_deny_refuse_what_arrives_and_nothing_else() {
        let identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        let pod = Workload::new(WorkloadUid::from("web"), identity, "node-1");
        let policies = vec![NamespacedName::new("shop", "web")];
        let none = AuthorizationMembership::default();
        let decided = AuthorizationMembership {
            policies: policies.clone(),
            ..none.clone()
        };
        let observed = AuthorizationMembership {
            policies,
            is_observed_only: true,
            ..none.clone()
        };
        let closed = AuthorizationMembership {
            default: DefaultAuthorization::Authenticated,
            ..observed.clone()
        };
        use RefusedConnections::{Both, Inbound, Outbound};
        for (membership, [by_default, registered_only]) in [
            (none, [None, Some(Outbound)]),
            (observed, [None, Some(Outbound)]),
            (decided, [Some(Inbound), Some(Both)]),
            (closed, [Some(Inbound), Some(Both)]),
        ] {
            let mut pod = Workload {
                authorization: Arc::new(membership),
                ..pod.clone()
            };
            assert_eq!(pod.refused_uncaptured(), by_default, "{pod:?}");
            pod.egress_mode = EgressMode::RegisteredOnly;
            assert_eq!(pod.refused_uncaptured(), registered_only, "{pod:?}");
            pod.mtls_mode = MtlsMode::Strict;
            assert_eq!(pod.refused_uncaptured(), Some(Both));
        }
    }

    #[test]
    fn one_strict_port_refuses_whatever_arrives_and_no_open_port_opens_a_strict_pod() {
        let identity: SpiffeId = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        let pod = |mtls_mode, ports: &str| Workload {
            mtls_mode,
            port_modes: ports.parse().unwrap(),
            ..Workload::new(WorkloadUid::from("web"), identity.clone(), "node-1")
        };
        use MtlsMode::{Disabled, Permissive, Strict};
        let inbound = Some(RefusedConnections::Inbound);
        for (mode, ports, refused) in [
            (Permissive, "80=strict", inbound),
            (Disabled, "80=strict", inbound),
            (Permissive, "80=disabled", None),
            (Strict, "80=permissive", Some(RefusedConnections::Both)),
        ] {
            assert_eq!(
                pod(mode, ports).refused_uncaptured(),
                refused,
                "{mode} {ports}"
            );
        }
        let pod = pod(Strict, "80=disabled");
        assert_eq!(
            [80, 81].map(|port| pod.mtls_mode_at(port)),
            [Disabled, Strict]
        );
    }
}
