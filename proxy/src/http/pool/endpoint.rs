//! The connections to one endpoint, and one of them, or a stream of one, for a request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use weft_model::mesh::Candidate;

use super::exclusive::{ExclusiveConnection, IdleConnection, keep_alive};
use super::send_error::{BrokenConnection, SendError, classify};
use super::shared::{SharedConnection, SharedStream};
use crate::http::body::RequestBody;
use crate::http::half_close::{ClientEnd, ResponseEnd};
use crate::http::handshake::{SHARED, StreamLimit, handshake_http1, handshake_http2};
use crate::http::login::Bound;
use crate::http::observed_stream::ObservedStream;
use crate::http::recorded_stream::RecordedStream;
use crate::http::response_error::no_response_flag;
use crate::http::unprocessed::was_refused;
use crate::memory::{OpenStream, PodMemory};
use crate::settings::HeadLimits;
use crate::sync::lock;
use crate::upstream::{DialError, RequestReceiver, UpstreamConnection};

/// Idle connections of HTTP/1 that are kept for one endpoint.
const IDLE_PER_ENDPOINT: usize = 256;

/// Time after a request in which no server ends its connection for being idle.
pub(super) const JUST_USED: Duration = Duration::from_millis(500);

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

/// How long connections are kept for the next request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongestIdle {
    /// Of HTTP/1, unless the server has said less.
    pub(crate) http1: Duration,
    /// Of HTTP/2, which a server ends with a warning (GOAWAY).
    pub(crate) http2: Duration,
}

/// Connections of HTTP/1 that may be used again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reuse {
    /// All that are kept.
    Any,
    /// Those that were used just now: for a request that could not be sent again.
    JustUsed,
    /// None: for a request that has met the end of one.
    None,
}

/// The connections to one endpoint.
#[derive(Debug)]
pub(super) struct EndpointConnections {
    pub(super) candidate: Candidate,
    live: Mutex<Live>,
    /// For HTTP/2: one request dials, the others wait for its result.
    dialling: Arc<Semaphore>,
    /// The endpoint exists no more: nothing is given back.
    retired: AtomicBool,
}

#[derive(Debug, Default)]
struct Live {
    idle: Vec<IdleConnection>,
    shared: Vec<SharedConnection>,
}

impl EndpointConnections {
    /// An endpoint that nobody was connected to yet.
    pub(super) fn new(candidate: Candidate) -> Self {
        Self {
            candidate,
            live: Mutex::default(),
            dialling: Arc::new(Semaphore::new(1)),
            retired: AtomicBool::new(false),
        }
    }

    /// The connection that belongs to a client's.
    pub(super) fn bound(self: &Arc<Self>, owner: &BoundConnections) -> Option<Lease> {
        loop {
            let mut lease = owner.take(|lease| Arc::ptr_eq(&lease.home, self))?;
            if let Sender::Http1(connection) = &lease.sender
                && connection.is_ready()
            {
                lease.reused = true;
                return Some(lease);
            }
        }
    }

    /// A new connection of HTTP/1.
    pub(super) async fn lease_http1<F>(
        self: Arc<Self>,
        heads: HeadLimits,
        memory: &Arc<PodMemory>,
        connect: impl FnOnce(Candidate) -> F,
    ) -> Result<Lease, LeaseError>
    where
        F: Future<Output = Result<UpstreamConnection, DialError>>,
    {
        let connected = connect(self.candidate.clone()).await?;
        let (health, receiver) = (connected.stream.health(), connected.receiver());
        let stream = RecordedStream::of_connection(connected);
        let (stream, observation) = ObservedStream::new(stream);
        let sender = handshake_http1(stream, heads, memory).await?;
        Ok(Lease {
            sender: Sender::Http1(ExclusiveConnection {
                sender,
                health,
                receiver,
                observation,
                keep_alive: None,
                response_end: None,
            }),
            home: self,
            reused: false,
            owner: None,
        })
    }

