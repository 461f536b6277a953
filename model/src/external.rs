//! External services: those outside the cluster that are registered with the mesh, by which
//! names and addresses clients reach them, and what is done on the way.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::address::AddressBlock;
use crate::host::{HostPattern, HostSource, RequestedHost};
use crate::name::NamespacedName;

/// Application protocol of an external service's port.
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
    /// The part of the first bytes by which clients of this protocol name their host;
    /// `None` where nothing does.
    pub fn host_source(self) -> Option<HostSource> {
        match self {
            Self::Http => Some(HostSource::HttpAuthority),
            Self::Https | Self::Tls => Some(HostSource::ServerName),
            Self::Tcp => None,
        }
    }
}

/// A port of an external service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExternalPort {
    /// Name of the port; may be empty.
    pub name: Arc<str>,
    /// Port number that clients use.
    pub number: u16,
    /// Protocol that they speak.
    pub protocol: ExternalProtocol,
    /// Port number that the service listens on.
    pub target_port: u16,
}

/// TLS origination: TLS that the proxy speaks for an application that doesn't.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsOrigination {
    /// Server name (SNI) to send; the name that the client asked for when `None`.
    pub server_name: Option<Arc<str>>,
    /// Names of which the server's certificate has to have one; the server name when empty.
    pub subject_alt_names: Vec<Arc<str>>,
    /// Root certificates (X.509, DER) that the server's has to be issued under; the
    /// platform's when empty.
    pub roots: Vec<Arc<[u8]>>,
}

/// A service outside the cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExternalService {
    /// Namespace and name of the ExternalService object.
    pub key: NamespacedName,
    /// Whether it is visible to every namespace, not to its own only: nobody shall be able
    /// to lead the clients of others astray.
    pub is_mesh_wide: bool,
    /// Host names that clients ask for. At least one.
    pub hosts: Vec<HostPattern>,
    /// Address blocks that clients connect to. When empty, it is found by host name.
    pub addresses: Vec<AddressBlock>,
    /// Ports.
    pub ports: Vec<ExternalPort>,
    /// Addresses of its servers. When empty, those that the client connects to, or that DNS
    /// has for the host name.
    pub endpoints: Vec<IpAddr>,
    /// TLS from the proxy to the server, where the application speaks none.
    pub tls: Option<Arc<TlsOrigination>>,
}

/// An external service that a connection is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MatchedExternalService {
    /// The external service.
    pub service: Arc<ExternalService>,
    /// Its port that the connection is for.
    pub port: ExternalPort,
    /// Host name by which it was found, in lower case; `None` when by address.
    pub requested_host: Option<Arc<str>>,
    /// Address that the client connected to.
    original_destination: SocketAddr,
}

/// The address of an external service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ExternalAddress {
    /// One of these addresses.
    Addresses(Vec<SocketAddr>),
    /// An address that DNS has for a name.
    DnsName {
        /// Name to look up.
        name: Arc<str>,
        /// Port at that address.
        port: u16,
    },
}

impl ExternalService {
    fn is_visible_to(&self, client_namespace: &str) -> bool {
        self.is_mesh_wide || *self.key.namespace == *client_namespace
    }

    fn ports_with_number(&self, number: u16) -> impl Iterator<Item = &ExternalPort> {
        self.ports.iter().filter(move |port| port.number == number)
    }

    /// Whether clients find that port of it by a host name from that source.
    fn is_found_by(&self, port: &ExternalPort, source: HostSource) -> bool {
        self.addresses.is_empty() && port.protocol.host_source() == Some(source)
    }
}

impl MatchedExternalService {
    /// The address to connect to.
    pub fn address(&self) -> ExternalAddress {
        let port = self.port.target_port;
        let endpoints = &self.service.endpoints;
        let destination = self.original_destination;
        if !endpoints.is_empty() {
            let same_family = |endpoint: &&IpAddr| endpoint.is_ipv4() == destination.is_ipv4();
            let mut chosen: Vec<_> = endpoints.iter().filter(same_family).collect();
            if chosen.is_empty() {
                chosen.extend(endpoints);
            }
            let addresses = chosen.into_iter().map(|ip| (*ip, port).into());
            return ExternalAddress::Addresses(addresses.collect());
        }
        match &self.requested_host {
            // Whoever asks for a good name at a bad address gets to the good one.
            Some(name) => ExternalAddress::DnsName {
                name: Arc::clone(name),
                port,
            },
            None => ExternalAddress::Addresses(vec![(destination.ip(), port).into()]),
        }
    }

