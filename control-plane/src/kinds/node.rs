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
}

/// The label that says whether a node's agent can capture.
pub(crate) const EBPF: &str = "weft.dev/ebpf";

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
}
