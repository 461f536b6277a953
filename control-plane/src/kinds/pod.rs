//! Pods.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use weft_model::NamespacedName;
use weft_model::address::canonical_ip;
use weft_model::idle::IdleLimits;
use weft_model::mtls::MtlsMode;
use weft_model::workload::{CaptureExclusions, WorkloadLabels, WorkloadUid};

use super::annotations::{self, Texts, or_note};
use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, Provider};
use super::kind_object::{Form, KindObject, Read};
use super::readiness::Readiness;

/// A pod, as far as the mesh cares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodObject {
    pub(crate) uid: WorkloadUid,
    /// Namespace and name.
    pub(crate) key: NamespacedName,
    pub(crate) node: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) service_account: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) names: WorkloadLabels,
    /// Named container ports.
    pub(crate) ports: Vec<(String, u16)>,
    /// It opts in or out itself.
    pub(crate) mesh: Option<bool>,
    pub(crate) mtls_mode: Option<MtlsMode>,
    pub(crate) idle_limits: IdleLimits,
    pub(crate) exclusions: CaptureExclusions,
    pub(crate) network_namespace: String,
    pub(crate) host_network: bool,
    pub(crate) readiness: Readiness,
    /// It has ended: no workload any more.
    pub(crate) ended: bool,
    /// Its own status says that its node has captured it. Only in a cluster, where
    /// nobody but control plane and node may write that.
    pub(crate) captured: bool,
    /// Seconds since 1970; 0 when it doesn't say. Of two pods with one address, the
    /// newer one has it.
    pub(crate) created: i64,
}

/// The condition that says whether a pod is captured.
pub(crate) const CAPTURED_CONDITION: &str = "weft.dev/Captured";

/// The wishes in a pod's annotations.
#[derive(Debug)]
struct Wishes {
    mesh: Option<bool>,
    mtls_mode: Option<MtlsMode>,
    idle_limits: IdleLimits,
    exclusions: CaptureExclusions,
}

impl KindObject for PodObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "Pod",
        group: "",
        versions: &["v1"],
        plural: "pods",
        provider: Provider::Kubernetes,
        fallback: " (an mTLS mode that can't be read counts as strict)",
    })];

    type Document = Pod;

    fn name(&self) -> NamespacedName {
        self.key.clone()
    }

    /// A live pod is none as long as no node was chosen for it. It is one from then on,
    /// without addresses at first, so that its node can prepare for it.
    fn read(_: Kind, pod: Pod, form: Form) -> Read<Self> {
        let has_node = pod.spec.as_ref().and_then(node).is_some();
        match form {
            Form::Admission => Read {
                problems: Wishes::read(pod.metadata.annotations.as_ref()).1,
                ..Read::nothing()
            },
            Form::Live if !has_node => Read::nothing(),
            Form::Manifest | Form::Live => {
                Self::with_problems(pod, form).unwrap_or_else(|error| Err(error).into())
            }
        }
    }
}

impl Wishes {
    /// Reads them; one that can't be read counts as what is safest.
    fn read(annotations: Option<&Texts>) -> (Self, Vec<FieldError>) {
        let none = Texts::new();
        let annotations = annotations.unwrap_or(&none);
        let mut problems = Vec::new();
        let mesh = annotations::mesh("annotations", annotations);
        let mtls_mode = annotations::mtls_mode(annotations);
        let idle_limits = annotations::idle_limits(annotations);
        let exclusions = annotations::exclusions(annotations);
        let wishes = Self {
            mesh: or_note(&mut problems, None, mesh),
            // Whoever wrote one didn't mean "accept anything".
            mtls_mode: or_note(&mut problems, Some(MtlsMode::Strict), mtls_mode),
            idle_limits: or_note(&mut problems, IdleLimits::default(), idle_limits),
            exclusions: or_note(&mut problems, CaptureExclusions::default(), exclusions),
        };
        (wishes, problems)
    }
}

impl PodObject {
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
        let (wishes, problems) = Wishes::read(metadata.annotations.as_ref());
        let labels = metadata.labels.clone().unwrap_or_default();
        let account = spec.service_account_name.as_deref();
        let account = account.filter(|account| !account.is_empty());
        let phase = status.phase.as_deref().unwrap_or_default();
        let pod = Self {
            uid: uid(&metadata, &key),
            node: node.to_owned(),
            addresses: addresses_in(form, &status)?,
            service_account: account.unwrap_or("default").to_owned(),
            names: names(&metadata, &key, &labels),
            ports: named_ports(&spec),
            mesh: wishes.mesh,
            mtls_mode: wishes.mtls_mode,
            idle_limits: wishes.idle_limits,
            exclusions: wishes.exclusions,
            network_namespace: network_namespace(form, metadata.annotations.as_ref()),
            host_network: spec.host_network.unwrap_or_default(),
            labels,
            readiness: Readiness::new(
                is_ready(form, &status),
                metadata.deletion_timestamp.is_some(),
            ),
            ended: matches!(phase, "Succeeded" | "Failed"),
            captured: form == Form::Live && condition(&status, CAPTURED_CONDITION).unwrap_or(false),
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

/// A condition's truth; None when it isn't listed.
fn condition(status: &PodStatus, name: &str) -> Option<bool> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition.type_ == name);
    found.map(|condition| condition.status == "True")
}

fn named_ports(spec: &PodSpec) -> Vec<(String, u16)> {
    let ports = spec
        .containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten());
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
