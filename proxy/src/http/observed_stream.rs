//! A stream of which somebody else wants to know how it ended: a request that met the end of
//! an idle connection may be sent again if the server can't have read it.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::SendQueue;

/// A stream with what was seen of it.
#[derive(Debug)]
pub(crate) struct ObservedStream<S> {
    stream: S,
    observation: Arc<Observation>,
}

/// What was seen of a stream.
#[derive(Debug, Default)]
pub(crate) struct Observation {
    received: AtomicU64,
    ended_in_order: AtomicBool,
    ended_unread: AtomicBool,
    /// What broke it was seen: what follows is its consequence.
    broke: AtomicBool,
}

impl Observation {
    /// Bytes that were received.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// Whether the other end has ended it, and not broken it off.
    pub(crate) fn ended_in_order(&self) -> bool {
        self.ended_in_order.load(Ordering::Acquire)
    }

    /// Whether it ended before the other end has read all that was sent.
    pub(crate) fn ended_unread(&self) -> bool {
        self.ended_unread.load(Ordering::Acquire)
    }
}

impl<S: SendQueue> ObservedStream<S> {
    /// A stream of which nothing was seen yet.
    pub(crate) fn new(stream: S) -> (Self, Arc<Observation>) {
        let observation = Arc::<Observation>::default();
        let observed = Self {
            stream,
            observation: Arc::clone(&observation),
        };
        (observed, observation)
    }

    fn read(&self, result: &io::Result<usize>) {
        match result {
            Ok(0) => {
                self.observation
                    .ended_in_order
                    .store(true, Ordering::Release);
                self.ended(self.stream.is_undelivered());
            }
            Ok(bytes) => {
                let bytes = *bytes as u64;
                self.observation.received.fetch_add(bytes, Ordering::AcqRel);
            }
            Err(error) => self.broke(error),
        }
    }

    /// A reset that answers to bytes for a connection which the other end had closed before
    /// says that these were not read (RFC 9293 section 3.10.7.1). Linux tells it from others: it
    /// is EPIPE where an end came first, and else ECONNRESET. That one may come of a server that
    /// has read a part and acted on it.
    fn broke(&self, error: &io::Error) {
        if self.observation.broke.swap(true, Ordering::AcqRel) {
            return;
        }
        let is_behind_end = match error.kind() {
            ErrorKind::BrokenPipe => true,
            ErrorKind::ConnectionReset => self.observation.ended_in_order(),
            _ => false,
        };
        self.ended(is_behind_end && self.stream.resets_when_unread());
    }

    fn ended(&self, unread: bool) {
        if unread {
            self.observation.ended_unread.store(true, Ordering::Release);
        }
    }
}

impl<S: AsyncRead + SendQueue + Unpin> AsyncRead for ObservedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        let result = result.map(|()| buffer.filled().len() - before);
        self.read(&result);
        Poll::Ready(result.map(drop))
    }
}

impl<S: AsyncWrite + SendQueue + Unpin> AsyncWrite for ObservedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        if let Err(error) = &result {
            self.broke(error);
        }
        Poll::Ready(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices));
        if let Err(error) = &result {
            self.broke(error);
        }
        Poll::Ready(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
