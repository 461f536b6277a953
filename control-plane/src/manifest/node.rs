//! Nodes: where they are.

use k8s_openapi::api::core::v1::Node;
use weft_model::workload::Locality;

use super::FieldError;

/// Well-known labels (<https://kubernetes.io/docs/reference/labels-annotations-taints/>).
const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";

/// A node, as far as the mesh cares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeObject {
    pub(crate) name: String,
    pub(crate) locality: Locality,
}

impl NodeObject {
    /// Reads one.
    ///
    /// # Errors
    /// When it has no name.
    pub(crate) fn parse(node: Node) -> Result<Self, FieldError> {
        let labels = node.metadata.labels.unwrap_or_default();
        let label = |name: &str| labels.get(name).map_or("", String::as_str).into();
        let name = node.metadata.name.filter(|name| !name.is_empty());
        Ok(Self {
            name: name
                .ok_or_else(|| FieldError::missing("metadata.name", "every object has one"))?,
            locality: Locality {
                region: label(REGION),
                zone: label(ZONE),
            },
        })
    }
}
