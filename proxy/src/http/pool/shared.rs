//! A connection of HTTP/2, which many requests share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::http::handshake::{Http2Client, STREAMS_PER_CONNECTION};
use crate::http::http2_sender::Http2Sender;
use crate::memory::OpenStream;
use crate::stream::StreamHealth;
use crate::sync::lock;
use crate::upstream::RequestReceiver;

/// Requests that were given up on a connection of HTTP/2 before it takes no further ones: what
/// several clients of a pod give up makes no server take us for an attacker (CVE-2023-44487;
/// nghttp2 and Node allow 1000 at once, Envoy looks closer from 500 on). Those that are under
/// way stay.
pub(super) const RESETS_PER_CONNECTION: usize = 400;

/// A connection of HTTP/2, and what is known of what it runs on.
#[derive(Clone, Debug)]
pub(super) struct SharedConnection {
    client: Http2Client,
    health: StreamHealth,
    receiver: Option<Arc<dyn RequestReceiver>>,
    usage: Arc<StreamUsage>,
}

/// Use of one connection of HTTP/2.
#[derive(Debug)]
struct StreamUsage {
    open: AtomicUsize,
    /// Requests that were not answered to the end.
    given_up: AtomicUsize,
    last_used: Mutex<Instant>,
}

/// One request's stream on a connection of HTTP/2; its place is free again when dropped.
#[derive(Debug)]
pub(super) struct SharedStream {
    pub(super) sender: Http2Sender,
    pub(super) receiver: Option<Arc<dyn RequestReceiver>>,
    usage: Arc<StreamUsage>,
    /// Its response may still be read.
    pub(super) memory: OpenStream,
    has_finished: bool,
}

impl SharedStream {
    /// The request was answered to the end.
    pub(super) fn finish(mut self) {
        self.has_finished = true;
    }
}

impl Drop for SharedStream {
    fn drop(&mut self) {
        *lock(&self.usage.last_used) = Instant::now();
        if !self.has_finished {
            self.usage.given_up.fetch_add(1, Ordering::AcqRel);
        }
        self.usage.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl SharedConnection {
    /// A connection that no request was put on yet.
    pub(super) fn new(
        client: Http2Client,
        health: StreamHealth,
        receiver: Option<Arc<dyn RequestReceiver>>,
    ) -> Self {
        let usage = StreamUsage {
            open: AtomicUsize::new(0),
            given_up: AtomicUsize::new(0),
            last_used: Mutex::new(Instant::now()),
        };
        Self {
            client,
            health,
            receiver,
            usage: Arc::new(usage),
        }
    }

    /// One more request on it.
    pub(super) fn begin_stream(&self) -> SharedStream {
        self.usage.open.fetch_add(1, Ordering::AcqRel);
        SharedStream {
            sender: self.client.sender.clone(),
            receiver: self.receiver.clone(),
            usage: Arc::clone(&self.usage),
            memory: self.client.memory.open_stream(),
            has_finished: false,
        }
    }

    /// Whether it takes further requests at all.
    pub(super) fn is_usable(&self) -> bool {
        let given_up = self.usage.given_up.load(Ordering::Acquire);
        !self.client.sender.is_closed()
            && !self.health.is_draining()
            && given_up < RESETS_PER_CONNECTION
    }

    /// Whether it takes one more now. While the server has not said how many it takes, the
    /// request that has dialled is alone.
    pub(super) fn is_free(&self) -> bool {
        let most = self.client.limit.current().unwrap_or(1);
        self.usage.open.load(Ordering::Acquire) < most.min(STREAMS_PER_CONNECTION as usize)
    }

    /// Whether no request was on it for that long.
    pub(super) fn is_unused(&self, longest_idle: Duration) -> bool {
        let last_used = *lock(&self.usage.last_used);
        self.usage.open.load(Ordering::Acquire) == 0 && last_used.elapsed() >= longest_idle
    }
}
