//! Pods.
//!
//! * [`probes`]: what kubelet asks of them, with its [`request_target`]
//! * [`sidecar`]: the proxy that one brings along

mod probes;
mod request_target;
mod sidecar;

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use weft_model::NamespacedName;
use weft_model::address::canonical_ip;
use weft_model::idle::IdleLimits;
use weft_model::mtls::MtlsMode;
use weft_model::node_access::{NodeAccessMode, Probe};
use weft_model::workload::{CaptureExclusions, WorkloadLabels, WorkloadUid};

use super::annotations::{self, Texts, or_note};
use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, Provider};
use super::kind_object::{Form, KindObject, Read};
use super::proxy_mode::ProxyMode;
use super::readiness::Readiness;
use super::sidecar_wishes::SidecarWishes;
pub(crate) use sidecar::{
    CREDENTIALS, CREDENTIALS_VOLUME, INIT_CONTAINER, PROGRAM, PROXY_CONTAINER, PROXY_USER,
    PodSidecar, SidecarSource, containers_of_proxy_user, repository,
};

/// A pod, as far as the mesh cares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodObject {
    pub(crate) uid: WorkloadUid,
    /// Namespace and name.
    pub(crate) key: NamespacedName,
    pub(crate) node: String,
    pub(crate) addresses: Vec<IpAddr>,
    /// None of a mirror pod, and of one that has no ServiceAccount: nobody vouches for who
    /// they are.
    pub(crate) service_account: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) names: WorkloadLabels,
    /// Named container ports of TCP.
    pub(crate) ports: Vec<(String, u16)>,
    pub(crate) wishes: PodWishes,
    /// Probes and lifecycle hooks for the pod itself.
    pub(crate) probes: Vec<Probe>,
    /// Complaints of those that lead to somebody else.
    pub(crate) foreign_probes: Vec<FieldError>,
    pub(crate) network_namespace: String,
    pub(crate) host_network: bool,
    pub(crate) readiness: Readiness,
    /// It has ended: no workload any more.
    pub(crate) ended: bool,
    /// Its own status says that its node has captured it. Only in a cluster, where
    /// nobody but control plane and node may write that.
    pub(crate) captured: bool,
    /// It isn't ready before its condition is True (`spec.readinessGates`).
    pub(crate) has_gate: bool,
    /// The condition's status, where it has one.
    pub(crate) captured_condition: Option<bool>,
    pub(crate) sidecar: PodSidecar,
    /// Seconds since 1970; 0 when it doesn't say. Of two pods with one address, the
    /// newer one has it.
    pub(crate) created: i64,
}

/// The condition that says whether a pod is captured.
pub(crate) const CAPTURED_CONDITION: &str = "weft.dev/Captured";

/// The reason with which that condition is True of a pod that has it as its readiness gate and
/// isn't in the mesh: it has nothing to wait for.
pub(crate) const NOT_IN_MESH: &str = "NotInMesh";

/// The annotation that kubelet puts on mirror pods, and nobody else may.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The wishes in a pod's annotations.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodWishes {
    /// It opts in or out itself.
    pub(crate) mesh: Option<bool>,
    /// The choice is there and can't be read.
    pub(crate) is_mesh_unreadable: bool,
    pub(crate) mtls_mode: Option<MtlsMode>,
    pub(crate) node_access: Option<NodeAccessMode>,
    pub(crate) idle_limits: IdleLimits,
    pub(crate) exclusions: CaptureExclusions,
    /// The proxy that it asks for.
    pub(crate) mode: Option<ProxyMode>,
    pub(crate) sidecar: SidecarWishes,
}

impl KindObject for PodObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "Pod",
        group: "",
        versions: &["v1"],
        plural: "pods",
        provider: Provider::Kubernetes,
        fallback: "it counts as if it weren't there (but an mTLS mode as strict, a node access as probes, and what can't be read of `weft.dev/mesh` leaves the pod where it is)",
    })];

    type Document = Pod;

    fn name(&self) -> NamespacedName {
        self.key.clone()
    }

    fn keep_last_good(&mut self, before: &Self) {
        if self.wishes.is_mesh_unreadable && self.uid == before.uid {
            self.wishes.mesh = before.wishes.mesh;
        }
    }

    /// A live pod is none as long as no node was chosen for it. It is one from then on,
    /// without addresses at first, so that its node can prepare for it.
    fn read(_: Kind, pod: Pod, form: Form) -> Read<Self> {
        let has_node = pod.spec.as_ref().and_then(node).is_some();
        match form {
            Form::Admission => Read {
                problems: problems(&pod.metadata),
                ..Read::nothing()
            },
            Form::Live if !has_node => Read::nothing(),
            Form::Manifest | Form::Live => {
                Self::with_problems(pod, form).unwrap_or_else(|error| Err(error).into())
            }
        }
    }
}

