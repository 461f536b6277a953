//! The connection whose bytes are counted: below HTTP, which tells nobody what it holds.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_http_guard::{GuardHandle, HeadDeadline};

use super::account::ConnectionMemory;
use super::exceeded::MemoryExceeded;
use super::flow::{Direction, FlowMeter, PER_BLOCKED_STREAM};
use super::head::{AwaitedHead, HeadTimeout, ResponseHeads};

/// Bytes of HTTP/1 that wait for a socket that takes none, beside those that it is offered: of
/// the body on its way from the other connection.
const PER_BLOCKED_CONNECTION: usize = 64 * 1024;

/// A connection that tells what it holds, and ends when that is too much, or when a head on it
/// has begun that doesn't come to its end.
#[derive(Debug)]
pub(crate) struct MeteredStream<S> {
    stream: S,
    meter: Meter,
    deadline: HeadDeadline,
    memory: Arc<ConnectionMemory>,
}

#[derive(Debug)]
enum Meter {
    /// Of HTTP/2.
    Frames(Box<FlowMeter>),
    /// Of HTTP/1.
    Http1(Http1Meter),
}

/// What a connection of HTTP/1 holds.
#[derive(Debug, Default)]
struct Http1Meter {
    /// Knows the requests that come on it.
    guard: Option<GuardHandle>,
    /// Of the responses that do.
    heads: Option<ResponseHeads>,
    /// Of requests that haven't begun, with the room that the buffer has for their rest.
    unserved: usize,
    /// What it is offered while it takes nothing.
    unsent: usize,
}

impl Meter {
    /// Number of the head that has begun to come, if one has and nobody else looks at its time.
    fn unfinished_head(&self) -> Option<u64> {
        match self {
            Self::Frames(meter) => meter.unfinished_head(),
            Self::Http1(meter) => meter.heads.as_ref().and_then(ResponseHeads::unfinished),
        }
    }
}

impl Http1Meter {
    fn held(&self) -> usize {
        self.unserved + self.unsent
    }

    /// Looks at what came, into a buffer that has so much room left; says if something changed.
    fn read(&mut self, room: usize) -> bool {
        let guard = self.guard.as_ref();
        let unserved = match guard.map_or(0, GuardHandle::unserved_bytes) {
            0 => 0,
            bytes => bytes + room,
        };
        std::mem::replace(&mut self.unserved, unserved) != unserved
    }
}

impl<S> MeteredStream<S> {
    /// A connection of HTTP/2, whose streams have windows of that size here. A head on it may
    /// take so long.
    pub(crate) fn of_http2(
        stream: S,
        memory: Arc<ConnectionMemory>,
        stream_window: u32,
        head_time: Option<Duration>,
    ) -> Self {
        let meter = FlowMeter::new(stream_window, PER_BLOCKED_STREAM);
        Self::new(stream, Meter::Frames(Box::new(meter)), memory, head_time)
    }

    /// The same, of tunnels: what waits to be sent counts with what they carry.
    pub(crate) fn of_tunnels(
        stream: S,
        memory: Arc<ConnectionMemory>,
        stream_window: u32,
        head_time: Option<Duration>,
    ) -> Self {
        let meter = FlowMeter::new(stream_window, 0);
        let meter = Meter::Frames(Box::new(meter));
        Self::new(stream, meter, memory, head_time)
    }

    /// A connection of HTTP/1 to a server. The head of a response that somebody waits for counts
    /// as long as it isn't complete, which may take so long.
    pub(crate) fn of_http1(
        stream: S,
        memory: Arc<ConnectionMemory>,
        awaited: AwaitedHead,
        head_time: Option<Duration>,
    ) -> Self {
        let meter = Http1Meter {
            heads: Some(ResponseHeads::new(awaited)),
            ..Http1Meter::default()
        };
        Self::new(stream, Meter::Http1(meter), memory, head_time)
    }

    /// A client's connection of HTTP/1: the heads of its requests count as long as they aren't
    /// complete. The guard has an eye on their time.
    pub(crate) fn of_requests(
        stream: S,
        memory: Arc<ConnectionMemory>,
        guard: GuardHandle,
    ) -> Self {
        let meter = Http1Meter {
            guard: Some(guard),
            ..Http1Meter::default()
        };
        Self::new(stream, Meter::Http1(meter), memory, None)
    }

    fn new(
        stream: S,
        meter: Meter,
        memory: Arc<ConnectionMemory>,
        head_time: Option<Duration>,
    ) -> Self {
        Self {
            stream,
            meter,
            deadline: HeadDeadline::new(head_time),
            memory,
        }
    }

    /// An error, once the connection is to end.
    fn check(&self) -> io::Result<()> {
        match self.memory.is_cut() {
            true => Err(io::Error::new(io::ErrorKind::OutOfMemory, MemoryExceeded)),
            false => Ok(()),
        }
    }

    /// Waits, also for the connection's end, and no longer than a head that has begun may take.
    fn pending<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.memory.wake_when_cut(context);
        // It may have been ended just before.
        self.check()?;
        let head = self.meter.unfinished_head();
        ready!(self.deadline.poll_over(head, context));
        self.memory.set_head_late();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, HeadTimeout)))
    }

    /// Something came, or nothing, into a buffer that has so much room left.
    fn received(&mut self, bytes: &[u8], room: usize) {
        match &mut self.meter {
            Meter::Frames(meter) if !bytes.is_empty() => {
                meter.count(Direction::Received, bytes, self.memory.open_streams());
                self.memory.set_held(meter.held());
            }
            Meter::Http1(meter) => {
                if let Some(heads) = &mut meter.heads {
                    heads.read(bytes, room);
                }
                if meter.read(room) {
                    self.memory.set_held(meter.held());
                }
            }
            Meter::Frames(_) => {}
        }
    }

    fn sent(&mut self, slices: &[IoSlice<'_>], mut length: usize) {
        match &mut self.meter {
            Meter::Frames(meter) => {
                let open_streams = self.memory.open_streams();
                for slice in slices {
                    let part = slice.len().min(length);
                    meter.count(Direction::Sent, &slice[..part], open_streams);
                    length -= part;
                }
                self.memory.set_held(meter.held());
            }
            Meter::Http1(meter) => {
                meter.unsent = 0;
                self.memory.set_held(meter.held());
            }
        }
    }

    /// The socket takes nothing of what it is offered.
    fn blocked(&mut self, slices: &[IoSlice<'_>]) {
        if let Meter::Http1(meter) = &mut self.meter {
            let offered: usize = slices.iter().map(|slice| slice.len()).sum();
            meter.unsent = 2 * offered + PER_BLOCKED_CONNECTION;
            self.memory.set_held(meter.held());
        }
    }

    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(length)) => {
                self.sent(slices, length);
                Poll::Ready(Ok(length))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.blocked(slices);
                self.pending(context)
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MeteredStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        // The room counts as long as somebody waits for what belongs there.
        let room = if read.is_pending() {
            buffer.remaining()
        } else {
            0
        };
        self.received(&buffer.filled()[before..], room);
        match read {
            Poll::Ready(read) => Poll::Ready(read),
            Poll::Pending => self.pending(context),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MeteredStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(context, &[IoSlice::new(bytes)], written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(context, slices, written)
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
