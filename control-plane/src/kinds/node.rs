//! Nodes: where they are, and at which addresses.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node as KubernetesNode, NodeAddress, Taint};
use weft_model::NamespacedName;
use weft_model::address::canonical_ip;
use weft_model::node::Node;
use weft_model::workload::Locality;

use super::annotations::Texts;
use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, LAST_GOOD, Provider};
use super::kind_object::{Form, KindObject, Read};

/// Well-known labels (<https://kubernetes.io/docs/reference/labels-annotations-taints/>).
const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";

/// A node, as far as the mesh cares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeObject {
    pub(crate) node: Node,
    pub(crate) labels: Texts,
    /// Taints that keep pods away which don't tolerate them.
    pub(crate) taints: Vec<Taint>,
    /// Its agent can capture connections, or can't; none while no agent has said.
    pub(crate) can_capture: Option<bool>,
    /// Its kubelet says that it is older than native sidecars.
    pub(crate) has_old_kubelet: bool,
}

/// The label that says whether a node's agent can capture.
pub(crate) const EBPF: &str = "weft.dev/ebpf";

/// The first minor version of Kubernetes 1 with init containers that go on running (KEP-753) without
/// being asked for them.
pub(crate) const NATIVE_SIDECARS: u32 = 29;

impl KindObject for NodeObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "Node",
        group: "",
        versions: &["v1"],
        plural: "nodes",
        provider: Provider::Kubernetes,
        fallback: LAST_GOOD,
    })];

    type Document = KubernetesNode;

    fn name(&self) -> NamespacedName {
        NamespacedName::new("", &self.node.name)
    }

    fn read(_: Kind, node: KubernetesNode, form: Form) -> Read<Self> {
        match form {
            // It asks nothing of the mesh.
            Form::Admission => Read::nothing(),
            Form::Manifest | Form::Live => Self::parse(&node).into(),
        }
    }
}

impl NodeObject {
    fn parse(node: &KubernetesNode) -> Result<Self, FieldError> {
        let labels = node.metadata.labels.as_ref();
        let label = |name: &str| {
            let label = labels.and_then(|labels| labels.get(name));
            label.map_or("", String::as_str).into()
        };
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone());
        Ok(Self {
            can_capture: labels.and_then(|labels| labels.get(EBPF)?.parse().ok()),
            labels: labels.cloned().unwrap_or_default(),
            taints: taints.unwrap_or_default(),
            has_old_kubelet: kubelet_version(node)
                .is_some_and(|version| version < (1, NATIVE_SIDECARS)),
            node: Node {
                addresses: addresses(node),
                name: document::name(&node.metadata)?.into(),
                locality: Locality {
                    region: label(REGION),
                    zone: label(ZONE),
                },
            },
        })
    }
}

/// Major and minor version of the node's kubelet, such as of `v1.29.3+k3s1`.
fn kubelet_version(node: &KubernetesNode) -> Option<(u32, u32)> {
    let info = node.status.as_ref()?.node_info.as_ref()?;
    let mut parts = info.kubelet_version.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The node's addresses; names of hosts and what is wrong are no use.
fn addresses(node: &KubernetesNode) -> Vec<IpAddr> {
    let status = node.status.as_ref();
    let listed = status.and_then(|status| status.addresses.as_ref());
    let of_type = |address: &&NodeAddress| matches!(&*address.type_, "InternalIP" | "ExternalIP");
    let listed = listed.into_iter().flatten().filter(of_type);
    let parsed = listed.filter_map(|address| address.address.parse::<IpAddr>().ok());
    parsed.map(canonical_ip).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeStatus, NodeSystemInfo};

    use super::*;

    #[test]
    fn a_node_is_at_its_addresses_and_not_at_its_names() {
        let node = "metadata: { name: node-1 }\nstatus: { addresses: [\
            { type: InternalIP, address: 10.99.0.1 }, { type: ExternalIP, address: '2001:db8::1' },\
            { type: Hostname, address: 10.99.0.9 }, { type: InternalIP, address: broken }] }";
        let node = serde_saphyr::from_str(node).unwrap();
        let read = NodeObject::read(NodeObject::KIND, node, Form::Live);
        let addresses = read.object.unwrap().node.addresses;
        let expected = ["10.99.0.1", "2001:db8::1"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(addresses, expected);
    }

    #[test]
    fn a_kubelet_is_as_old_as_it_says() {
        for (version, expected) in [
            ("v1.28.15", true),
            ("v1.29.0", false),
            ("v1.29.3+k3s1", false),
            ("v1.27.16-gke.1", true),
            ("v2.0.0", false),
            ("", false),
            ("unknown", false),
        ] {
            let mut node: KubernetesNode =
                serde_saphyr::from_str("metadata: { name: node-1 }").unwrap();
            let info = NodeSystemInfo {
                kubelet_version: version.to_owned(),
                ..NodeSystemInfo::default()
            };
            node.status = Some(NodeStatus {
                node_info: Some(info),
                ..NodeStatus::default()
            });
            let read = NodeObject::read(NodeObject::KIND, node, Form::Live);
            assert_eq!(read.object.unwrap().has_old_kubelet, expected, "{version}");
        }
    }
}
