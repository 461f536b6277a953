//! The HTTP connections of one pod to its destinations, kept for the next request.
//!
//! A connection belongs to one pod and one endpoint, and thereby to one pair of
//! identities: a request never travels on a connection of somebody else.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use tokio::sync::Semaphore;
use weft_model::mesh::Candidate;
use weft_model::{Mesh, NamespacedName};

use super::body::RequestBody;
use super::connect::{connect, handshake_http1, handshake_http2};
use crate::error::OutboundError;
use crate::net::Net;
use crate::shared::{LocalPod, Shared};

/// Requests that we put on one connection of HTTP/2 at once.
const STREAMS_PER_CONNECTION: usize = 100;
/// Idle connections of HTTP/1 that are kept for one endpoint.
const IDLE_PER_ENDPOINT: usize = 256;
/// Where a connection leads, and what it speaks.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct EndpointId {
    service: NamespacedName,
    port: u16,
    address: SocketAddr,
    http2: bool,
}

/// What a request is sent to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    /// The service that it is for.
    pub(crate) service: &'a NamespacedName,
    /// Its port.
    pub(crate) port: u16,
    /// The endpoint.
    pub(crate) candidate: &'a Candidate,
    /// Whether HTTP/2 is spoken.
    pub(crate) http2: bool,
}

/// The connections of one pod.
#[derive(Debug, Default)]
pub(crate) struct HttpPool(Mutex<HashMap<EndpointId, Arc<Connections>>>);

/// The connections to one endpoint.
#[derive(Debug)]
struct Connections {
    candidate: Candidate,
    live: Mutex<Live>,
    /// Of HTTP/2: one dials, the others wait for its result instead of dialling too.
    dialling: Semaphore,
    /// The endpoint is none any more: nothing comes back.
    retired: AtomicBool,
}

#[derive(Debug, Default)]
struct Live {
    idle: Vec<Idle>,
    shared: Vec<SharedConnection>,
}

/// A connection of HTTP/1 that waits for a request.
#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<RequestBody>,
    tunnel: Option<h2::client::SendRequest<Bytes>>,
    since: Instant,
}

/// A connection of HTTP/2.
#[derive(Clone, Debug)]
struct SharedConnection {
    sender: http2::SendRequest<RequestBody>,
    tunnel: Option<h2::client::SendRequest<Bytes>>,
    streams: Arc<AtomicUsize>,
    used: Arc<Mutex<Instant>>,
}

/// A connection, or a place on one, for one request.
#[derive(Debug)]
pub(crate) struct Lease {
    sender: Sender,
    home: Arc<Connections>,
    /// It was used before: the other end may have closed it just now.
    reused: bool,
}

#[derive(Debug)]
enum Sender {
    Http1(
        http1::SendRequest<RequestBody>,
        Option<h2::client::SendRequest<Bytes>>,
    ),
    Http2(
        http2::SendRequest<RequestBody>,
        #[allow(dead_code, reason = "held for its drop")] Place,
    ),
}

/// One request's place on a connection of HTTP/2; free again when dropped.
#[derive(Debug)]
struct Place {
    streams: Arc<AtomicUsize>,
    used: Arc<Mutex<Instant>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Lease {
    /// Whether it was used before.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Sends a request and waits for the head of its response. The request comes back
    /// when no part of it was sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        match &mut self.sender {
            Sender::Http1(sender, _) => sender.try_send_request(request).await,
            Sender::Http2(sender, _) => sender.try_send_request(request).await,
        }
    }

    /// The response was read to its end: the connection is there for another request.
    pub(crate) fn give_back(self) {
        let Sender::Http1(sender, tunnel) = self.sender else {
            return;
        };
        if sender.is_closed() || self.home.retired.load(Ordering::Acquire) {
            return;
        }
        let mut live = self.home.lock();
        if live.idle.len() < IDLE_PER_ENDPOINT {
            let since = Instant::now();
            live.idle.push(Idle {
                sender,
                tunnel,
                since,
            });
        }
    }
}

impl HttpPool {
    /// A connection to an endpoint, or a place on one, that is there.
    pub(crate) fn waiting(&self, target: Target<'_>) -> Option<Lease> {
        let connections = self.connections(target);
        match target.http2 {
            true => connections.place(true),
            false => connections.idle(),
        }
    }

    /// The same, or a new one.
    pub(crate) async fn lease<N: Net>(
        &self,
        shared: &Arc<Shared<N>>,
        pod: &Arc<LocalPod<N>>,
        target: Target<'_>,
        client: SocketAddr,
    ) -> Result<Lease, OutboundError> {
        let connections = self.connections(target);
        if target.http2 {
            return connections.lease_http2(shared, pod, client).await;
        }
        let (stream, tunnel) = connect(shared, pod, &connections.candidate, client).await?;
        let sender = handshake_http1(stream).await?;
        Ok(Lease {
            sender: Sender::Http1(sender, tunnel),
            home: connections,
            reused: false,
        })
    }

