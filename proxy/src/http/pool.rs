//! The HTTP connections of one pod to its endpoints, kept for the next request.
//!
//! A connection belongs to one pod and one endpoint, and thereby to one pair of
//! identities: a request never travels on a connection of somebody else.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use tokio::sync::Semaphore;
use weft_model::mesh::Candidate;
use weft_model::{Mesh, NamespacedName};

use super::body::RequestBody;
use super::handshake::{handshake_http1, handshake_http2};
use super::recorded_stream::RecordedStream;
use crate::settings::HeadLimits;
use crate::stream::StreamHealth;
use crate::sync::lock;
use crate::upstream::{DialError, RequestReceiver, UpstreamConnection};

/// Requests that we put on one connection of HTTP/2 at once.
const STREAMS_PER_CONNECTION: usize = 100;
/// Idle connections of HTTP/1 that are kept for one endpoint.
const IDLE_PER_ENDPOINT: usize = 256;

/// Why there is no connection for a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    /// The endpoint could not be connected to.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// HTTP could not be begun on the connection.
    #[error("HTTP with the destination: {0}")]
    Handshake(#[from] hyper::Error),
    /// The connection ended as soon as it was there.
    #[error("the destination closed the connection at once")]
    Closed,
}

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

/// The connections to one endpoint.
#[derive(Debug)]
struct EndpointConnections {
    candidate: Candidate,
    live: Mutex<Live>,
    /// For HTTP/2: one request dials, the others wait for its result.
    dialling: Semaphore,
    /// The endpoint exists no more: nothing is given back.
    retired: AtomicBool,
}

#[derive(Debug, Default)]
struct Live {
    idle: Vec<IdleConnection>,
    shared: Vec<SharedConnection>,
}

/// A connection of HTTP/1 that waits for a request.
#[derive(Debug)]
struct IdleConnection {
    connection: Http1Connection,
    since: Instant,
}

/// A connection of HTTP/1, and what is known of what it runs on.
#[derive(Debug)]
struct Http1Connection {
    sender: http1::SendRequest<RequestBody>,
    health: StreamHealth,
    receiver: Option<Arc<dyn RequestReceiver>>,
}

/// A connection of HTTP/2, which many requests share.
#[derive(Clone, Debug)]
struct SharedConnection {
    sender: http2::SendRequest<RequestBody>,
    health: StreamHealth,
    receiver: Option<Arc<dyn RequestReceiver>>,
    streams: Arc<AtomicUsize>,
    last_used: Arc<Mutex<Instant>>,
}

/// A connection, or a stream of one, for one request.
#[derive(Debug)]
pub(crate) struct Lease {
    sender: Sender,
    home: Arc<EndpointConnections>,
    /// It was used before: the other end may have closed it just now.
    reused: bool,
}

#[derive(Debug)]
enum Sender {
    Http1(Http1Connection),
    Http2(
        http2::SendRequest<RequestBody>,
        Option<Arc<dyn RequestReceiver>>,
        #[allow(dead_code, reason = "held for its drop")] StreamSlot,
    ),
}

/// One request's slot on a connection of HTTP/2; free again when dropped.
#[derive(Debug)]
struct StreamSlot {
    streams: Arc<AtomicUsize>,
    last_used: Arc<Mutex<Instant>>,
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        *lock(&self.last_used) = Instant::now();
        self.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Lease {
    /// Whether the connection was used before.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    /// The receiving pod's inbound side, where this process serves that pod, too.
    pub(crate) fn receiver(&self) -> Option<&Arc<dyn RequestReceiver>> {
        match &self.sender {
            Sender::Http1(connection) => connection.receiver.as_ref(),
            Sender::Http2(_, receiver, _) => receiver.as_ref(),
        }
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// # Errors
    /// When the connection broke; the request comes back when no part of it was sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        match &mut self.sender {
            Sender::Http1(connection) => connection.sender.try_send_request(request).await,
            Sender::Http2(sender, ..) => sender.try_send_request(request).await,
        }
    }

