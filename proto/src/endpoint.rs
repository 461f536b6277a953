//! Endpoints on the wire.

use std::sync::Arc;

use weft_model::NamespacedName;
use weft_model::service::{Endpoint, EndpointKey, TopologyHints};
use weft_model::workload::WorkloadUid;

use crate::address::{InvalidAddress, address_bytes, parse_address, parse_port};
use crate::v1;

/// The reason why a message is not an endpoint.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// A field that must not be empty is.
    #[error("field {0} is empty")]
    Missing(&'static str),
    /// Its address.
    #[error("field address: {0}")]
    Address(#[from] InvalidAddress),
    /// One of the ports.
    #[error("field ports: {0} is not a port")]
    Port(u32),
}

impl TryFrom<v1::Endpoint> for Endpoint {
    type Error = InvalidEndpoint;

    fn try_from(message: v1::Endpoint) -> Result<Self, Self::Error> {
        for (field, value) in [
            ("service_namespace", &message.service_namespace),
            ("service_name", &message.service_name),
        ] {
            if value.is_empty() {
                return Err(InvalidEndpoint::Missing(field));
            }
        }
        let ports = ports(message.ports)?;
        // An older control plane says it of all ports together.
        let terminating_ports = match message.serves_while_terminating {
            true if message.terminating_ports.is_empty() => ports.clone(),
            _ => self::ports(message.terminating_ports)?,
        };
        let uid = message.workload_uid.as_str();
        Ok(Self {
            key: EndpointKey {
                service: NamespacedName::new(&message.service_namespace, &message.service_name),
                address: parse_address(&message.address)?,
            },
            workload: (!uid.is_empty()).then(|| WorkloadUid::from(uid)),
            ports,
            ready: message.ready,
            terminating_ports,
            node: message.node.into(),
            hints: TopologyHints {
                zones: message.zone_hints.into_iter().map(Into::into).collect(),
                nodes: message.node_hints.into_iter().map(Into::into).collect(),
            },
        })
    }
}

fn ports(pairs: Vec<v1::EndpointPort>) -> Result<Vec<(u16, u16)>, InvalidEndpoint> {
    let checked = |number| parse_port(number).ok_or(InvalidEndpoint::Port(number));
    let pairs = pairs.into_iter();
    pairs
        .map(|pair| Ok((checked(pair.service_port)?, checked(pair.target_port)?)))
        .collect()
}

fn pairs(ports: &[(u16, u16)]) -> Vec<v1::EndpointPort> {
    let pair = |(service_port, target_port): &(u16, u16)| v1::EndpointPort {
        service_port: u32::from(*service_port),
        target_port: u32::from(*target_port),
    };
    ports.iter().map(pair).collect()
}

impl From<&Endpoint> for v1::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        let EndpointKey { service, address } = &endpoint.key;
        let texts = |hints: &[Arc<str>]| hints.iter().map(ToString::to_string).collect();
        let terminating = &endpoint.terminating_ports;
        let mut ports = endpoint.ports.iter();
        Self {
            service_namespace: service.namespace.to_string(),
            service_name: service.name.to_string(),
            address: address_bytes(address),
            workload_uid: endpoint
                .workload
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            serves_while_terminating: !terminating.is_empty()
                && ports.all(|pair| terminating.contains(pair)),
            ports: pairs(&endpoint.ports),
            ready: endpoint.ready,
            terminating_ports: pairs(terminating),
            node: endpoint.node.to_string(),
            zone_hints: texts(&endpoint.hints.zones),
            node_hints: texts(&endpoint.hints.nodes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_ports() -> impl Strategy<Value = Vec<(u16, u16)>> {
        prop::collection::vec((1u16.., 1u16..), 0..4)
    }

    fn any_names() -> impl Strategy<Value = Vec<Arc<str>>> {
        prop::collection::vec("[a-z]{1,4}".prop_map(Arc::from), 0..3)
    }

    proptest! {
        #[test]
        fn an_endpoint_survives_the_wire(
            name in "[a-z]{1,8}",
            octets: [u8; 4],
            uid in prop::option::of("[a-z0-9-]{1,8}"),
            (ports, terminating_ports) in (any_ports(), any_ports()),
            ready: bool,
            node in prop::option::of("[a-z0-9-]{1,8}"),
            (zones, nodes) in (any_names(), any_names()),
        ) {
            let service = NamespacedName::new("shop", &name);
            let endpoint = Endpoint {
                key: EndpointKey { service, address: octets.into() },
                workload: uid.map(|uid| WorkloadUid::from(uid.as_str())),
                ports,
                ready,
                terminating_ports,
                node: node.unwrap_or_default().into(),
                hints: TopologyHints { zones, nodes },
            };
            prop_assert_eq!(Endpoint::try_from(v1::Endpoint::from(&endpoint)), Ok(endpoint));
        }
    }

    #[test]
    fn what_an_older_control_plane_says_of_an_endpoint_holds_for_all_its_ports() {
        let key = EndpointKey {
            service: NamespacedName::new("shop", "web"),
            address: [10, 0, 0, 1].into(),
        };
        let endpoint = Endpoint {
            ports: vec![(80, 8080), (81, 8081)],
            ..Endpoint::new(key)
        };
        let older = v1::Endpoint {
            serves_while_terminating: true,
            ..v1::Endpoint::from(&endpoint)
        };
        let read = Endpoint::try_from(older).unwrap();
        assert_eq!(read.terminating_ports, endpoint.ports);
        // An older agent takes what it is told of all of them.
        let mut some = read;
        assert!(v1::Endpoint::from(&some).serves_while_terminating);
        some.terminating_ports.pop();
        assert!(!v1::Endpoint::from(&some).serves_while_terminating);
    }
}
