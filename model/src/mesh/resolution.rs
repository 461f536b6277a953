//! Resolutions: what the mesh knows about a destination, and how it is reached.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::external::TlsOrigination;
use crate::name::NamespacedName;
use crate::network_policy::NetworkPolicyDenied;
use crate::route::key::RouteKey;
use crate::service::Service;
use crate::workload::{Workload, WorkloadUid};

/// Transport of a connection to its destination.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Transport {
    /// Plaintext, as the application sent it: the destination is not captured.
    Plaintext {
        /// Pod that has the address, when the mesh knows one.
        workload: Option<Arc<Workload>>,
    },
    /// An HBONE tunnel to the workload's own proxy.
    Tunnel {
        /// Pod at the other end, whose identity the peer has to prove.
        workload: Arc<Workload>,
        /// Address of the pod's HBONE port.
        gateway: SocketAddr,
    },
    /// Straight to the workload's inbound side, which is served on this node.
    SameNode {
        /// Pod at the other end.
        workload: Arc<Workload>,
        /// Address of the pod's HBONE port, for when this process doesn't serve it (any
        /// more). The peer has to prove the pod's identity there.
        gateway: SocketAddr,
    },
    /// TLS that begins here: the destination is an external service.
    Tls {
        /// Server name and certificate to demand of the server.
        origination: Arc<TlsOrigination>,
        /// Server name to ask for.
        server_name: Arc<str>,
    },
}

/// One address that a connection could go to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// Address and port of the endpoint.
    pub address: SocketAddr,
    /// Transport to it.
    pub transport: Transport,
}

impl Candidate {
    /// An address that belongs to no pod that the mesh knows.
    pub fn outside_mesh(address: SocketAddr) -> Self {
        let transport = Transport::Plaintext { workload: None };
        Self { address, transport }
    }

    /// The pod behind the address, when the mesh knows one.
    pub fn workload(&self) -> Option<&Arc<Workload>> {
        match &self.transport {
            Transport::Plaintext { workload } => workload.as_ref(),
            Transport::Tunnel { workload, .. } | Transport::SameNode { workload, .. } => {
                Some(workload)
            }
            Transport::Tls { .. } => None,
        }
    }

    /// Whether a connection that was made to one is as good as one to the other: the same
    /// peer at the same address, over the same transport. Its labels, for example, may
    /// differ.
    pub fn reaches_same_peer(&self, other: &Self) -> bool {
        use Transport::{Plaintext, SameNode, Tls, Tunnel};
        let same_workload = match (self.workload(), other.workload()) {
            (Some(a), Some(b)) => a.uid == b.uid && a.identity == b.identity,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let same_transport = match (&self.transport, &other.transport) {
            (Plaintext { .. }, Plaintext { .. }) => true,
            (Tunnel { gateway: a, .. }, Tunnel { gateway: b, .. })
            | (SameNode { gateway: a, .. }, SameNode { gateway: b, .. }) => a == b,
            (tls @ Tls { .. }, other) => tls == other,
            (Plaintext { .. } | Tunnel { .. } | SameNode { .. }, _) => false,
        };
        self.address == other.address && same_workload && same_transport
    }
}

/// The answer to where a connection may go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Resolution {
    /// A port of a Service, by one of its addresses or of a node's.
    Service {
        /// Service that was asked for.
        service: Arc<Service>,
        /// Port of it.
        port: u16,
        /// Endpoints that it may go to. At least one.
        candidates: Vec<Candidate>,
    },
    /// A pod, by its own address.
    Workload(Candidate),
    /// Nothing that the mesh knows: it goes as the application sent it.
    Unknown(SocketAddr),
}

/// The reason why there is nowhere to send a connection.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unroutable {
    /// The Service exists but not on that port.
    #[error("service {service} has no port {port}")]
    NoSuchPort {
        /// Service that was asked for.
        service: NamespacedName,
        /// Port that was asked for.
        port: u16,
    },
    /// No endpoint of the Service is ready.
    #[error("service {service} has no ready endpoint for port {port}")]
    NoEndpoints {
        /// Service that was asked for.
        service: NamespacedName,
        /// Port that was asked for.
        port: u16,
    },
    /// Routes decide where connections go, and none is for this one.
    #[error(
        "no TLSRoute of service {service} port {port} is for {}",
        server_name.as_deref().unwrap_or("a client that asks for no server name")
    )]
    NoRule {
        /// Service that was asked for.
        service: NamespacedName,
        /// Port that was asked for.
        port: u16,
        /// Server name that the client asked for by TLS.
        server_name: Option<Arc<str>>,
    },
    /// The backend that was drawn has no target, or the rule has no backend.
    #[error("a backend of {route} can't be used: {reason}")]
    InvalidBackend {
        /// Route that names it.
        route: RouteKey,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// Egress rules admit none of the candidates.
    #[error(transparent)]
    NetworkPolicy(#[from] NetworkPolicyDenied),
    /// The peer is strict but not captured yet, so nobody could read a tunnel and
    /// plaintext isn't wanted.
    #[error("workload {workload} accepts mutual TLS only and is not captured yet")]
    NotCapturedYet {
        /// Workload that was asked for.
        workload: WorkloadUid,
    },
}