    /// Keeps the connection for another request: the response was read to its end.
    pub(crate) fn give_back(self) {
        let Sender::Http1(connection) = self.sender else {
            return;
        };
        if connection.sender.is_closed() || self.home.retired.load(Ordering::Acquire) {
            return;
        }
        let mut live = lock(&self.home.live);
        if live.idle.len() < IDLE_PER_ENDPOINT {
            let since = Instant::now();
            live.idle.push(IdleConnection { connection, since });
        }
    }
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
            return connections.lease_http2(self.heads, connect).await;
        }
        let connected = connect(connections.candidate.clone()).await?;
        let (health, receiver) = (connected.stream.health(), connected.receiver());
        let stream = RecordedStream::of_connection(connected);
        let sender = handshake_http1(stream, self.heads).await?;
        Ok(Lease {
            sender: Sender::Http1(Http1Connection {
                sender,
                health,
                receiver,
            }),
            home: connections,
            reused: false,
        })
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
        let connections = Arc::new(EndpointConnections {
            candidate: target.candidate.clone(),
            live: Mutex::default(),
            dialling: Semaphore::new(1),
            retired: AtomicBool::new(false),
        });
        endpoints.insert(id, Arc::clone(&connections));
        connections
    }
}

impl EndpointConnections {
    fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        *lock(&self.live) = Live::default();
    }

    /// The connection that was used last: those behind it may become idle and go.
    fn idle(self: &Arc<Self>) -> Option<Lease> {
        let mut live = lock(&self.live);
        while let Some(IdleConnection { connection, .. }) = live.idle.pop() {
            if connection.sender.is_ready() && !connection.health.is_draining() {
                return Some(Lease {
                    sender: Sender::Http1(connection),
                    home: Arc::clone(self),
                    reused: true,
                });
            }
        }
        None
    }

    async fn lease_http2<F>(
        self: Arc<Self>,
        heads: HeadLimits,
        connect: impl FnOnce(Candidate) -> F,
    ) -> Result<Lease, LeaseError>
    where
        F: Future<Output = Result<UpstreamConnection, DialError>>,
    {
        let _turn = self.dialling.acquire().await;
        // Another request may have dialled meanwhile.
        if let Some(lease) = self.free_stream(true) {
            return Ok(lease);
        }
        let connected = connect(self.candidate.clone()).await?;
        let (health, receiver) = (connected.stream.health(), connected.receiver());
        let sender = handshake_http2(RecordedStream::of_connection(connected), heads).await?;
        lock(&self.live).shared.push(SharedConnection {
            sender,
            health,
            receiver,
            streams: Arc::default(),
            last_used: Arc::new(Mutex::new(Instant::now())),
        });
        self.free_stream(false).ok_or(LeaseError::Closed)
    }

    /// A stream of a connection of HTTP/2 that has one free.
    fn free_stream(self: &Arc<Self>, reused: bool) -> Option<Lease> {
        let mut live = lock(&self.live);
        live.shared.retain(SharedConnection::is_usable);
        let mut free = live.shared.iter().filter(|connection| {
            connection.streams.load(Ordering::Acquire) < STREAMS_PER_CONNECTION
        });
        let connection = free.next()?;
        connection.streams.fetch_add(1, Ordering::AcqRel);
        let slot = StreamSlot {
            streams: Arc::clone(&connection.streams),
            last_used: Arc::clone(&connection.last_used),
        };
        let (sender, receiver) = (connection.sender.clone(), connection.receiver.clone());
        Some(Lease {
            sender: Sender::Http2(sender, receiver, slot),
            home: Arc::clone(self),
            reused,
        })
    }

    /// Drops what was idle for longer, or can't be used any more; how many are left.
    fn drop_unused(&self, longest_idle: Duration) -> usize {
        let mut live = lock(&self.live);
        live.idle.retain(|IdleConnection { connection, since }| {
            let usable = !connection.sender.is_closed() && !connection.health.is_draining();
            usable && since.elapsed() < longest_idle
        });
        live.shared
            .retain(|connection| connection.is_usable() && !connection.is_unused(longest_idle));
        live.idle.len() + live.shared.len()
    }
}

impl SharedConnection {
    fn is_usable(&self) -> bool {
        !self.sender.is_closed() && !self.health.is_draining()
    }

    fn is_unused(&self, longest_idle: Duration) -> bool {
        let last_used = *lock(&self.last_used);
        self.streams.load(Ordering::Acquire) == 0 && last_used.elapsed() >= longest_idle
    }
}

#[cfg(test)]
mod tests;
