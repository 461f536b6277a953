//! Services outside the cluster that the mesh was told of: by which names and addresses
//! clients reach them, and what is done on the way.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use crate::address::AddressBlock;
use crate::route::table::host_specificity;
use crate::service::NamespacedName;

/// What becomes of a workload's connections to what nobody has registered.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum EgressMode {
    /// They go where the application asked.
    #[default]
    AllowAny,
    /// They are refused: only services, pods and external services are reached.
    RegisteredOnly,
}

/// A text that is no egress mode.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not an egress mode; use `AllowAny` or `RegisteredOnly`")]
pub struct InvalidEgressMode(String);

impl FromStr for EgressMode {
    type Err = InvalidEgressMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "AllowAny" => Ok(Self::AllowAny),
            "RegisteredOnly" => Ok(Self::RegisteredOnly),
            _ => Err(InvalidEgressMode(text.to_owned())),
        }
    }
}

impl fmt::Display for EgressMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AllowAny => "AllowAny",
            Self::RegisteredOnly => "RegisteredOnly",
        })
    }
}

/// A DNS name in lower case, or `*.` and a name: any name below that one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HostPattern(Arc<str>);

/// A text that is no host.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a DNS name in lower case, nor `*.` and one")]
pub struct InvalidHostPattern(String);

impl FromStr for HostPattern {
    type Err = InvalidHostPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_label = |label: &str| {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
            (1..=63).contains(&label.len()) && label.chars().all(fits)
        };
        let name = text.strip_prefix("*.").unwrap_or(text);
        let fits = name.len() <= 253 && name.split('.').all(is_label);
        // An address would never match: clients don't ask for one by name.
        match fits && text.parse::<IpAddr>().is_err() {
            true => Ok(Self(text.into())),
            false => Err(InvalidHostPattern(text.to_owned())),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HostPattern {
    /// The one name that it stands for, `None` for many.
    pub fn exact(&self) -> Option<&Arc<str>> {
        (!self.0.starts_with("*.")).then_some(&self.0)
    }

    /// How closely it fits a name, when it does.
    fn specificity_for(&self, name: &str) -> Option<usize> {
        host_specificity(&self.0, name)
    }
}

/// What is spoken on a port of an external service.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ExternalProtocol {
    /// HTTP without TLS, as the application sends it.
    Http,
    /// HTTP over the application's own TLS.
    Https,
    /// The application's own TLS.
    Tls,
    /// Anything.
    Tcp,
}

impl ExternalProtocol {
    /// How clients say whom they want.
    pub fn host_source(self) -> Option<HostSource> {
        match self {
            Self::Http => Some(HostSource::HttpAuthority),
            Self::Https | Self::Tls => Some(HostSource::ServerName),
            Self::Tcp => None,
        }
    }
}

/// How a client says whom it wants.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum HostSource {
    /// By the authority of its HTTP requests.
    HttpAuthority,
    /// By the server name of its ClientHello.
    ServerName,
}

/// A port of an external service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExternalPort {
    /// Its name; may be empty.
    pub name: Arc<str>,
    /// The port that clients use.
    pub number: u16,
    /// What they speak.
    pub protocol: ExternalProtocol,
    /// The port at the other end.
    pub target_port: u16,
}

/// TLS that the proxy speaks for an application that doesn't.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsOrigination {
    /// Whom to ask for; the name that the client asked for when `None`.
    pub server_name: Option<Arc<str>>,
    /// Names of which the server's certificate has to have one; the one that was asked for
    /// when empty.
    pub subject_alt_names: Vec<Arc<str>>,
    /// Roots (X.509, DER) that it has to be from; the platform's when empty.
    pub roots: Vec<Arc<[u8]>>,
}

/// A service outside the cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExternalService {
    /// Its name.
    pub key: NamespacedName,
    /// Whether it is there for every namespace, not for its own only: nobody shall be able
    /// to lead the clients of others astray.
    pub is_mesh_wide: bool,
    /// What clients ask for. At least one.
    pub hosts: Vec<HostPattern>,
    /// Where clients connect to. Found by name when empty.
    pub addresses: Vec<AddressBlock>,
    /// Its ports.
    pub ports: Vec<ExternalPort>,
    /// Where it is; where the client connects to, or what DNS says, when empty.
    pub endpoints: Vec<IpAddr>,
    /// TLS from the proxy on.
    pub tls: Option<Arc<TlsOrigination>>,
}

/// An external service that a connection is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MatchedExternalService {
    /// The service.
    pub service: Arc<ExternalService>,
    /// The port of it.
    pub port: ExternalPort,
    /// The name by which it was found, `None` when by address.
    pub requested_host: Option<Arc<str>>,
    destination: SocketAddr,
}

/// Where an external service is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ExternalAddress {
    /// At one of these.
    Addresses(Vec<SocketAddr>),
    /// Where DNS says that this name is.
    DnsName(Arc<str>, u16),
}