    /// The endpoint exists no more: nothing is kept.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        *lock(&self.live) = Live::default();
    }

    /// The connection that was used last: those behind it may become idle and go.
    pub(super) async fn idle(self: &Arc<Self>, longest_idle: Duration) -> Option<Lease> {
        loop {
            let idle = self.pop_idle(longest_idle)?;
            if idle.is_alive().await {
                return Some(Lease {
                    sender: Sender::Http1(idle.connection),
                    home: Arc::clone(self),
                    reused: true,
                    owner: None,
                });
            }
        }
    }

    fn pop_idle(&self, longest_idle: Duration) -> Option<IdleConnection> {
        let mut live = lock(&self.live);
        while let Some(idle) = live.idle.pop() {
            if idle.is_usable(longest_idle) {
                return Some(idle);
            }
        }
        None
    }

    /// A stream of a connection of HTTP/2 that has one free, or of a new one.
    pub(super) async fn lease_http2<F>(
        self: Arc<Self>,
        heads: HeadLimits,
        memory: &Arc<PodMemory>,
        connect: impl FnOnce(Candidate) -> F,
    ) -> Result<Lease, LeaseError>
    where
        F: Future<Output = Result<UpstreamConnection, DialError>>,
    {
        let turn = Arc::clone(&self.dialling).acquire_owned().await;
        // Another request may have dialled meanwhile.
        if let Some(lease) = self.free_stream() {
            return Ok(lease);
        }
        let connected = connect(self.candidate.clone()).await?;
        let (health, receiver) = (connected.stream.health(), connected.receiver());
        let stream = RecordedStream::of_connection(connected);
        let client = handshake_http2(stream, heads, SHARED, memory).await?;
        if client.sender.is_closed() {
            return Err(LeaseError::Closed);
        }
        let limit = client.limit.clone();
        let shared = SharedConnection::new(client, health, receiver);
        let stream = shared.begin_stream();
        lock(&self.live).shared.push(shared);
        wait_for_limit(turn, limit);
        Ok(Lease {
            sender: Sender::Http2(stream),
            home: self,
            reused: false,
            owner: None,
        })
    }

    /// A stream of a connection of HTTP/2 that has one free.
    pub(super) fn free_stream(self: &Arc<Self>) -> Option<Lease> {
        let mut live = lock(&self.live);
        live.shared.retain(SharedConnection::is_usable);
        let connection = live.shared.iter().find(|connection| connection.is_free())?;
        Some(Lease {
            sender: Sender::Http2(connection.begin_stream()),
            home: Arc::clone(self),
            reused: true,
            owner: None,
        })
    }

    /// Drops what was idle for longer, or can't be used any more; how many are left.
    pub(super) fn drop_unused(&self, longest_idle: LongestIdle) -> usize {
        let mut live = lock(&self.live);
        live.idle.retain(|idle| idle.is_usable(longest_idle.http1));
        live.shared.retain(|connection| {
            connection.is_usable() && !connection.is_unused(longest_idle.http2)
        });
        live.idle.len() + live.shared.len()
    }
}

/// Lets the next request dial when it is known how many more this connection takes, or that it
/// ended: else each of those that wait would dial one of its own.
fn wait_for_limit(turn: Result<OwnedSemaphorePermit, AcquireError>, mut limit: StreamLimit) {
    tokio::spawn(async move {
        limit.known().await;
        drop(turn);
    });
}

/// A connection, or a stream of one, for one request.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(super) sender: Sender,
    home: Arc<EndpointConnections>,
    /// It was used before: the other end may have closed it just now.
    pub(super) reused: bool,
    /// The client's connection that it belongs to, where it belongs to one.
    owner: Option<BoundConnections>,
}

/// The connections to endpoints that belong to one client's connection.
pub(crate) type BoundConnections = Bound<Lease>;

#[derive(Debug)]
pub(super) enum Sender {
    Http1(ExclusiveConnection),
    Http2(SharedStream),
}

impl Lease {
    /// The receiving pod's inbound side, where this process serves that pod, too.
    pub(crate) fn receiver(&self) -> Option<&Arc<dyn RequestReceiver>> {
        match &self.sender {
            Sender::Http1(connection) => connection.receiver.as_ref(),
            Sender::Http2(stream) => stream.receiver.as_ref(),
        }
    }

    /// What the connection holds of its response, where requests share it.
    pub(crate) fn memory(&self) -> Option<&OpenStream> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(stream) => Some(&stream.memory),
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

    /// Sends a request and waits for its response's head. A server of HTTP/1 sees the client's end.
    ///
    /// # Errors
    /// When the connection broke.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
        client: Option<&ClientEnd>,
    ) -> Result<Response<Incoming>, SendError> {
        let reused = self.reused;
        match &mut self.sender {
            Sender::Http1(connection) => {
                let before = connection.observation.received();
                let sent = connection.sender.send(request, client).await;
                let observation = &connection.observation;
                match sent {
                    Ok((response, end)) => {
                        connection.keep_alive = keep_alive(response.headers());
                        connection.response_end = Some(end);
                        Ok(response)
                    }
                    Err(error) => Err(classify(error, |error| {
                        match observation.is_unread_since(before, reused) {
                            true => SendError::Unprocessed,
                            false => SendError::Broken(BrokenConnection {
                                flag: no_response_flag(error),
                                was_idle: reused && observation.received() == before,
                                between_requests: observation.ends_between_requests(before),
                            }),
                        }
                    })),
                }
            }
            // A stream ends with its request's body. Its reset would end a client's request
            // that may well wait for its response.
            Sender::Http2(stream) => {
                let sent = stream.sender.send(request).await;
                sent.map_err(|error| {
                    classify(error, |error| match was_refused(error) {
                        true => SendError::Unprocessed,
                        false => SendError::Broken(BrokenConnection {
                            flag: no_response_flag(error),
                            was_idle: false,
                            between_requests: false,
                        }),
                    })
                })
            }
        }
    }

    /// The server's end, for whoever reads a response of HTTP/1.
    pub(crate) fn take_response_end(&mut self) -> Option<ResponseEnd> {
        match &mut self.sender {
            Sender::Http1(connection) => connection.response_end.take(),
            Sender::Http2(_) => None,
        }
    }

    /// Keeps the connection for another request: the response was read to its end.
    pub(crate) fn give_back(mut self) {
        let Sender::Http1(connection) = &self.sender else {
            return self.finish_stream();
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
        let (mut live, since) = (lock(&self.home.live), Instant::now());
        if live.idle.len() < IDLE_PER_ENDPOINT {
            live.idle.push(IdleConnection { connection, since });
        }
    }

    fn finish_stream(self) {
        if let Sender::Http2(stream) = self.sender {
            stream.finish();
        }
    }
}
