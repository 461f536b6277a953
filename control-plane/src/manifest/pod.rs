//! Pods.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use weft_model::NamespacedName;
use weft_model::address::canonical_ip;
use weft_model::mtls::MtlsMode;
use weft_model::workload::{CaptureExclusions, WorkloadLabels, WorkloadUid};

use super::FieldError;
use super::annotations::{self, Texts, or_note};

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
    /// Whether it opts in or out itself.
    pub(crate) mesh: Option<bool>,
    pub(crate) mtls_mode: Option<MtlsMode>,
    pub(crate) exclusions: CaptureExclusions,
    pub(crate) network_namespace: String,
    pub(crate) host_network: bool,
    pub(crate) ready: bool,
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

/// How a pod came to us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    /// Written by hand: what's needed must be there, and one mistake spoils it.
    Manifest,
    /// By an API server, which fills in what is known so far. A mistake in an
    /// annotation costs no more than that annotation.
    Live,
}

impl PodObject {
    /// A pod as somebody wrote it down.
    pub(super) fn parse(pod: Pod) -> Result<Self, FieldError> {
        let (pod, mut problems) = Self::read(pod, Form::Manifest)?;
        match problems.drain(..).next() {
            Some(problem) => Err(problem),
            None => Ok(pod),
        }
    }

    /// A pod of a cluster; none as long as no node was chosen for it. It is one from
    /// then on, without addresses at first, so that its node can prepare for it.
    pub(crate) fn live(pod: Pod) -> (Option<Self>, Vec<FieldError>) {
        let spec = pod.spec.as_ref();
        if spec.is_none_or(|spec| spec.node_name.as_deref().unwrap_or_default().is_empty()) {
            return (None, Vec::new());
        }
        match Self::read(pod, Form::Live) {
            Ok((pod, problems)) => (Some(pod), problems),
            Err(problem) => (None, vec![problem]),
        }
    }

    /// What of a pod's annotations can't be used, wherever it is going to run.
    pub(crate) fn annotation_problems(pod: &Pod) -> Vec<FieldError> {
        let none = Texts::new();
        let annotations = pod.metadata.annotations.as_ref().unwrap_or(&none);
        let problems = [
            annotations::mesh("annotations", annotations).err(),
            annotations::mtls_mode(annotations).err(),
            annotations::exclusions(annotations).err(),
        ];
        problems.into_iter().flatten().collect()
    }

    fn read(pod: Pod, form: Form) -> Result<(Self, Vec<FieldError>), FieldError> {
        let Pod {
            metadata,
            spec,
            status,
        } = pod;
        let spec = spec.ok_or_else(|| FieldError::missing("spec", "a Pod has one"))?;
        let status = status.unwrap_or_default();
        let name = metadata
            .name
            .filter(|name| !name.is_empty())
            .ok_or_else(|| FieldError::missing("metadata.name", "every object has one"))?;
        let namespace = metadata.namespace.unwrap_or_else(|| "default".to_owned());
        let annotations = metadata.annotations.unwrap_or_default();
        let labels = metadata.labels.unwrap_or_default();
        let key = NamespacedName::new(&namespace, &name);
        let uid = metadata.uid.unwrap_or_else(|| key.to_string());
        let phase = status.phase.as_deref().unwrap_or_default();
        let ended = matches!(phase, "Succeeded" | "Failed");
        let node = spec.node_name.clone().filter(|node| !node.is_empty());
        let node = node.ok_or_else(|| {
            FieldError::missing(
                "spec.nodeName",
                "a directory has no scheduler, name the node",
            )
        })?;
        let addresses = match addresses(&status)? {
            listed if listed.is_empty() && form == Form::Manifest => {
                let why = "a directory has no IPAM, list the pod's addresses";
                return Err(FieldError::missing("status.podIPs", why));
            }
            listed => listed,
        };
        let is_ready = match form {
            // Manifests written by hand leave conditions out.
            Form::Manifest => condition(&status, "Ready").unwrap_or(true),
            Form::Live => condition(&status, "Ready").unwrap_or(false),
        };
        let owner = metadata
            .owner_references
            .unwrap_or_default()
            .into_iter()
            .next();
        let workload = owner.map_or_else(|| name.clone(), |owner| owner_name(owner.name, &labels));
        let mut problems = Vec::new();
        let mesh = or_note(
            &mut problems,
            None,
            annotations::mesh("annotations", &annotations),
        );
        let mtls_mode = annotations::mtls_mode(&annotations);
        // Whoever wrote one didn't mean "accept anything".
        let mtls_mode = or_note(&mut problems, Some(MtlsMode::Strict), mtls_mode);
        let none = CaptureExclusions::default();
        let exclusions = or_note(&mut problems, none, annotations::exclusions(&annotations));
        let network_namespace = match form {
            Form::Manifest => annotations.get(annotations::NETNS).cloned(),
            // Nobody may point an agent at a namespace by annotating a pod.
            Form::Live => None,
        };
        let created = metadata.creation_timestamp;
        let pod = Self {
            uid: WorkloadUid::from(uid.as_str()),
            node,
            addresses,
            service_account: spec
                .service_account_name
                .clone()
                .filter(|account| !account.is_empty())
                .unwrap_or_else(|| "default".to_owned()),
            names: WorkloadLabels {
                workload: workload.into(),
                app: first(&labels, ["app.kubernetes.io/name", "app"]).into(),
                version: first(&labels, ["app.kubernetes.io/version", "version"]).into(),
            },
            ports: named_ports(&spec),
            mesh,
            mtls_mode,
            exclusions,
            network_namespace: network_namespace.unwrap_or_default(),
            host_network: spec.host_network.unwrap_or_default(),
            labels,
            key,
            ready: is_ready && metadata.deletion_timestamp.is_none(),
            ended,
            captured: form == Form::Live && condition(&status, CAPTURED_CONDITION).unwrap_or(false),
            created: created.map_or(0, |created| created.0.as_second()),
        };
        Ok((pod, problems))
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

/// Whether a condition is true; None when it isn't listed.
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
