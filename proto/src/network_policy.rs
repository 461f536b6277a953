//! NetworkPolicies on the wire, and workloads' part in them.

use weft_model::address::AddressBlock;
use weft_model::name::NamespacedName;
use weft_model::network_policy::{NetworkPolicy, PolicyPeer, PolicyPort, PolicyRule};
use weft_model::workload::PolicyMembership;

use crate::address::{InvalidAddress, address_bytes, parse_port};
use crate::v1;
use crate::v1::policy_peer::Peer;
use crate::v1::policy_port::Port;

/// The reason why a message is not a NetworkPolicy. Nothing of one is left out: a rule that
/// lost a peer or a port would admit all of them.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidNetworkPolicy {
    /// A field that must not be empty is.
    #[error("field {0} is empty")]
    Missing(&'static str),
    /// One of the peers' blocks.
    #[error("field peers.block: {0}")]
    Block(#[from] InvalidAddress),
    /// A port, or the end of a range of ports.
    #[error("field ports: {0} is not a port")]
    Port(u32),
}

use InvalidNetworkPolicy::Missing;

impl TryFrom<v1::NetworkPolicy> for NetworkPolicy {
    type Error = InvalidNetworkPolicy;

    fn try_from(message: v1::NetworkPolicy) -> Result<Self, Self::Error> {
        for (field, value) in [("namespace", &message.namespace), ("name", &message.name)] {
            if value.is_empty() {
                return Err(Missing(field));
            }
        }
        let ingress = message.ingress.into_iter().map(rule);
        let egress = message.egress.into_iter().map(rule);
        Ok(Self {
            key: NamespacedName::new(&message.namespace, &message.name),
            ingress: ingress.collect::<Result<_, _>>()?,
            egress: egress.collect::<Result<_, _>>()?,
        })
    }
}

fn rule(message: v1::PolicyRule) -> Result<PolicyRule, InvalidNetworkPolicy> {
    let peers = message.peers.into_iter().map(peer);
    let ports = message.ports.into_iter().map(port);
    Ok(PolicyRule {
        peers: peers.collect::<Result<_, _>>()?,
        ports: ports.collect::<Result<_, _>>()?,
    })
}

fn peer(message: v1::PolicyPeer) -> Result<PolicyPeer, InvalidNetworkPolicy> {
    match message.peer.ok_or(Missing("peers.peer"))? {
        Peer::Block(message) => {
            let except = message.except.into_iter().map(block);
            Ok(PolicyPeer::Block {
                block: block(message.block.ok_or(Missing("peers.block"))?)?,
                except: except.collect::<Result<_, _>>()?,
            })
        }
        Peer::Selector(selector) => Ok(PolicyPeer::Pods(selector.into())),
    }
}

pub(crate) fn block(message: v1::PolicyNetwork) -> Result<AddressBlock, InvalidAddress> {
    let message = v1::AddressBlock {
        network: message.network,
        prefix_length: message.prefix_length,
    };
    message.try_into()
}

fn port(message: v1::PolicyPort) -> Result<PolicyPort, InvalidNetworkPolicy> {
    match message.port.ok_or(Missing("ports.port"))? {
        Port::Range(range) => Ok(PolicyPort::Range(
            checked(range.first)?,
            checked(range.last)?,
        )),
        Port::Name(name) => Ok(PolicyPort::Name(name.into())),
    }
}

fn checked(number: u32) -> Result<u16, InvalidNetworkPolicy> {
    parse_port(number).ok_or(InvalidNetworkPolicy::Port(number))
}

impl From<&NetworkPolicy> for v1::NetworkPolicy {
    fn from(policy: &NetworkPolicy) -> Self {
        let rules = |rules: &[PolicyRule]| rules.iter().map(v1::PolicyRule::from).collect();
        Self {
            namespace: policy.key.namespace.to_string(),
            name: policy.key.name.to_string(),
            ingress: rules(&policy.ingress),
            egress: rules(&policy.egress),
        }
    }
}

impl From<&PolicyRule> for v1::PolicyRule {
    fn from(rule: &PolicyRule) -> Self {
        let peers = rule.peers.iter().map(|peer| match peer {
            PolicyPeer::Block { block, except } => Peer::Block(v1::PolicyBlock {
                block: Some(block.into()),
                except: except.iter().map(v1::PolicyNetwork::from).collect(),
            }),
            PolicyPeer::Pods(selector) => Peer::Selector(selector.to_string()),
        });
        let ports = rule.ports.iter().map(|port| match port {
            PolicyPort::Range(first, last) => Port::Range(v1::PortRange {
                first: (*first).into(),
                last: (*last).into(),
            }),
            PolicyPort::Name(name) => Port::Name(name.to_string()),
        });
        Self {
            peers: peers
                .map(|peer| v1::PolicyPeer { peer: Some(peer) })
                .collect(),
            ports: ports
                .map(|port| v1::PolicyPort { port: Some(port) })
                .collect(),
        }
    }
}

impl From<&AddressBlock> for v1::PolicyNetwork {
    fn from(block: &AddressBlock) -> Self {
        Self {
            network: address_bytes(&block.network()),
            prefix_length: block.prefix_length().into(),
        }
    }
}

/// The part of a workload of that namespace in NetworkPolicies; `Err` with what is no port.
pub(crate) fn membership(
    message: v1::PolicyMembership,
    namespace: &str,
) -> Result<PolicyMembership, u32> {
    let policies = |names: Vec<String>| {
        let names = names.iter();
        names
            .map(|name| NamespacedName::new(namespace, name))
            .collect()
    };
    let ports = message.ports.into_iter().map(|port| {
        let number = parse_port(port.number).ok_or(port.number)?;
        Ok::<_, u32>((port.name.into(), number))
    });
    let selectors = message.selectors.into_iter();
    let mut selectors: Vec<_> = selectors.map(Into::into).collect();
    selectors.sort_unstable();
    Ok(PolicyMembership {
        ingress: policies(message.ingress),
        egress: policies(message.egress),
        selectors,
        ports: ports.collect::<Result<_, _>>()?,
    })
}

/// That part on the wire; nothing where there is none.
pub(crate) fn membership_message(membership: &PolicyMembership) -> Option<v1::PolicyMembership> {
    if *membership == PolicyMembership::default() {
        return None;
    }
    let names = |policies: &[NamespacedName]| {
        let names = policies.iter().map(|policy| policy.name.to_string());
        names.collect()
    };
    let ports = membership.ports.iter().map(|(name, number)| v1::NamedPort {
        name: name.to_string(),
        number: (*number).into(),
    });
    Some(v1::PolicyMembership {
        ingress: names(&membership.ingress),
        egress: names(&membership.egress),
        selectors: membership
            .selectors
            .iter()
            .map(ToString::to_string)
            .collect(),
        ports: ports.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn any_block()(octets: [u8; 4], length in 0u8..=32) -> AddressBlock {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            let network = std::net::Ipv4Addr::from(u32::from_be_bytes(octets) & mask);
            AddressBlock::new(network.into(), length).unwrap()
        }
    }

    fn any_peer() -> impl Strategy<Value = PolicyPeer> {
        let except = prop::collection::vec(any_block(), 0..3);
        prop_oneof![
            (any_block(), except).prop_map(|(block, except)| PolicyPeer::Block { block, except }),
            "[a-z=]{1,8}".prop_map(|selector| PolicyPeer::Pods(selector.into())),
        ]
    }

    fn any_port() -> impl Strategy<Value = PolicyPort> {
        prop_oneof![
            (1u16.., 1u16..).prop_map(|(first, last)| PolicyPort::Range(first, last)),
            "[a-z]{1,8}".prop_map(|name| PolicyPort::Name(name.into())),
        ]
    }

    fn any_rules() -> impl Strategy<Value = Vec<PolicyRule>> {
        let peers = prop::collection::vec(any_peer(), 0..3);
        let ports = prop::collection::vec(any_port(), 0..3);
        let rule = (peers, ports).prop_map(|(peers, ports)| PolicyRule { peers, ports });
        prop::collection::vec(rule, 0..3)
    }

    proptest! {
        #[test]
        fn a_policy_survives_the_wire(
            name in "[a-z]{1,8}", ingress in any_rules(), egress in any_rules(),
        ) {
            let key = NamespacedName::new("shop", &name);
            let policy = NetworkPolicy { key, ingress, egress };
            prop_assert_eq!(NetworkPolicy::try_from(v1::NetworkPolicy::from(&policy)), Ok(policy));
        }
    }

    /// A rule without a peer or a port would be one for all.
    #[test]
    fn a_peer_or_a_port_that_is_unknown_refuses_the_whole_policy() {
        let with = |rule: v1::PolicyRule| {
            NetworkPolicy::try_from(v1::NetworkPolicy {
                namespace: "shop".into(),
                name: "web".into(),
                ingress: vec![rule],
                egress: vec![],
            })
        };
        assert!(with(v1::PolicyRule::default()).is_ok());
        let unknown = v1::PolicyRule {
            peers: vec![v1::PolicyPeer { peer: None }],
            ports: vec![],
        };
        assert_eq!(with(unknown), Err(Missing("peers.peer")));
        for (port, error) in [
            (None, Missing("ports.port")),
            (
                Some(Port::Range(v1::PortRange {
                    first: 1,
                    last: 70_000,
                })),
                InvalidNetworkPolicy::Port(70_000),
            ),
        ] {
            let rule = v1::PolicyRule {
                peers: vec![],
                ports: vec![v1::PolicyPort { port }],
            };
            assert_eq!(with(rule), Err(error));
        }
    }
}
