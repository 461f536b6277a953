//! What the mesh knows about a destination.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::external::TlsOrigination;
use crate::identity::SpiffeId;
use crate::route::RouteKey;
use crate::service::{NamespacedName, Service};
use crate::workload::{Workload, WorkloadUid};

/// How a connection travels to its destination.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Transport {
    /// As the application sent it: the destination is outside the mesh.
    Plaintext,
    /// Inside an HBONE tunnel to the workload's own proxy.
    Tunnel {
        /// Address of the peer's HBONE port.
        gateway: SocketAddr,
        /// The identity that the peer must prove.
        identity: SpiffeId,
    },
    /// Straight to the peer's inbound side: it is served by this same process.
    SameNode,
    /// By TLS that begins here: the destination is an external service.
    Tls {
        /// What is asked of the server.
        origination: Arc<TlsOrigination>,
        /// Who it has to be.
        server_name: Arc<str>,
    },
}

/// One place that a connection could go to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// Address and port of the endpoint.
    pub address: SocketAddr,
    /// The pod behind it, when the mesh knows one.
    pub workload: Option<Arc<Workload>>,
    /// How to get there.
    pub transport: Transport,
}

/// What the mesh knows about a destination.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Resolution {
    /// A virtual address of a service. At least one candidate.
    Service {
        /// The service that was asked for.
        service: Arc<Service>,
        /// Where it may go.
        candidates: Vec<Candidate>,
    },
    /// A pod, by its own address.
    Workload(Candidate),
    /// Nothing that the mesh knows: it goes as the application sent it.
    Unknown(SocketAddr),
}

/// Why there is nowhere to send a connection.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unroutable {
    /// The service exists but not on that port.
    #[error("service {service} has no port {port}")]
    NoSuchPort {
        /// The service asked for.
        service: NamespacedName,
        /// The port asked for.
        port: u16,
    },
    /// No endpoint of the service is ready.
    #[error("service {service} has no ready endpoint for port {port}")]
    NoEndpoints {
        /// The service asked for.
        service: NamespacedName,
        /// The port asked for.
        port: u16,
    },
    /// Routes decide where connections go, and none is for this one.
    #[error(
        "no TLSRoute of service {service} port {port} is for {}",
        server_name.as_deref().unwrap_or("a client that asks for no server name")
    )]
    NoRule {
        /// The service asked for.
        service: NamespacedName,
        /// The port asked for.
        port: u16,
        /// The name that the client asked for by TLS.
        server_name: Option<Arc<str>>,
    },
    /// The turn is a backend's that leads nowhere.
    #[error("a backend of {route} can't be used: {reason}")]
    InvalidBackend {
        /// The route that names it.
        route: RouteKey,
        /// Why.
        reason: Arc<str>,
    },
    /// The peer is strict but not captured yet, so nobody could read a tunnel and
    /// plaintext isn't wanted.
    #[error("workload {workload} accepts mutual TLS only and is not captured yet")]
    NotCapturedYet {
        /// The pod asked for.
        workload: WorkloadUid,
    },
}
