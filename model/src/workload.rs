//! A workload: one pod, as the mesh sees it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::address::{AddressBlock, canonical_ip};
use crate::egress::EgressMode;
use crate::identity::SpiffeId;
use crate::idle::IdleLimits;
use crate::mtls::MtlsMode;

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
    /// Mutual TLS mode of its inbound side.
    pub mtls_mode: MtlsMode,
    /// Policy for its connections to unregistered destinations.
    pub egress_mode: EgressMode,
    /// Idle limits of its connections, in either direction.
    pub idle_limits: IdleLimits,
    /// Outbound traffic that is not captured.
    pub exclusions: CaptureExclusions,
    /// Name under `/run/netns` of its network namespace; empty where the node
    /// finds it by the pod's UID.
    pub network_namespace: Arc<str>,
    /// Labels of its metrics and access log entries.
    pub labels: WorkloadLabels,
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
            mtls_mode: MtlsMode::default(),
            egress_mode: EgressMode::default(),
            idle_limits: IdleLimits::default(),
            exclusions: CaptureExclusions::default(),
            network_namespace: "".into(),
            labels: WorkloadLabels::default(),
        }
    }

    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        self.identity.namespace()
    }

    /// Whether the address is one of this pod's.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&canonical_ip(address))
    }
}
