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
        let checked = |number| parse_port(number).ok_or(InvalidEndpoint::Port(number));
        let ports = message
            .ports
            .into_iter()
            .map(|pair| Ok((checked(pair.service_port)?, checked(pair.target_port)?)));
        let uid = message.workload_uid.as_str();
        Ok(Self {
            key: EndpointKey {
                service: NamespacedName::new(&message.service_namespace, &message.service_name),
                address: parse_address(&message.address)?,
            },
            workload: (!uid.is_empty()).then(|| WorkloadUid::from(uid)),
            ports: ports.collect::<Result<_, InvalidEndpoint>>()?,
            ready: message.ready,
            serves_while_terminating: message.serves_while_terminating,
            node: message.node.into(),
            hints: TopologyHints {
                zones: message.zone_hints.into_iter().map(Into::into).collect(),
                nodes: message.node_hints.into_iter().map(Into::into).collect(),
            },
        })
    }
}

impl From<&Endpoint> for v1::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        let EndpointKey { service, address } = &endpoint.key;
        let texts = |hints: &[Arc<str>]| hints.iter().map(ToString::to_string).collect();
        let ports = endpoint
            .ports
            .iter()
            .map(|(service_port, target_port)| v1::EndpointPort {
                service_port: u32::from(*service_port),
                target_port: u32::from(*target_port),
            });
        Self {
            service_namespace: service.namespace.to_string(),
            service_name: service.name.to_string(),
            address: address_bytes(address),
            workload_uid: endpoint
                .workload
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            ports: ports.collect(),
            ready: endpoint.ready,
            serves_while_terminating: endpoint.serves_while_terminating,
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

    fn any_names() -> impl Strategy<Value = Vec<Arc<str>>> {
        prop::collection::vec("[a-z]{1,4}".prop_map(Arc::from), 0..3)
    }

    proptest! {
        #[test]
        fn an_endpoint_survives_the_wire(
            name in "[a-z]{1,8}",
            octets: [u8; 4],
            uid in prop::option::of("[a-z0-9-]{1,8}"),
            ports in prop::collection::vec((1u16.., 1u16..), 0..4),
            (ready, serves_while_terminating) in any::<(bool, bool)>(),
            node in prop::option::of("[a-z0-9-]{1,8}"),
            (zones, nodes) in (any_names(), any_names()),
        ) {
            let service = NamespacedName::new("shop", &name);
            let endpoint = Endpoint {
                key: EndpointKey { service, address: octets.into() },
                workload: uid.map(|uid| WorkloadUid::from(uid.as_str())),
                ports,
                ready,
                serves_while_terminating,
                node: node.unwrap_or_default().into(),
                hints: TopologyHints { zones, nodes },
            };
            prop_assert_eq!(Endpoint::try_from(v1::Endpoint::from(&endpoint)), Ok(endpoint));
        }
    }
}
