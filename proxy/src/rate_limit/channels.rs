//! Connections to rate limit services: one for each endpoint in use, made when first
//! needed, again after it broke, and forgotten when nobody asks over it any more.

use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use weft_model::mesh::Candidate;

use crate::sync::lock;

/// Endpoints that a pod stays connected to.
const MOST: usize = 16;
/// How long a connection is kept unused.
const UNUSED: Duration = Duration::from_secs(300);
/// How long others are preferred to an endpoint that failed.
const AVOIDED: Duration = Duration::from_secs(1);
/// Questions in a row without an answer after which a connection counts as dead. It isn't
/// pinged: servers of this protocol cut clients that do so often.
const DEAD_AFTER: u32 = 3;

/// The connections of one pod.
#[derive(Debug, Default)]
pub(super) struct Channels(Mutex<Vec<ServerChannel>>);

/// A connection to an endpoint as it was then.
#[derive(Debug)]
struct ServerChannel {
    /// The endpoint: one that is captured meanwhile is reached another way, and a
    /// successor on the same address is someone else.
    candidate: Candidate,
    channel: Channel,
    used: Instant,
    failed: Option<Instant>,
    late: u32,
}

impl ServerChannel {
    fn is_to(&self, candidate: &Candidate) -> bool {
        self.candidate.reaches_same_peer(candidate)
    }

    fn is_avoided(&self) -> bool {
        self.failed.is_some_and(|at| at.elapsed() < AVOIDED)
    }
}

impl Channels {
    /// The connection to ask over: one that there is, else a new one to any endpoint;
    /// those that have just failed come last. `None` without an endpoint.
    pub(super) fn pick<'a, C, F, S>(
        &self,
        servers: &'a [Candidate],
        connect: &C,
    ) -> Option<(&'a Candidate, Channel)>
    where
        C: Fn(Candidate) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut channels = lock(&self.0);
        channels.retain(|channel| channel.used.elapsed() < UNUSED);
        let position = |channels: &[ServerChannel], server: &Candidate| {
            channels.iter().position(|channel| channel.is_to(server))
        };
        let is_good = |index: &usize| {
            let channel = channels.get(*index);
            channel.is_some_and(|channel| !channel.is_avoided())
        };
        let connected = servers.iter().find_map(|server| {
            let index = position(&channels, server).filter(is_good)?;
            Some((server, index))
        });
        let (server, index) = match connected {
            Some(connected) => connected,
            None => {
                let is_new = |server: &&Candidate| position(&channels, server).is_none();
                let new: Vec<_> = servers.iter().filter(is_new).collect();
                let server = match new.as_slice() {
                    [] => servers.get(fastrand::usize(..servers.len().max(1)))?,
                    new => new.get(fastrand::usize(..new.len()))?,
                };
                let index = position(&channels, server);
                (
                    server,
                    index.unwrap_or_else(|| add(&mut channels, server, connect)),
                )
            }
        };
        let chosen = channels.get_mut(index)?;
        chosen.used = Instant::now();
        Some((server, chosen.channel.clone()))
    }

    /// An endpoint has answered.
    pub(super) fn answered(&self, server: &Candidate) {
        self.with(server, |channel| {
            channel.failed = None;
            channel.late = 0;
        });
    }

    /// The way to an endpoint has failed.
    pub(super) fn failed(&self, server: &Candidate) {
        self.with(server, |channel| channel.failed = Some(Instant::now()));
    }

    /// The endpoint that was asked has not answered in time: the one used last.
    pub(super) fn late(&self, servers: &[Candidate]) {
        let mut channels = lock(&self.0);
        let to_one =
            |channel: &&mut ServerChannel| servers.iter().any(|server| channel.is_to(server));
        let last = channels.iter_mut().filter(to_one);
        if let Some(last) = last.max_by_key(|channel| channel.used) {
            last.late += 1;
            last.failed = Some(Instant::now());
        }
        channels.retain(|channel| channel.late < DEAD_AFTER);
    }

    pub(super) fn forget_unused(&self) {
        lock(&self.0).retain(|channel| channel.used.elapsed() < UNUSED);
    }

    fn with(&self, server: &Candidate, change: impl FnOnce(&mut ServerChannel)) {
        let mut channels = lock(&self.0);
        if let Some(channel) = channels.iter_mut().find(|channel| channel.is_to(server)) {
            change(channel);
        }
    }

    #[cfg(test)]
    pub(super) fn age(&self, by: Duration) {
        for channel in lock(&self.0).iter_mut() {
            channel.used = channel.used.checked_sub(by).unwrap();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

/// Adds a connection, in place of the one unused for longest where there are too many.
fn add<C, F, S>(channels: &mut Vec<ServerChannel>, server: &Candidate, connect: &C) -> usize
where
    C: Fn(Candidate) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if channels.len() >= MOST {
        let oldest = channels
            .iter()
            .enumerate()
            .min_by_key(|(_, channel)| channel.used);
        if let Some(oldest) = oldest.map(|(index, _)| index) {
            channels.swap_remove(oldest);
        }
    }
    let dial = Dial {
        connect: connect.clone(),
        server: server.clone(),
    };
    // The address is a name only: `dial` connects.
    let origin = Uri::from_static("http://rate-limit-service");
    channels.push(ServerChannel {
        candidate: server.clone(),
        channel: Endpoint::from(origin).connect_with_connector_lazy(dial),
        used: Instant::now(),
        failed: None,
        late: 0,
    });
    channels.len() - 1
}

/// Connects to one endpoint.
struct Dial<C> {
    connect: C,
    server: Candidate,
}

impl<C, F, S> Service<Uri> for Dial<C>
where
    C: Fn(Candidate) -> F,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Response = TokioIo<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<S>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connecting = (self.connect)(self.server.clone());
        Box::pin(async move { connecting.await.map(TokioIo::new) })
    }
}
