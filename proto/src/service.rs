//! Services on the wire.

use weft_model::NamespacedName;
use weft_model::service::{Service, ServiceKind, ServicePort};

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
            Ok(ServicePort {
                name,
                port,
                app_protocol,
            })
        });
        Ok(Self {
            key: NamespacedName::new(&message.namespace, &message.name),
            hostname: message.hostname.into(),
            kind,
            ports: ports.collect::<Result<_, InvalidService>>()?,
            is_node_local: message.node_local,
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
        });
        Self {
            namespace: service.key.namespace.to_string(),
            name: service.key.name.to_string(),
            hostname: service.hostname.to_string(),
            kind: Some(kind),
            ports: ports.collect(),
            node_local: service.is_node_local,
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

    proptest! {
        #[test]
        fn a_service_survives_the_wire(
            name in "[a-z]{1,8}",
            kind in any_kind(),
            is_node_local in any::<bool>(),
            ports in prop::collection::vec((1u16.., "[a-z]{0,6}", "[a-z]{0,6}"), 0..4),
        ) {
            let ports = ports.into_iter().map(|(port, name, app_protocol)| ServicePort {
                name: name.into(),
                port,
                app_protocol: app_protocol.into(),
            });
            let key = NamespacedName::new("shop", &name);
            let hostname = format!("{name}.shop.svc").into();
            let service = Service { key, hostname, kind, ports: ports.collect(), is_node_local };
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