    /// The TLS that the proxy has to speak, and the server name to send; `None` where it
    /// has to speak none.
    pub fn tls_origination(&self) -> Option<(&Arc<TlsOrigination>, Arc<str>)> {
        let tls = self.service.tls.as_ref()?;
        let server_name = tls.server_name.clone().unwrap_or_else(|| self.hostname());
        Some((tls, server_name))
    }

    /// Its host name: the requested one, else the first exact one that it has, else its
    /// first wildcard.
    pub fn hostname(&self) -> Arc<str> {
        let hosts = &self.service.hosts;
        let first = || {
            let exact = hosts.iter().find_map(HostPattern::exact_name);
            exact.cloned().unwrap_or_else(|| {
                let wildcard = hosts.first().map(ToString::to_string);
                wildcard.unwrap_or_default().into()
            })
        };
        self.requested_host.clone().unwrap_or_else(first)
    }
}

/// A look-up of the external service that a client connects to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExternalLookup<'a> {
    /// Namespace of the client.
    pub(crate) client_namespace: &'a str,
    /// Address that the client connected to.
    pub(crate) destination: SocketAddr,
}

impl ExternalLookup<'_> {
    /// The service whose address block is the closest around the destination.
    pub(crate) fn by_address<'s>(
        self,
        services: impl Iterator<Item = &'s Arc<ExternalService>>,
    ) -> Option<MatchedExternalService> {
        self.best_match(services, |service, _| {
            let blocks = service.addresses.iter();
            let blocks = blocks.filter(|block| block.contains(self.destination.ip()));
            blocks.map(|block| block.prefix_length().into()).max()
        })
    }

    /// The service whose host pattern is the closest to the host that the client asks for.
    pub(crate) fn by_host<'s>(
        self,
        services: impl Iterator<Item = &'s Arc<ExternalService>>,
        requested: &RequestedHost,
    ) -> Option<MatchedExternalService> {
        let found = self.best_match(services, |service, port| {
            let specificities = || {
                let hosts = service.hosts.iter();
                hosts.filter_map(|pattern| pattern.specificity_for(&requested.name))
            };
            service
                .is_found_by(port, requested.source)
                .then(|| specificities().max())?
        })?;
        Some(MatchedExternalService {
            requested_host: Some(Arc::clone(&requested.name)),
            ..found
        })
    }

    /// Whether there is any that clients find by a host name.
    pub(crate) fn any_by_host<'s>(
        self,
        mut services: impl Iterator<Item = &'s Arc<ExternalService>>,
    ) -> bool {
        services.any(|service| {
            let mut ports = service.ports_with_number(self.destination.port());
            service.is_visible_to(self.client_namespace)
                && service.addresses.is_empty()
                && ports.any(|port| port.protocol.host_source().is_some())
        })
    }

    /// The client's own namespace counts first, then the higher specificity; of equals,
    /// the first by name.
    fn best_match<'s>(
        self,
        services: impl Iterator<Item = &'s Arc<ExternalService>>,
        specificity: impl Fn(&ExternalService, &ExternalPort) -> Option<usize>,
    ) -> Option<MatchedExternalService> {
        let services = services.filter(|service| service.is_visible_to(self.client_namespace));
        let specificity = &specificity;
        let fitting = services.flat_map(|service| {
            let ports = service.ports_with_number(self.destination.port());
            ports.filter_map(move |port| {
                let is_own = *service.key.namespace == *self.client_namespace;
                Some(((is_own, specificity(service, port)?), service, port))
            })
        });
        let best = fitting.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map(|(_, service, port)| MatchedExternalService {
            service: Arc::clone(service),
            port: port.clone(),
            requested_host: None,
            original_destination: self.destination,
        })
    }
}

#[cfg(test)]
mod tests;
