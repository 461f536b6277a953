//! Where a connection may go.

use std::sync::Arc;

use weft_model::mesh::Candidate;
use weft_model::service::Service;

/// Where a connection may go.
#[derive(Debug)]
pub(super) struct Destination {
    /// The service that it goes to.
    pub(super) service: Option<Arc<Service>>,
    /// The port of it; `None` for what is no Service of the cluster.
    pub(super) port: Option<u16>,
    /// The endpoints; at least one.
    pub(super) candidates: Vec<Candidate>,
    /// Nobody has registered it: it is allowed as long as unregistered destinations are.
    pub(super) is_unregistered: bool,
}

impl Destination {
    /// An endpoint by its own address.
    pub(super) fn endpoint(candidate: Candidate) -> Self {
        Self {
            service: None,
            port: None,
            candidates: vec![candidate],
            is_unregistered: false,
        }
    }

    /// A port of a Service.
    pub(super) fn service(service: Arc<Service>, port: u16, candidates: Vec<Candidate>) -> Self {
        Self {
            service: Some(service),
            port: Some(port),
            candidates,
            is_unregistered: false,
        }
    }
}