    /// Drops what leads to endpoints that are none any more, and what waited too long.
    /// Requests that are under way stay.
    pub(crate) fn tidy(&self, mesh: &Mesh, node: &str, longest_idle: Duration) {
        self.lock().retain(|id, connections| {
            let service = mesh.service(&id.service);
            let candidates = service.and_then(|service| {
                let is_ipv4 = id.address.is_ipv4();
                mesh.service_candidates(node, service, id.port, is_ipv4)
                    .ok()
            });
            let known =
                candidates.is_some_and(|candidates| candidates.contains(&connections.candidate));
            if !known {
                connections.retire();
                return false;
            }
            connections.drop_unused(longest_idle) > 0 || Arc::strong_count(connections) > 1
        });
    }

    /// Drops all that waits; nothing is kept from now on.
    pub(crate) fn close(&self) {
        let connections = std::mem::take(&mut *self.lock());
        connections.values().for_each(|c| c.retire());
    }

    fn connections(&self, target: Target<'_>) -> Arc<Connections> {
        let id = EndpointId {
            service: target.service.clone(),
            port: target.port,
            address: target.candidate.address,
            http2: target.http2,
        };
        let mut endpoints = self.lock();
        if let Some(connections) = endpoints.get(&id) {
            // A successor on the same address is someone else.
            if connections.candidate == *target.candidate {
                return Arc::clone(connections);
            }
            connections.retire();
        }
        let connections = Arc::new(Connections {
            candidate: target.candidate.clone(),
            live: Mutex::default(),
            dialling: Semaphore::new(1),
            retired: AtomicBool::new(false),
        });
        endpoints.insert(id, Arc::clone(&connections));
        connections
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EndpointId, Arc<Connections>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        *self.lock() = Live::default();
    }

    /// The connection that was used last: those behind it may become idle and go.
    fn idle(self: &Arc<Self>) -> Option<Lease> {
        let mut live = self.lock();
        while let Some(idle) = live.idle.pop() {
            if idle.sender.is_ready() && is_open(idle.tunnel.as_ref()) {
                return Some(Lease {
                    sender: Sender::Http1(idle.sender, idle.tunnel),
                    home: Arc::clone(self),
                    reused: true,
                });
            }
        }
        None
    }

    async fn lease_http2<N: Net>(
        self: Arc<Self>,
        shared: &Arc<Shared<N>>,
        pod: &Arc<LocalPod<N>>,
        client: SocketAddr,
    ) -> Result<Lease, OutboundError> {
        let _turn = self.dialling.acquire().await;
        // Whoever was before us may have dialled.
        if let Some(lease) = self.place(true) {
            return Ok(lease);
        }
        let (stream, tunnel) = connect(shared, pod, &self.candidate, client).await?;
        let sender = handshake_http2(stream).await?;
        self.lock().shared.push(SharedConnection {
            sender,
            tunnel,
            streams: Arc::default(),
            used: Arc::new(Mutex::new(Instant::now())),
        });
        let closed = || OutboundError::Connect(std::io::ErrorKind::ConnectionReset.into());
        self.place(false).ok_or_else(closed)
    }

    /// A place on the connection of HTTP/2 that has one.
    fn place(self: &Arc<Self>, reused: bool) -> Option<Lease> {
        let mut live = self.lock();
        let is_usable = |connection: &SharedConnection| {
            !connection.sender.is_closed() && is_open(connection.tunnel.as_ref())
        };
        live.shared.retain(is_usable);
        let places = live.shared.iter();
        let mut free = places.filter(|connection| {
            connection.streams.load(Ordering::Acquire) < STREAMS_PER_CONNECTION
        });
        let connection = free.next()?;
        connection.streams.fetch_add(1, Ordering::AcqRel);
        let place = Place {
            streams: Arc::clone(&connection.streams),
            used: Arc::clone(&connection.used),
        };
        Some(Lease {
            sender: Sender::Http2(connection.sender.clone(), place),
            home: Arc::clone(self),
            reused,
        })
    }

    /// Drops what has waited for longer, or can't be used any more; how many are left.
    fn drop_unused(&self, longest: Duration) -> usize {
        let mut live = self.lock();
        live.idle.retain(|idle| {
            let open = !idle.sender.is_closed() && is_open(idle.tunnel.as_ref());
            open && idle.since.elapsed() < longest
        });
        live.shared.retain(|connection| {
            let open = !connection.sender.is_closed() && is_open(connection.tunnel.as_ref());
            let used = connection.used.lock();
            let used = *used.unwrap_or_else(PoisonError::into_inner);
            let busy = connection.streams.load(Ordering::Acquire) > 0;
            open && (busy || used.elapsed() < longest)
        });
        live.idle.len() + live.shared.len()
    }
}

/// Whether the tunnel's connection takes further streams: a peer's proxy that is on its
/// way out says so (GOAWAY), and what is idle then should go, too.
fn is_open(tunnel: Option<&h2::client::SendRequest<Bytes>>) -> bool {
    let Some(tunnel) = tunnel else {
        return true;
    };
    let ready = tunnel
        .clone()
        .poll_ready(&mut Context::from_waker(Waker::noop()));
    !matches!(ready, Poll::Ready(Err(_)))
}
