//! One end of a connection that carries another protocol: what comes of it is counted, and how
//! the other end has ended is passed on to it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use crate::http::broken_response::{ResponseBreak, ServerEnd};
use crate::telemetry::DirectionProgress;

/// How long a reset waits for what was sent before it.
const BREAK_OFF_WITHIN: Duration = Duration::from_secs(1);
/// Turns of the runtime in which both halves of a stream of HTTP/2 are told of its reset.
const TURNS: usize = 4;

/// An end whose connection has changed its protocol.
pub(super) struct CarriedEnd<'a> {
    io: TokioIo<Upgraded>,
    bytes: &'a AtomicU64,
    progress: DirectionProgress<'a>,
    /// Breaks its connection off, which is one of HTTP/1.
    connection: Option<ResponseBreak>,
    is_broken: bool,
    turns: usize,
}

impl<'a> CarriedEnd<'a> {
    /// An end of which nothing was read yet. `bytes` and `progress` count what comes of it.
    pub(super) fn new(
        upgraded: Upgraded,
        connection: Option<ResponseBreak>,
        bytes: &'a AtomicU64,
        progress: DirectionProgress<'a>,
    ) -> Self {
        Self {
            io: TokioIo::new(upgraded),
            bytes,
            progress,
            connection,
            is_broken: false,
            turns: 0,
        }
    }

    /// Whether it was this end that broke.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Breaks it off behind what was sent, as the other end did.
    pub(super) async fn break_off(&mut self) {
        let Some(connection) = &self.connection else {
            return;
        };
        if connection.poll_passed_on(ServerEnd::Reset).is_pending() {
            let flush = poll_fn(|context| Pin::new(&mut self.io).poll_flush(context));
            // One that takes nothing doesn't hold it up, and it may be the one that broke.
            let _ = timeout(BREAK_OFF_WITHIN, flush).await;
        }
    }

    /// hyper takes a stream of HTTP/2 that was cancelled for one that has ended: the half that is
    /// written to knows better.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.connection.is_some() {
            return Poll::Ready(Ok(()));
        }
        if self.turns < TURNS {
            self.turns += 1;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_bytes(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        let length = buffer.filled().len() - before;
        if length == 0 {
            ready!(self.poll_end(context))?;
        }
        Poll::Ready(Ok(length))
    }

    fn note<T>(&mut self, result: io::Result<T>) -> Poll<io::Result<T>> {
        self.is_broken |= result.is_err();
        Poll::Ready(result)
    }
}

impl AsyncRead for CarriedEnd<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(self.poll_bytes(context, buffer));
        match read {
            Ok(0) => self.progress.end(),
            Ok(length) => {
                self.bytes.fetch_add(length as u64, Ordering::Relaxed);
                self.progress.add(length);
            }
            Err(_) => {}
        }
        self.note(read.map(drop))
    }
}

impl AsyncWrite for CarriedEnd<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(context, bytes));
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.io).poll_flush(context));
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whoever is there may have closed already, after it sent all it had.
        let _ = ready!(Pin::new(&mut self.io).poll_shutdown(context));
        Poll::Ready(Ok(()))
    }
}
