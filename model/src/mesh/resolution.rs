//! Resolutions: what the mesh knows about a destination, and how it is reached.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::external::TlsOrigination;
use crate::identity::SpiffeId;
use crate::name::NamespacedName;
use crate::route::key::RouteKey;
use crate::service::Service;
use crate::workload::{Workload, WorkloadUid};

/// Transport of a connection to its destination.
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

/// One address that a connection could go to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// Address and port of the endpoint.
    pub address: SocketAddr,
    /// The pod behind it, when the mesh knows one.
    pub workload: Option<Arc<Workload>>,
    /// How to get there.
    pub transport: Transport,
}

/// The answer to where a connection may go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Resolution {
    /// A virtual address of a Service.
    Service {
        /// Service that was asked for.
        service: Arc<Service>,
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
    /// The peer is strict but not captured yet, so nobody could read a tunnel and
    /// plaintext isn't wanted.
    #[error("workload {workload} accepts mutual TLS only and is not captured yet")]
    NotCapturedYet {
        /// Workload that was asked for.
        workload: WorkloadUid,
    },
}