impl PodWishes {
    /// Reads them; one that can't be read counts as what is safest.
    pub(crate) fn read(annotations: Option<&Texts>) -> (Self, Vec<FieldError>) {
        let none = Texts::new();
        let annotations = annotations.unwrap_or(&none);
        let mut problems = Vec::new();
        let mesh = annotations::mesh("annotations", annotations);
        let mtls_mode = annotations::mtls_mode(annotations);
        let node_access = annotations::node_access(annotations);
        let idle_limits = annotations::idle_limits(annotations);
        let exclusions = annotations::exclusions(annotations);
        let mode = annotations::mode("annotations", annotations);
        let wishes = Self {
            is_mesh_unreadable: mesh.is_err(),
            mesh: or_note(&mut problems, None, mesh),
            // Whoever wrote one didn't mean "accept anything".
            mtls_mode: or_note(&mut problems, Some(MtlsMode::Strict), mtls_mode),
            node_access: or_note(&mut problems, Some(NodeAccessMode::Probes), node_access),
            idle_limits: or_note(&mut problems, IdleLimits::default(), idle_limits),
            exclusions: or_note(&mut problems, CaptureExclusions::default(), exclusions),
            mode: or_note(&mut problems, None, mode),
            sidecar: SidecarWishes::read(annotations, &mut problems),
        };
        (wishes, problems)
    }
}

/// Mistakes in a pod's labels and annotations.
fn problems(metadata: &ObjectMeta) -> Vec<FieldError> {
    let (_, mut problems) = PodWishes::read(metadata.annotations.as_ref());
    problems.extend(annotations::OF_PODS.without_effect(metadata));
    problems
}

/// Probes of a pod of the mesh by which kubelet would ask somebody else.
pub(super) fn foreign_probes(pod: &Pod, namespace_is_enrolled: bool) -> Vec<FieldError> {
    let (wishes, _) = PodWishes::read(pod.metadata.annotations.as_ref());
    let spec = pod.spec.as_ref();
    // Those of the host network are never in the mesh, and their own address is the node's.
    let spec = spec.filter(|spec| !spec.host_network.unwrap_or_default());
    match spec {
        Some(spec) if wishes.mesh.unwrap_or(namespace_is_enrolled) => {
            probes::foreign_hosts(spec, &[])
        }
        _ => Vec::new(),
    }
}

impl PodObject {
    /// Kubelet's picture of a pod that it runs from a file of its node. Whoever writes files
    /// there says what is in it.
    pub(crate) fn is_mirror(metadata: &ObjectMeta) -> bool {
        let mut annotations = metadata.annotations.iter().flatten();
        annotations.any(|(name, _)| name == MIRROR)
    }

    /// Nobody takes it in: it has no identity that the cluster vouches for.
    pub(crate) fn lacks_identity(&self) -> bool {
        self.service_account.is_none()
    }

    /// Pods of the host network share their node's address, and are never captured.
    pub(crate) fn is_workload(&self) -> bool {
        !self.ended && !self.host_network
    }

    fn with_problems(pod: Pod, form: Form) -> Result<Read<Self>, FieldError> {
        let Pod {
            metadata,
            spec,
            status,
        } = pod;
        let spec = spec.ok_or_else(|| FieldError::missing("spec", "a Pod has one"))?;
        let status = status.unwrap_or_default();
        let key = document::namespaced_name(&metadata)?;
        let why = "a directory has no scheduler, name the node";
        let node = node(&spec).ok_or_else(|| FieldError::missing("spec.nodeName", why))?;
        let (wishes, _) = PodWishes::read(metadata.annotations.as_ref());
        let problems = problems(&metadata);
        let labels = metadata.labels.clone().unwrap_or_default();
        let account = spec.service_account_name.as_deref();
        let account = account.filter(|account| !account.is_empty());
        let phase = status.phase.as_deref().unwrap_or_default();
        let addresses = addresses_in(form, &status)?;
        let pod = Self {
            uid: uid(&metadata, &key),
            node: node.to_owned(),
            probes: probes::declared(&spec, &addresses),
            foreign_probes: probes::foreign_hosts(&spec, &addresses),
            addresses,
            service_account: match (account, form) {
                _ if Self::is_mirror(&metadata) => None,
                // Manifests written by hand leave it out.
                (None, Form::Manifest) => Some("default".to_owned()),
                (account, _) => account.map(str::to_owned),
            },
            names: names(&metadata, &key, &labels),
            ports: named_ports(&spec),
            wishes,
            network_namespace: network_namespace(form, metadata.annotations.as_ref()),
            host_network: spec.host_network.unwrap_or_default(),
            labels,
            readiness: Readiness::new(
                is_ready(form, &status),
                metadata.deletion_timestamp.is_some(),
            ),
            ended: matches!(phase, "Succeeded" | "Failed"),
            captured: form == Form::Live && is_captured(&status),
            has_gate: has_gate(&spec),
            captured_condition: condition(&status, CAPTURED_CONDITION),
            sidecar: PodSidecar::of(metadata.name.as_deref(), &spec),
            created: document::created(&metadata),
            key,
        };
        Ok(Read::with_problems(pod, problems))
    }
}

