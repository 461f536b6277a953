//! Where a connection may go: what the mesh knows of its destination.

use std::sync::Arc;

use tokio::net::TcpStream;
use weft_model::OriginalDestination;
use weft_model::mesh::{Candidate, Resolution};
use weft_model::service::Service;
use weft_model::workload::Workload;

use super::{outside, routed};
use crate::error::OutboundError;
use crate::shared::Shared;

/// Where a connection may go.
pub(super) struct Destination {
    /// The service that it goes to.
    pub(super) service: Option<Arc<Service>>,
    /// The port of it; `None` for what is no Service of the cluster.
    pub(super) port: Option<u16>,
    /// The places; at least one.
    pub(super) candidates: Vec<Candidate>,
    /// Nobody has registered it: it is there as long as any may be.
    pub(super) is_unregistered: bool,
}

impl Destination {
    /// A place by its own address.
    pub(super) fn at(candidate: Candidate) -> Self {
        Self {
            service: None,
            port: None,
            candidates: vec![candidate],
            is_unregistered: false,
        }
    }

    /// A port of a service.
    pub(super) fn of(service: Arc<Service>, port: u16, candidates: Vec<Candidate>) -> Self {
        Self {
            service: Some(service),
            port: Some(port),
            candidates,
            is_unregistered: false,
        }
    }
}

/// Finds out where a connection of a workload may go. Its first bytes are looked at where
/// they decide, and stay unread.
pub(super) async fn find<N>(
    shared: &Shared<N>,
    source: &Workload,
    accepted: &TcpStream,
    original: OriginalDestination,
) -> Result<Destination, OutboundError> {
    let mesh = shared.store.snapshot();
    if let Some(routes) = mesh.connection_routes(source.namespace(), original) {
        return routed::find(shared, accepted, &routes).await;
    }
    match mesh.resolve(&shared.node, original)? {
        Resolution::Service {
            service,
            candidates,
        } => {
            let port = original.address().port();
            Ok(Destination::of(service, port, candidates))
        }
        Resolution::Workload(candidate) => Ok(Destination::at(candidate)),
        Resolution::Unknown(address) => outside::find(shared, source, accepted, address).await,
    }
}
