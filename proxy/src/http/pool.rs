//! The HTTP connections of one pod to its endpoints, kept for the next request.
//!
//! A connection belongs to one pod and one endpoint, and thereby to one pair of
//! identities: a request never travels on a connection of somebody else.

mod endpoint;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use weft_model::mesh::Candidate;
use weft_model::{Mesh, NamespacedName};

use self::endpoint::EndpointConnections;
pub(crate) use self::endpoint::{BoundConnections, Lease, LeaseError};
use crate::settings::HeadLimits;
use crate::sync::lock;
use crate::upstream::{DialError, UpstreamConnection};

/// The endpoint that a request is sent to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolTarget<'a> {
    /// The service that the request is for.
    pub(crate) service: &'a NamespacedName,
    /// Its port.
    pub(crate) port: u16,
    /// The endpoint.
    pub(crate) candidate: &'a Candidate,
    /// Whether HTTP/2 is spoken.
    pub(crate) http2: bool,
}

/// The key of an endpoint's connections.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct EndpointId {
    service: NamespacedName,
    port: u16,
    address: SocketAddr,
    http2: bool,
}

/// The connections of one pod.
#[derive(Debug)]
pub(crate) struct HttpPool {
    endpoints: Mutex<HashMap<EndpointId, Arc<EndpointConnections>>>,
    /// How large the heads of responses may be.
    heads: HeadLimits,
}

impl HttpPool {
    /// A pool without a connection.
    pub(crate) fn new(heads: HeadLimits) -> Self {
        Self {
            endpoints: Mutex::default(),
            heads,
        }
    }

    /// An idle connection to an endpoint, or a free stream of one.
    pub(crate) fn reuse(&self, target: PoolTarget<'_>) -> Option<Lease> {
        let connections = self.connections_to(target);
        match target.http2 {
            true => connections.free_stream(true),
            false => connections.idle(),
        }
    }

    /// The connection to an endpoint that belongs to a client's.
    pub(crate) fn reuse_bound(
        &self,
        target: PoolTarget<'_>,
        owner: &BoundConnections,
    ) -> Option<Lease> {
        self.connections_to(target).bound(owner)
    }

    /// The same, or a connection that `connect` opens to the endpoint.
    ///
    /// # Errors
    /// When it can't be opened, or HTTP can't be begun on it.
    pub(crate) async fn lease<F>(
        &self,
        target: PoolTarget<'_>,
        connect: impl FnOnce(Candidate) -> F,
    ) -> Result<Lease, LeaseError>
    where
        F: Future<Output = Result<UpstreamConnection, DialError>>,
    {
        let connections = self.connections_to(target);
        match target.http2 {
            true => connections.lease_http2(self.heads, connect).await,
            false => connections.lease_http1(self.heads, connect).await,
        }
    }

    /// Drops what leads to endpoints that exist no more, and what was idle for longer than
    /// `longest_idle`. Requests that are under way stay.
    pub(crate) fn drop_unused(&self, mesh: &Mesh, node: &str, longest_idle: Duration) {
        lock(&self.endpoints).retain(|id, connections| {
            let service = mesh.service(&id.service);
            let candidates = service.and_then(|service| {
                let is_ipv4 = id.address.is_ipv4();
                mesh.service_candidates(node, service, id.port, is_ipv4)
                    .ok()
            });
            let known = candidates.is_some_and(|candidates| {
                let known = &connections.candidate;
                candidates
                    .iter()
                    .any(|candidate| candidate.reaches_same_peer(known))
            });
            if !known {
                connections.retire();
                return false;
            }
            connections.drop_unused(longest_idle) > 0 || Arc::strong_count(connections) > 1
        });
    }

    /// Drops all idle connections; nothing is kept from now on.
    pub(crate) fn close(&self) {
        let connections = std::mem::take(&mut *lock(&self.endpoints));
        connections.values().for_each(|c| c.retire());
    }

    fn connections_to(&self, target: PoolTarget<'_>) -> Arc<EndpointConnections> {
        let id = EndpointId {
            service: target.service.clone(),
            port: target.port,
            address: target.candidate.address,
            http2: target.http2,
        };
        let mut endpoints = lock(&self.endpoints);
        if let Some(connections) = endpoints.get(&id) {
            // A successor on the same address is someone else.
            if connections.candidate.reaches_same_peer(target.candidate) {
                return Arc::clone(connections);
            }
            connections.retire();
        }
        let connections = Arc::new(EndpointConnections::new(target.candidate.clone()));
        endpoints.insert(id, Arc::clone(&connections));
        connections
    }
}

#[cfg(test)]
mod tests;
