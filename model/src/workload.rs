//! A workload: one pod, as the mesh sees it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::address::AddressBlock;
use crate::external::EgressMode;
use crate::identity::SpiffeId;
use crate::policy::MtlsMode;

/// Names a workload for as long as it lives: the Kubernetes pod UID, or
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

/// How far a pod is into the mesh.
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

/// What of a pod's own outbound traffic is left alone even though it is enrolled.
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
    /// What names it for as long as it lives.
    pub uid: WorkloadUid,
    /// Pod name.
    pub name: Arc<str>,
    /// Its certificate's identity; also holds its namespace and service account.
    pub identity: SpiffeId,
    /// Its addresses, canonical; the first is the primary one. None before kubelet has
    /// told them: the agent of its node asks the pod itself.
    pub addresses: Vec<IpAddr>,
    /// Name of the node that it runs on.
    pub node: Arc<str>,
    /// Where that node is.
    pub locality: Locality,
    /// How far it is into the mesh.
    pub enrolment: Enrolment,
    /// What its inbound side asks of clients.
    pub mtls_mode: MtlsMode,
    /// What becomes of its connections to what nobody has registered.
    pub egress_mode: EgressMode,
    /// Outbound traffic left alone.
    pub exclusions: CaptureExclusions,
    /// Name under `/run/netns` of its network namespace; empty where the node
    /// finds it by the pod's UID.
    pub network_namespace: Arc<str>,
    /// Names that metrics and access logs use.
    pub labels: WorkloadLabels,
}

/// Where a node is: `topology.kubernetes.io/region` and `topology.kubernetes.io/zone` of
/// the Node; empty where it doesn't say.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Locality {
    /// Region, such as `eu-west-1`.
    pub region: Arc<str>,
    /// Zone of the region, such as `eu-west-1a`.
    pub zone: Arc<str>,
}

/// The names under which telemetry knows a workload.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct WorkloadLabels {
    /// Owner's name (Deployment, StatefulSet, Job ...), or the pod's own.
    pub workload: Arc<str>,
    /// `app.kubernetes.io/name`, else `app`.
    pub app: Arc<str>,
    /// `app.kubernetes.io/version`, else `version`.
    pub version: Arc<str>,
}

impl Workload {
    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        self.identity.namespace()
    }

    /// Whether the address is one of this pod's.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses
            .contains(&crate::address::canonical_ip(address))
    }
}
