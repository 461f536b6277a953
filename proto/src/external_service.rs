//! External services on the wire.

use std::sync::Arc;

use weft_model::NamespacedName;
use weft_model::external::{ExternalPort, ExternalProtocol, ExternalService, TlsOrigination};
use weft_model::host::InvalidHostPattern;

use crate::address::{InvalidAddress, address_bytes, parse_address, parse_port};
use crate::v1;

/// The reason why a message is not an external service.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidExternalService {
    /// A field that must not be empty is.
    #[error("field {0} is empty")]
    Missing(&'static str),
    /// One of the hosts.
    #[error("field hosts: {0}")]
    Host(#[from] InvalidHostPattern),
    /// One of the addresses or endpoints.
    #[error("field {0}: {1}")]
    Address(&'static str, InvalidAddress),
    /// One of the ports.
    #[error("field ports: {0} is not a port")]
    Port(u32),
    /// A protocol that this version doesn't know.
    #[error("field ports.protocol has a value that this version doesn't know: {0}")]
    Protocol(i32),
}

use InvalidExternalService::{Address, Missing, Port, Protocol};

impl TryFrom<v1::ExternalService> for ExternalService {
    type Error = InvalidExternalService;

    fn try_from(message: v1::ExternalService) -> Result<Self, Self::Error> {
        for (field, is_empty) in [
            ("namespace", message.namespace.is_empty()),
            ("name", message.name.is_empty()),
            ("hosts", message.hosts.is_empty()),
            ("ports", message.ports.is_empty()),
        ] {
            if is_empty {
                return Err(Missing(field));
            }
        }
        let hosts = message.hosts.iter().map(|host| host.parse());
        let blocks = message.addresses.into_iter().map(|block| {
            let block = v1::AddressBlock {
                network: block.network,
                prefix_length: block.prefix_length,
            };
            let block = block.try_into();
            block.map_err(|error| Address("addresses", error))
        });
        let endpoints = message.endpoints.iter();
        let endpoints = endpoints
            .map(|bytes| parse_address(bytes).map_err(|error| Address("endpoints", error)));
        Ok(Self {
            key: NamespacedName::new(&message.namespace, &message.name),
            is_mesh_wide: message.mesh_wide,
            hosts: hosts.collect::<Result<_, _>>()?,
            addresses: blocks.collect::<Result<_, _>>()?,
            ports: message
                .ports
                .into_iter()
                .map(external_port)
                .collect::<Result<_, _>>()?,
            endpoints: endpoints.collect::<Result<_, _>>()?,
            tls: message.tls.map(|tls| Arc::new(tls.into())),
        })
    }
}

fn external_port(message: v1::ExternalPort) -> Result<ExternalPort, InvalidExternalService> {
    let protocol = match message.protocol() {
        v1::ExternalProtocol::Http => ExternalProtocol::Http,
        v1::ExternalProtocol::Https => ExternalProtocol::Https,
        v1::ExternalProtocol::Tls => ExternalProtocol::Tls,
        v1::ExternalProtocol::Tcp => ExternalProtocol::Tcp,
        v1::ExternalProtocol::Unspecified => return Err(Protocol(message.protocol)),
    };
    let checked = |number| parse_port(number).ok_or(Port(number));
    Ok(ExternalPort {
        name: message.name.into(),
        number: checked(message.number)?,
        protocol,
        target_port: checked(message.target_port)?,
    })
}

impl From<v1::TlsOrigination> for TlsOrigination {
    fn from(message: v1::TlsOrigination) -> Self {
        let name = message.server_name;
        let names = message.subject_alt_names.into_iter();
        Self {
            server_name: (!name.is_empty()).then(|| name.into()),
            subject_alt_names: names.map(Into::into).collect(),
            roots: message.roots.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<&ExternalService> for v1::ExternalService {
    fn from(service: &ExternalService) -> Self {
        let addresses = service.addresses.iter().map(|block| v1::ExternalBlock {
            network: address_bytes(&block.network()),
            prefix_length: block.prefix_length().into(),
        });
        let ports = service.ports.iter().map(|port| v1::ExternalPort {
            name: port.name.to_string(),
            number: port.number.into(),
            protocol: match port.protocol {
                ExternalProtocol::Http => v1::ExternalProtocol::Http,
                ExternalProtocol::Https => v1::ExternalProtocol::Https,
                ExternalProtocol::Tls => v1::ExternalProtocol::Tls,
                ExternalProtocol::Tcp => v1::ExternalProtocol::Tcp,
            }
            .into(),
            target_port: port.target_port.into(),
        });
        let tls = service.tls.as_ref().map(|tls| v1::TlsOrigination {
            server_name: tls.server_name.as_deref().unwrap_or_default().to_owned(),
            subject_alt_names: tls
                .subject_alt_names
                .iter()
                .map(ToString::to_string)
                .collect(),
            roots: tls.roots.iter().map(|root| root.to_vec()).collect(),
        });
        Self {
            namespace: service.key.namespace.to_string(),
            name: service.key.name.to_string(),
            mesh_wide: service.is_mesh_wide,
            hosts: service.hosts.iter().map(ToString::to_string).collect(),
            addresses: addresses.collect(),
            ports: ports.collect(),
            endpoints: service.endpoints.iter().map(address_bytes).collect(),
            tls,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn valid() -> v1::ExternalService {
        v1::ExternalService {
            namespace: "shop".into(),
            name: "pay".into(),
            hosts: vec!["pay.example".into()],
            ports: vec![v1::ExternalPort {
                name: "".into(),
                number: 443,
                protocol: v1::ExternalProtocol::Tls.into(),
                target_port: 443,
            }],
            ..Default::default()
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(ExternalService::try_from(valid()).is_ok());
        let refused = |change: fn(&mut v1::ExternalService)| {
            let mut message = valid();
            change(&mut message);
            ExternalService::try_from(message).unwrap_err().to_string()
        };
        for (error, field) in [
            (refused(|message| message.name.clear()), "name"),
            (refused(|message| message.hosts.clear()), "hosts"),
            (refused(|message| message.ports.clear()), "ports"),
            (refused(|message| message.hosts[0] = "*".into()), "hosts"),
            (
                refused(|message| message.endpoints = vec![vec![1]]),
                "endpoints",
            ),
            (refused(|message| message.ports[0].number = 0), "ports"),
            (
                refused(|message| message.ports[0].target_port = 70_000),
                "70000",
            ),
            (
                refused(|message| message.ports[0].protocol = 0),
                "ports.protocol",
            ),
            (
                refused(|message| message.ports[0].protocol = 9),
                "ports.protocol",
            ),
            (
                refused(|message| {
                    let (network, prefix_length) = (vec![10, 0, 0, 1], 8);
                    let block = v1::ExternalBlock {
                        network,
                        prefix_length,
                    };
                    message.addresses = vec![block];
                }),
                "addresses",
            ),
        ] {
            assert!(error.contains(field), "{error}");
        }
    }

    proptest! {
        #[test]
        fn an_external_service_survives_the_wire(
            host in "(\\*\\.)?[a-z]{1,9}(\\.[a-z]{1,9}){0,2}",
            bits: [u32; 2],
            ports in prop::collection::vec((1u16.., 0usize..4, 1u16..), 1..3),
            tls in prop::option::of((prop::option::of("[a-z]{1,9}"), prop::collection::vec("[a-z]{1,9}", 0..2), prop::collection::vec(any::<[u8; 4]>(), 0..2))),
            is_mesh_wide: bool,
        ) {
            use ExternalProtocol::{Http, Https, Tcp, Tls};
            let [block, endpoint] = bits.map(|bits| IpAddr::V4(bits.into()));
            let service = ExternalService {
                key: NamespacedName::new("shop", "pay"),
                is_mesh_wide,
                hosts: vec![host.parse().unwrap()],
                addresses: vec![block.to_string().parse().unwrap()],
                ports: ports.into_iter().map(|(number, protocol, target_port)| ExternalPort {
                    name: "p".into(), number, protocol: [Http, Https, Tcp, Tls][protocol], target_port,
                }).collect(),
                endpoints: vec![endpoint],
                tls: tls.map(|(server_name, names, roots)| Arc::new(TlsOrigination {
                    server_name: server_name.map(Into::into),
                    subject_alt_names: names.into_iter().map(Into::into).collect(),
                    roots: roots.iter().map(|root| root.as_slice().into()).collect(),
                })),
            };
            let message = v1::ExternalService::from(&service);
            prop_assert_eq!(ExternalService::try_from(message), Ok(service));
        }
    }
}
