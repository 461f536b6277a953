//! The connections of one pod to one endpoint.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use tokio::sync::Semaphore;
use weft_model::mesh::Candidate;

use crate::http::body::RequestBody;
use crate::http::half_close::ClientEnd;
use crate::http::handshake::{handshake_http1, handshake_http2};
use crate::http::http1_sender::{Http1Sender, SendError};
use crate::http::login::Bound;
use crate::http::recorded_stream::RecordedStream;
use crate::settings::HeadLimits;
use crate::stream::StreamHealth;
use crate::sync::lock;
use crate::upstream::{DialError, RequestReceiver, UpstreamConnection};

/// Requests that we put on one connection of HTTP/2 at once.
pub(super) const STREAMS_PER_CONNECTION: usize = 100;
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

/// The connections to one endpoint.
#[derive(Debug)]
pub(super) struct EndpointConnections {
    pub(super) candidate: Candidate,
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
    sender: Http1Sender,
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
    /// The client's connection that it belongs to, where it belongs to one.
    owner: Option<BoundConnections>,
}

/// The connections to endpoints that belong to one client's connection.
pub(crate) type BoundConnections = Bound<Lease>;

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

    /// Sends a request and waits for the head of its response. A server of HTTP/1 sees the end
    /// of the request's client, where it has one.
    ///
    /// # Errors
    /// When the connection broke; the request comes back when no part of it was sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
        client: Option<&ClientEnd>,
    ) -> Result<Response<Incoming>, SendError> {
        match &mut self.sender {
            Sender::Http1(connection) => connection.sender.send(request, client).await,
            // A stream ends with its request's body. Its reset would end a client's request
            // that may well wait for its response.
            Sender::Http2(sender, ..) => Ok(sender.try_send_request(request).await?),
        }
    }

    /// The endpoint's address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.home.candidate.address
    }

    /// From now on the connection belongs to that client's, and ends with it.
    pub(crate) fn bind(&mut self, owner: &BoundConnections) {
        if let Sender::Http1(_) = self.sender {
            self.owner = Some(owner.clone());
        }
    }

    /// Keeps the connection for another request: the response was read to its end.
    pub(crate) fn give_back(mut self) {
        let Sender::Http1(connection) = &self.sender else {
            return;
        };
        if !connection.sender.end_request() || self.home.retired.load(Ordering::Acquire) {
            return;
        }
        if let Some(owner) = self.owner.take() {
            return owner.keep(self);
        }
        let Sender::Http1(connection) = self.sender else {
            return;
        };
        let mut live = lock(&self.home.live);
        if live.idle.len() < IDLE_PER_ENDPOINT {
            let since = Instant::now();
            live.idle.push(IdleConnection { connection, since });
        }
    }
}

impl EndpointConnections {
    /// None yet.
    pub(super) fn new(candidate: Candidate) -> Self {
        Self {
            candidate,
            live: Mutex::default(),
            dialling: Semaphore::new(1),
            retired: AtomicBool::new(false),
        }
    }

    /// The connection that belongs to a client's.
    pub(super) fn bound(self: &Arc<Self>, owner: &BoundConnections) -> Option<Lease> {
        loop {
            let mut lease = owner.take(|lease| Arc::ptr_eq(&lease.home, self))?;
            if let Sender::Http1(connection) = &lease.sender
                && connection.is_usable()
            {
                lease.reused = true;
                return Some(lease);
            }
        }
    }

    pub(super) async fn lease_http1<F>(
        self: Arc<Self>,
        heads: HeadLimits,
        connect: impl FnOnce(Candidate) -> F,
    ) -> Result<Lease, LeaseError>
    where
        F: Future<Output = Result<UpstreamConnection, DialError>>,
    {
        let connected = connect(self.candidate.clone()).await?;
        let (health, receiver) = (connected.stream.health(), connected.receiver());
        let stream = RecordedStream::of_connection(connected);
        let sender = handshake_http1(stream, heads).await?;
        Ok(Lease {
            sender: Sender::Http1(Http1Connection {
                sender,
                health,
                receiver,
            }),
            home: self,
            reused: false,
            owner: None,
        })
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        *lock(&self.live) = Live::default();
    }

    /// The connection that was used last: those behind it may become idle and go.
    pub(super) fn idle(self: &Arc<Self>) -> Option<Lease> {
        let mut live = lock(&self.live);
        while let Some(IdleConnection { connection, .. }) = live.idle.pop() {
            if connection.is_usable() {
                return Some(Lease {
                    sender: Sender::Http1(connection),
                    home: Arc::clone(self),
                    reused: true,
                    owner: None,
                });
            }
        }
        None
    }

    pub(super) async fn lease_http2<F>(
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
    pub(super) fn free_stream(self: &Arc<Self>, reused: bool) -> Option<Lease> {
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
            owner: None,
        })
    }

    /// Drops what was idle for longer, or can't be used any more; how many are left.
    pub(super) fn drop_unused(&self, longest_idle: Duration) -> usize {
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

impl Http1Connection {
    /// Whether a request may be sent at once.
    fn is_usable(&self) -> bool {
        self.sender.is_ready() && !self.health.is_draining()
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
