//! What a connection is: who opened it, who serves it, and what protects it. Known before
//! its first byte, and the same for metrics, access log and `/connections`.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;
use weft_model::mesh::{Candidate, Transport};
use weft_model::service::Service;
use weft_model::workload::Workload;
use weft_model::{NamespacedName, OriginalDestination, SpiffeId};

/// Which side of the local pod a connection is on.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    /// The pod's application opened it.
    Outbound,
    /// It came to the pod.
    Inbound,
}

impl Direction {
    /// As metrics and the access log write it.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

/// Where a connection goes, seen from the node.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Hop {
    /// Both ends are in the mesh, on different nodes.
    CrossNode,
    /// Both ends are in the mesh, on this node.
    SameNode,
    /// One end is outside the mesh.
    Outside,
}

impl Hop {
    /// As the access log writes it, under the key `path`.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::CrossNode => "cross-node",
            Self::SameNode => "same-node",
            Self::Outside => "outside",
        }
    }
}

/// Protection of a connection between the two ends' proxies.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Security {
    /// Mutual TLS between the proxies.
    MutualTls,
    /// Nothing on a wire: handed over inside this process, both identities known.
    SameNode,
    /// TLS to an external service that has proven its name.
    Tls,
    /// Nothing.
    Plaintext,
}

impl Security {
    /// As the access log writes it.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::SameNode => "same_node",
            Self::Tls => "tls",
            Self::Plaintext => "plaintext",
        }
    }

    /// Whether the identities of both ends are known for certain.
    #[must_use]
    pub(crate) fn is_mutual(self) -> bool {
        match self {
            Self::MutualTls | Self::SameNode => true,
            Self::Tls | Self::Plaintext => false,
        }
    }
}

/// One end of a connection, as far as it is known.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub(crate) struct Peer {
    /// Its address.
    pub address: Option<SocketAddr>,
    /// The identity that it proved, or that this process vouches for.
    #[serde(serialize_with = "as_text")]
    pub identity: Option<SpiffeId>,
    /// The pod, where it is one.
    #[serde(skip)]
    pub workload: Option<Arc<Workload>>,
    /// The pod's name.
    pub pod: Option<Arc<str>>,
    /// The pod's namespace.
    pub namespace: Option<String>,
}

impl Peer {
    /// An end that is a pod.
    pub(crate) fn from_workload(workload: &Arc<Workload>, address: Option<SocketAddr>) -> Self {
        Self {
            address,
            identity: None,
            pod: Some(Arc::clone(&workload.name)),
            namespace: Some(workload.namespace().to_owned()),
            workload: Some(Arc::clone(workload)),
        }
    }

    /// An end of which the address is known, and perhaps the pod.
    pub(crate) fn from_address(workload: Option<&Arc<Workload>>, address: SocketAddr) -> Self {
        match workload {
            Some(workload) => Self::from_workload(workload, Some(address)),
            None => Self {
                address: Some(address),
                ..Self::default()
            },
        }
    }

    /// The same end with its identity, which it has proven.
    #[must_use]
    pub(crate) fn with_identity(self, identity: SpiffeId) -> Self {
        Self {
            identity: Some(identity),
            ..self
        }
    }
}

/// A connection, as far as it is known before its first byte.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ConnectionInfo {
    /// The local pod's side.
    pub direction: Direction,
    /// Where it goes, seen from the node.
    #[serde(rename = "path")]
    pub hop: Hop,
    /// Its protection.
    pub security: Security,
    /// The end that opened it.
    pub source: Peer,
    /// The end that serves it.
    pub destination: Peer,
    /// The service that was asked for.
    #[serde(serialize_with = "as_text")]
    pub service: Option<NamespacedName>,
    /// The service's DNS name.
    pub service_hostname: Option<Arc<str>>,
    /// The address that the application dialled.
    pub original_destination: Option<SocketAddr>,
    /// Kubelet asks how the pod is.
    #[serde(skip)]
    pub is_probe: bool,
}

impl ConnectionInfo {
    /// A connection out of a pod, as far as it is decided: without `original` it was not
    /// captured, without `candidate` no endpoint is chosen yet.
    pub(crate) fn outbound(
        source: &Arc<Workload>,
        client: SocketAddr,
        original: Option<OriginalDestination>,
        candidate: Option<&Candidate>,
        service: Option<&Service>,
    ) -> Self {
        let original = original.map(OriginalDestination::address);
        let workload = candidate.and_then(Candidate::workload);
        let (hop, security) = match candidate.map(|candidate| &candidate.transport) {
            Some(Transport::Tunnel { .. }) => (Hop::CrossNode, Security::MutualTls),
            // A sidecar is another process than whatever else serves pods of its node.
            Some(Transport::SameNode { workload, .. })
                if source.is_sidecar || workload.is_sidecar =>
            {
                (Hop::SameNode, Security::MutualTls)
            }
            Some(Transport::SameNode { .. }) => (Hop::SameNode, Security::SameNode),
            Some(Transport::Tls { .. }) => (Hop::Outside, Security::Tls),
            Some(Transport::Plaintext { .. }) | None => (Hop::Outside, Security::Plaintext),
        };
        let mut from = Peer::from_workload(source, Some(client));
        let address = candidate.map(|candidate| candidate.address).or(original);
        let mut to = match address {
            Some(address) => Peer::from_address(workload, address),
            None => Peer::default(),
        };
        if let (true, Some(workload)) = (security.is_mutual(), workload) {
            from.identity = Some(source.identity.clone());
            to.identity = Some(workload.identity.clone());
        }
        Self {
            direction: Direction::Outbound,
            hop,
            security,
            source: from,
            destination: to,
            service: service.map(|service| service.key.clone()),
            service_hostname: service.map(|service| Arc::clone(&service.hostname)),
            original_destination: original,
            is_probe: false,
        }
    }

    /// The same connection when nobody took it: whoever it was meant for, nobody has
    /// proven to be it.
    #[must_use]
    pub(crate) fn without_proof(mut self) -> Self {
        self.destination.identity = None;
        self
    }

    /// A connection into a pod, from what is known of its client.
    pub(crate) fn inbound(
        workload: &Arc<Workload>,
        source: Peer,
        to: SocketAddr,
        security: Security,
        hop: Hop,
    ) -> Self {
        let mut destination = Peer::from_workload(workload, Some(to));
        if security.is_mutual() {
            destination.identity = Some(workload.identity.clone());
        }
        Self {
            direction: Direction::Inbound,
            hop,
            security,
            source,
            destination,
            service: None,
            service_hostname: None,
            original_destination: Some(to),
            is_probe: false,
        }
    }

    /// The same connection with the service that it is for.
    #[must_use]
    pub(crate) fn with_service(mut self, service: Option<&Service>) -> Self {
        self.service = service.map(|service| service.key.clone());
        self.service_hostname = service.map(|service| Arc::clone(&service.hostname));
        self
    }

    /// The local pod's end.
    #[must_use]
    pub(crate) fn local(&self) -> &Peer {
        match self.direction {
            Direction::Outbound => &self.source,
            Direction::Inbound => &self.destination,
        }
    }

    /// The other end.
    #[must_use]
    pub(crate) fn remote(&self) -> &Peer {
        match self.direction {
            Direction::Outbound => &self.destination,
            Direction::Inbound => &self.source,
        }
    }
}

fn as_text<T: std::fmt::Display, S: serde::Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}