fn node(spec: &PodSpec) -> Option<&str> {
    spec.node_name.as_deref().filter(|node| !node.is_empty())
}

fn uid(metadata: &ObjectMeta, key: &NamespacedName) -> WorkloadUid {
    match metadata.uid.as_deref() {
        Some(uid) => WorkloadUid::from(uid),
        None => WorkloadUid::from(key.to_string().as_str()),
    }
}

fn names(metadata: &ObjectMeta, key: &NamespacedName, labels: &Texts) -> WorkloadLabels {
    let owner = metadata.owner_references.iter().flatten().next();
    let workload = owner.map_or_else(
        || key.name.to_string(),
        |owner| owner_name(owner.name.clone(), labels),
    );
    WorkloadLabels {
        workload: workload.into(),
        app: first(labels, ["app.kubernetes.io/name", "app"]).into(),
        version: first(labels, ["app.kubernetes.io/version", "version"]).into(),
    }
}

fn network_namespace(form: Form, annotations: Option<&Texts>) -> String {
    let annotation = annotations.and_then(|annotations| annotations.get(annotations::NETNS));
    // Nobody may point an agent at a namespace by annotating a pod.
    let trusted = annotation.filter(|_| form == Form::Manifest);
    trusted.cloned().unwrap_or_default()
}

fn is_ready(form: Form, status: &PodStatus) -> bool {
    // Manifests written by hand leave conditions out.
    condition(status, "Ready").unwrap_or(form == Form::Manifest)
}

fn addresses_in(form: Form, status: &PodStatus) -> Result<Vec<IpAddr>, FieldError> {
    let listed = addresses(status)?;
    match listed.is_empty() && form == Form::Manifest {
        true => {
            let why = "a directory has no IPAM, list the pod's addresses";
            Err(FieldError::missing("status.podIPs", why))
        }
        false => Ok(listed),
    }
}

fn addresses(status: &PodStatus) -> Result<Vec<IpAddr>, FieldError> {
    let listed = status
        .pod_ips
        .iter()
        .flatten()
        .map(|address| address.ip.as_str());
    let mut texts: Vec<_> = listed.enumerate().collect();
    let field = |index: usize| match status.pod_ips {
        Some(_) => format!("status.podIPs[{index}].ip"),
        None => "status.podIP".to_owned(),
    };
    if texts.is_empty() {
        texts.extend(status.pod_ip.as_deref().map(|address| (0, address)));
    }
    let parsed = texts.into_iter().map(|(index, text)| {
        let address = text.parse::<IpAddr>().map(canonical_ip);
        address.map_err(|_| FieldError::new(field(index), format!("`{text}` is not an IP address")))
    });
    parsed.collect()
}

/// True of a pod with the gate says only that nothing is awaited any more.
fn is_captured(status: &PodStatus) -> bool {
    let found = find(status, CAPTURED_CONDITION);
    found.is_some_and(|condition| {
        condition.status == "True" && condition.reason.as_deref() != Some(NOT_IN_MESH)
    })
}

fn has_gate(spec: &PodSpec) -> bool {
    let mut gates = spec.readiness_gates.iter().flatten();
    gates.any(|gate| gate.condition_type == CAPTURED_CONDITION)
}

/// A condition's truth; None when it isn't listed.
fn condition(status: &PodStatus, name: &str) -> Option<bool> {
    find(status, name).map(|condition| condition.status == "True")
}

fn find<'a>(status: &'a PodStatus, name: &str) -> Option<&'a PodCondition> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    conditions.iter().find(|condition| condition.type_ == name)
}

fn named_ports(spec: &PodSpec) -> Vec<(String, u16)> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| probes::is_sidecar(container));
    // Of several with one name the containers' counts, as for Kubernetes.
    let containers = spec.containers.iter().chain(sidecars);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let ports = ports.filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let named = ports
        .filter_map(|port| Some((port.name.clone()?, u16::try_from(port.container_port).ok()?)));
    named.collect()
}

/// A ReplicaSet's name without the hash that its Deployment gave it.
fn owner_name(name: String, labels: &Texts) -> String {
    let hash = labels.get("pod-template-hash");
    let stripped = hash.and_then(|hash| name.strip_suffix(&format!("-{hash}")));
    stripped.map_or_else(|| name.clone(), str::to_owned)
}

fn first(labels: &Texts, names: [&str; 2]) -> String {
    names
        .into_iter()
        .find_map(|name| labels.get(name))
        .cloned()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
