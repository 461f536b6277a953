//! The HTTP connections of one pod to its endpoints, kept for the next request.
//!
//! A connection belongs to one pod and one endpoint, and thereby to one pair of
//! identities: a request never travels on a connection of somebody else.

mod endpoint;
mod exclusive;
mod send_error;
mod shared;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use weft_model::mesh::Candidate;
use weft_model::{Mesh, NamespacedName};

pub(crate) use self::endpoint::{BoundConnections, Lease, LeaseError, LongestIdle, Reuse};
use self::endpoint::{EndpointConnections, JUST_USED};
pub(crate) use self::send_error::{BrokenConnection, SendError};
use crate::memory::PodMemory;
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
    /// The address to connect from, where it isn't the kernel's choice.
    pub(crate) source: Option<IpAddr>,
}

/// The key of an endpoint's connections.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct EndpointId {
    service: NamespacedName,
    port: u16,
    address: SocketAddr,
    http2: bool,
    source: Option<IpAddr>,
}

/// The connections of one pod.
#[derive(Debug)]
pub(crate) struct HttpPool {
    longest_idle: LongestIdle,
    /// How large the heads of responses may be.
    heads: HeadLimits,
    /// What its connections hold.
    memory: Arc<PodMemory>,
    endpoints: Mutex<HashMap<EndpointId, Arc<EndpointConnections>>>,
}

impl HttpPool {
    /// A pool without connections.
    pub(crate) fn new(
        longest_idle: LongestIdle,
        heads: HeadLimits,
        memory: Arc<PodMemory>,
    ) -> Self {
        Self {
            longest_idle,
            heads,
            memory,
            endpoints: Mutex::default(),
        }
    }

    /// An idle connection to an endpoint, or a free stream of one.
    pub(crate) async fn reuse(&self, target: PoolTarget<'_>, reuse: Reuse) -> Option<Lease> {
        let connections = self.connections_to(target);
        if target.http2 {
            return connections.free_stream();
        }
        let longest_idle = match reuse {
            Reuse::Any => self.longest_idle.http1,
            Reuse::JustUsed => self.longest_idle.http1.min(JUST_USED),
            Reuse::None => return None,
        };
        connections.idle(longest_idle).await
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
        if target.http2 {
            let leased = connections.lease_http2(self.heads, &self.memory, connect);
            return leased.await;
        }
        let leased = connections.lease_http1(self.heads, &self.memory, connect);
        leased.await
    }

    /// Drops what leads to endpoints that exist no more, and what was idle for too long.
    /// Requests that are under way stay.
    pub(crate) fn drop_unused(&self, mesh: &Mesh, node: &str) {
        let mut endpoints = lock(&self.endpoints);
        let mut candidates = KnownCandidates::new(mesh, node);
        endpoints.retain(|id, connections| {
            if !candidates.contain(id, &connections.candidate) {
                connections.retire();
                return false;
            }
            connections.drop_unused(self.longest_idle) > 0 || Arc::strong_count(connections) > 1
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
            source: target.source,
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

/// The candidates of a snapshot, by port of a Service and by address: each port is looked up
/// once for all of its endpoints.
struct KnownCandidates<'a> {
    mesh: &'a Mesh,
    node: &'a str,
    by_port: HashMap<(NamespacedName, u16, bool), HashMap<SocketAddr, Candidate>>,
}

impl<'a> KnownCandidates<'a> {
    fn new(mesh: &'a Mesh, node: &'a str) -> Self {
        Self {
            mesh,
            node,
            by_port: HashMap::new(),
        }
    }

    /// Whether the endpoint is still the one that was connected to.
    fn contain(&mut self, id: &EndpointId, connected: &Candidate) -> bool {
        let is_ipv4 = id.address.is_ipv4();
        let key = (id.service.clone(), id.port, is_ipv4);
        let of_port = self.by_port.entry(key).or_insert_with(|| {
            let service = self.mesh.service(&id.service);
            let candidates = service.and_then(|service| {
                let candidates = self
                    .mesh
                    .service_candidates(self.node, service, id.port, is_ipv4);
                candidates.ok()
            });
            let candidates = candidates.into_iter().flatten();
            candidates.map(|known| (known.address, known)).collect()
        });
        of_port
            .get(&id.address)
            .is_some_and(|known| known.reaches_same_peer(connected))
    }
}

#[cfg(test)]
mod tests;
