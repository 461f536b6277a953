//! Nodes on the wire.

use weft_model::node::Node;
use weft_model::workload::Locality;

use crate::address::{InvalidAddress, address_bytes, parse_address};
use crate::v1;

/// The reason why a message is not a node.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidNode {
    /// A field that must not be empty is.
    #[error("field {0} is empty")]
    Missing(&'static str),
    /// One of the addresses.
    #[error("field addresses: {0}")]
    Address(#[from] InvalidAddress),
}

impl TryFrom<v1::Node> for Node {
    type Error = InvalidNode;

    fn try_from(message: v1::Node) -> Result<Self, Self::Error> {
        if message.name.is_empty() {
            return Err(InvalidNode::Missing("name"));
        }
        let addresses = message.addresses.iter().map(|bytes| parse_address(bytes));
        Ok(Self {
            addresses: addresses.collect::<Result<_, _>>()?,
            name: message.name.into(),
            locality: Locality {
                region: message.region.into(),
                zone: message.zone.into(),
            },
        })
    }
}

impl From<&Node> for v1::Node {
    fn from(node: &Node) -> Self {
        Self {
            name: node.name.to_string(),
            region: node.locality.region.to_string(),
            zone: node.locality.zone.to_string(),
            addresses: node.addresses.iter().map(address_bytes).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_node_survives_the_wire(
            name in "[a-z]{1,8}", region in "[a-z]{0,4}", zone in "[a-z]{0,4}",
            addresses in prop::collection::vec(any::<[u8; 4]>(), 0..3),
        ) {
            let node = Node {
                name: name.into(),
                locality: Locality { region: region.into(), zone: zone.into() },
                addresses: addresses.into_iter().map(Into::into).collect(),
            };
            prop_assert_eq!(Node::try_from(v1::Node::from(&node)), Ok(node));
        }
    }

    #[test]
    fn a_node_without_a_name_is_none() {
        let nameless = Node::try_from(v1::Node::default());
        assert_eq!(nameless, Err(InvalidNode::Missing("name")));
    }
}
