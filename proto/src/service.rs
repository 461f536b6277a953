//! Services on the wire.

use std::time::Duration;

use weft_model::NamespacedName;
use weft_model::service::{Service, ServiceKind, ServicePort, TrafficDistribution};

use crate::address::{InvalidAddress, address_bytes, parse_address, parse_port};
use crate::v1;

/// The reason why a message is not a service.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidService {
    /// A field that must not be empty is.
    #[error("field {0} is empty")]
    Missing(&'static str),
    /// One of the virtual addresses.
    #[error("field cluster_ip.addresses: {0}")]
    Address(#[from] InvalidAddress),
    /// One of the external addresses.
    #[error("field external_addresses: {0}")]
    ExternalAddress(InvalidAddress),
    /// One of the ports.
    #[error("field ports: {0} is not a port")]
    Port(u32),
}

impl TryFrom<v1::Service> for Service {
    type Error = InvalidService;

    fn try_from(message: v1::Service) -> Result<Self, Self::Error> {
        for (field, value) in [("namespace", &message.namespace), ("name", &message.name)] {
            if value.is_empty() {
                return Err(InvalidService::Missing(field));
            }
        }
        let traffic_distribution = match message.traffic_distribution() {
            v1::TrafficDistribution::Unspecified => None,
            v1::TrafficDistribution::PreferSameZone => Some(TrafficDistribution::PreferSameZone),
            v1::TrafficDistribution::PreferSameNode => Some(TrafficDistribution::PreferSameNode),
        };
        let kind = match message.kind.ok_or(InvalidService::Missing("kind"))? {
            v1::service::Kind::ClusterIp(v1::ClusterIp { addresses }) => {
                let addresses = addresses.iter().map(|bytes| parse_address(bytes));
                ServiceKind::ClusterIp(addresses.collect::<Result<_, _>>()?)
            }
            v1::service::Kind::Headless(v1::Headless {}) => ServiceKind::Headless,
            v1::service::Kind::External(v1::External { hostname }) => {
                ServiceKind::External(hostname.into())
            }
        };
        let ports = message.ports.into_iter().map(|message| {
            let port = parse_port(message.port).ok_or(InvalidService::Port(message.port))?;
            let (name, app_protocol) = (message.name.into(), message.app_protocol.into());
            let node_port = match message.node_port {
                0 => None,
                number => Some(parse_port(number).ok_or(InvalidService::Port(number))?),
            };
            Ok(ServicePort {
                name,
                port,
                app_protocol,
                node_port,
            })
        });
        let external_addresses = message.external_addresses.iter();
        let external_addresses = external_addresses.map(|bytes| parse_address(bytes));
        let affinity = message.session_affinity_seconds;
        Ok(Self {
            key: NamespacedName::new(&message.namespace, &message.name),
            hostname: message.hostname.into(),
            kind,
            ports: ports.collect::<Result<_, InvalidService>>()?,
            is_node_local: message.node_local,
            session_affinity: (affinity != 0).then(|| Duration::from_secs(affinity.into())),
            traffic_distribution,
            external_addresses: external_addresses
                .collect::<Result<_, _>>()
                .map_err(InvalidService::ExternalAddress)?,
            created: message.created,
        })
    }
}

impl From<&Service> for v1::Service {
    fn from(service: &Service) -> Self {
        let kind = match &service.kind {
            ServiceKind::ClusterIp(addresses) => v1::service::Kind::ClusterIp(v1::ClusterIp {
                addresses: addresses.iter().map(address_bytes).collect(),
            }),
            ServiceKind::Headless => v1::service::Kind::Headless(v1::Headless {}),
            ServiceKind::External(hostname) => v1::service::Kind::External(v1::External {
                hostname: hostname.to_string(),
            }),
        };
        let ports = service.ports.iter().map(|port| v1::ServicePort {
            name: port.name.to_string(),
            port: u32::from(port.port),
            app_protocol: port.app_protocol.to_string(),
            node_port: port.node_port.map_or(0, u32::from),
        });
        let affinity = service.session_affinity;
        Self {
            namespace: service.key.namespace.to_string(),
            name: service.key.name.to_string(),
            hostname: service.hostname.to_string(),
            kind: Some(kind),
            ports: ports.collect(),
            node_local: service.is_node_local,
            session_affinity_seconds: affinity.map_or(0, |longest| {
                u32::try_from(longest.as_secs()).unwrap_or(u32::MAX)
            }),
            traffic_distribution: match service.traffic_distribution {
                None => v1::TrafficDistribution::Unspecified,
                Some(TrafficDistribution::PreferSameZone) => {
                    v1::TrafficDistribution::PreferSameZone
                }
                Some(TrafficDistribution::PreferSameNode) => {
                    v1::TrafficDistribution::PreferSameNode
                }
            }
            .into(),
            external_addresses: service
                .external_addresses
                .iter()
                .map(address_bytes)
                .collect(),
            created: service.created,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_kind() -> impl Strategy<Value = ServiceKind> {
        prop_oneof![
            prop::collection::vec(any::<[u8; 4]>(), 0..3)
                .prop_map(|v| ServiceKind::ClusterIp(v.into_iter().map(Into::into).collect())),
            Just(ServiceKind::Headless),
            "[a-z.]{1,12}".prop_map(|name| ServiceKind::External(name.into())),
        ]
    }

    fn any_port() -> impl Strategy<Value = ServicePort> {
        let node_port = prop::option::of(1u16..);
        (1u16.., "[a-z]{0,6}", "[a-z]{0,6}", node_port).prop_map(
            |(port, name, app_protocol, node_port)| ServicePort {
                name: name.into(),
                port,
                app_protocol: app_protocol.into(),
                node_port,
            },
        )
    }

    fn any_distribution() -> impl Strategy<Value = TrafficDistribution> {
        prop_oneof![
            Just(TrafficDistribution::PreferSameZone),
            Just(TrafficDistribution::PreferSameNode),
        ]
    }

    proptest! {
        #[test]
        fn a_service_survives_the_wire(
            name in "[a-z]{1,8}",
            kind in any_kind(),
            is_node_local in any::<bool>(),
            affinity in prop::option::of(1u32..),
            traffic_distribution in prop::option::of(any_distribution()),
            ports in prop::collection::vec(any_port(), 0..4),
            external in prop::collection::vec(any::<[u8; 4]>(), 0..3),
            created in 0i64..,
        ) {
            let key = NamespacedName::new("shop", &name);
            let hostname = format!("{name}.shop.svc").into();
            let service = Service {
                ports,
                is_node_local,
                session_affinity: affinity.map(|seconds| Duration::from_secs(seconds.into())),
                traffic_distribution,
                external_addresses: external.into_iter().map(Into::into).collect(),
                created,
                ..Service::new(key, hostname, kind)
            };
            prop_assert_eq!(Service::try_from(v1::Service::from(&service)), Ok(service));
        }
    }

    #[test]
    fn an_error_names_the_field() {
        let valid = v1::Service {
            namespace: "shop".into(),
            name: "web".into(),
            kind: Some(v1::service::Kind::Headless(v1::Headless {})),
            ..Default::default()
        };
        let error = |message| Service::try_from(message).unwrap_err();
        let kindless = v1::Service {
            kind: None,
            ..valid.clone()
        };
        assert_eq!(error(kindless), InvalidService::Missing("kind"));
        let ports = vec![v1::ServicePort::default()];
        let portless = v1::Service { ports, ..valid };
        assert_eq!(error(portless), InvalidService::Port(0));
    }
}
