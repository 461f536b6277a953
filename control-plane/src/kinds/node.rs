//! Nodes: where they are.

use k8s_openapi::api::core::v1::Node;
use weft_model::NamespacedName;
use weft_model::workload::Locality;

use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, Provider};
use super::kind_object::{Form, KindObject, Read};

/// Well-known labels (<https://kubernetes.io/docs/reference/labels-annotations-taints/>).
const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";

/// A node, as far as the mesh cares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeObject {
    pub(crate) name: String,
    pub(crate) locality: Locality,
}

impl KindObject for NodeObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "Node",
        group: "",
        versions: &["v1"],
        plural: "nodes",
        provider: Provider::Kubernetes,
        fallback: "",
    })];

    type Document = Node;

    fn name(&self) -> NamespacedName {
        NamespacedName::new("", &self.name)
    }

    fn read(_: Kind, node: Node, form: Form) -> Read<Self> {
        match form {
            // It asks nothing of the mesh.
            Form::Admission => Read::nothing(),
            Form::Manifest | Form::Live => Self::parse(&node).into(),
        }
    }
}

impl NodeObject {
    fn parse(node: &Node) -> Result<Self, FieldError> {
        let labels = node.metadata.labels.as_ref();
        let label = |name: &str| {
            let label = labels.and_then(|labels| labels.get(name));
            label.map_or("", String::as_str).into()
        };
        Ok(Self {
            name: document::name(&node.metadata)?.to_owned(),
            locality: Locality {
                region: label(REGION),
                zone: label(ZONE),
            },
        })
    }
}