impl ExternalService {
    /// Whether it is there for clients of a namespace.
    fn is_visible_to(&self, client_namespace: &str) -> bool {
        self.is_mesh_wide || *self.key.namespace == *client_namespace
    }

    fn ports_with_number(&self, number: u16) -> impl Iterator<Item = &ExternalPort> {
        self.ports.iter().filter(move |port| port.number == number)
    }
}

impl MatchedExternalService {
    /// Where it is.
    pub fn address(&self) -> ExternalAddress {
        let port = self.port.target_port;
        let endpoints = &self.service.endpoints;
        let dialled = self.destination;
        if !endpoints.is_empty() {
            let of_family = |endpoint: &&IpAddr| endpoint.is_ipv4() == dialled.is_ipv4();
            let mut chosen: Vec<_> = endpoints.iter().filter(of_family).collect();
            if chosen.is_empty() {
                chosen.extend(endpoints);
            }
            let at = chosen.into_iter().map(|endpoint| (*endpoint, port).into());
            return ExternalAddress::Addresses(at.collect());
        }
        match &self.requested_host {
            // Whoever asks for a good name at a bad address gets to the good one.
            Some(name) => ExternalAddress::DnsName(Arc::clone(name), port),
            None => ExternalAddress::Addresses(vec![(dialled.ip(), port).into()]),
        }
    }

    /// The TLS that the proxy has to speak, and to whom.
    pub fn tls_origination(&self) -> Option<(&Arc<TlsOrigination>, Arc<str>)> {
        let tls = self.service.tls.as_ref()?;
        let server_name = tls.server_name.clone().unwrap_or_else(|| self.hostname());
        Some((tls, server_name))
    }

    /// What it is called.
    pub fn hostname(&self) -> Arc<str> {
        let hosts = &self.service.hosts;
        let first = || {
            let exact = hosts.iter().find_map(HostPattern::exact);
            exact.cloned().unwrap_or_else(|| {
                let wildcard = hosts.first().map(ToString::to_string);
                wildcard.unwrap_or_default().into()
            })
        };
        self.requested_host.clone().unwrap_or_else(first)
    }
}

/// The external services for a client that dials an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExternalLookup<'a> {
    /// The client's namespace.
    pub(crate) namespace: &'a str,
    /// The address.
    pub(crate) address: SocketAddr,
}

impl ExternalLookup<'_> {
    /// The one whose addresses are the closest around the address.
    pub(crate) fn by_address<'s>(
        self,
        services: impl Iterator<Item = &'s Arc<ExternalService>>,
    ) -> Option<MatchedExternalService> {
        self.best_match(services, |service, _| {
            let blocks = service.addresses.iter();
            let blocks = blocks.filter(|block| block.contains(self.address.ip()));
            blocks.map(|block| block.prefix_length().into()).max()
        })
    }

    /// The one whose name is the closest to that which the client asks for.
    pub(crate) fn by_host<'s>(
        self,
        services: impl Iterator<Item = &'s Arc<ExternalService>>,
        by: HostSource,
        name: &str,
    ) -> Option<MatchedExternalService> {
        let found = self.best_match(services, |service, port| {
            let hosts = service.hosts.iter();
            is_found_by_host(service, port, by)
                .then(|| hosts.filter_map(|host| host.specificity_for(name)).max())?
        })?;
        Some(MatchedExternalService {
            requested_host: Some(name.to_ascii_lowercase().into()),
            ..found
        })
    }

    /// Whether there is any that clients find by such a name.
    pub(crate) fn any_by_host<'s>(
        self,
        mut services: impl Iterator<Item = &'s Arc<ExternalService>>,
    ) -> bool {
        services.any(|service| {
            let mut ports = service.ports_with_number(self.address.port());
            service.is_visible_to(self.namespace)
                && service.addresses.is_empty()
                && ports.any(|port| port.protocol.host_source().is_some())
        })
    }

    /// The client's own namespace counts first, then what fits best; of equals, the first
    /// by name.
    fn best_match<'s>(
        self,
        services: impl Iterator<Item = &'s Arc<ExternalService>>,
        fits: impl Fn(&ExternalService, &ExternalPort) -> Option<usize>,
    ) -> Option<MatchedExternalService> {
        let services = services.filter(|service| service.is_visible_to(self.namespace));
        let fits = &fits;
        let fitting = services.flat_map(|service| {
            let ports = service.ports_with_number(self.address.port());
            ports.filter_map(move |port| {
                let is_own = *service.key.namespace == *self.namespace;
                Some(((is_own, fits(service, port)?), service, port))
            })
        });
        let best = fitting.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map(|(_, service, port)| MatchedExternalService {
            service: Arc::clone(service),
            port: port.clone(),
            requested_host: None,
            destination: self.address,
        })
    }
}

fn is_found_by_host(service: &ExternalService, port: &ExternalPort, by: HostSource) -> bool {
    service.addresses.is_empty() && port.protocol.host_source() == Some(by)
}

#[cfg(test)]
mod tests;
