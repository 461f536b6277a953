//! A stream with first bytes that were read already.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::memory::{HeldBytes, PodMemory};
use crate::stream::{BreakOff, Stream};

/// Bytes that one look reads at the most.
const LARGEST_READ: usize = 4096;

/// A stream whose first bytes were looked at. Whoever reads it gets them first.
#[derive(Debug)]
pub(crate) struct PrefixedStream {
    prefix: BytesMut,
    stream: Stream,
    /// The error that looking at it met. A socket gives an error once and then an orderly
    /// end, so it is kept for whoever reads next.
    read_error: Option<io::Error>,
    /// When the first byte came.
    began: Option<Instant>,
    /// The first bytes, as long as nobody has taken them.
    held: Option<HeldBytes>,
}

/// The bytes that a stream begins with, and the error that follows them at once.
#[derive(Debug)]
pub(crate) struct FirstBytes {
    /// The bytes; maybe none.
    pub(crate) bytes: BytesMut,
    /// The error, where reading met one.
    pub(crate) error: Option<io::Error>,
}

impl PrefixedStream {
    /// A stream that was not read from.
    pub(crate) fn new(stream: impl Into<Stream>) -> Self {
        Self::with_prefix(BytesMut::new(), stream)
    }

    /// A stream of which `prefix` was read.
    pub(crate) fn with_prefix(prefix: BytesMut, stream: impl Into<Stream>) -> Self {
        Self {
            prefix,
            stream: stream.into(),
            read_error: None,
            began: None,
            held: None,
        }
    }

    /// The same stream, whose first bytes count there until somebody takes them.
    pub(crate) fn counted_in(mut self, memory: &Arc<PodMemory>) -> Self {
        self.held = Some(memory.hold(self.prefix.len()));
        self
    }

    /// When the first byte came, if one has been read here.
    pub(crate) fn began(&self) -> Option<Instant> {
        self.began
    }

    /// The bytes that were read and not consumed yet.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// The stream beneath, to ask or to set something; its bytes are not to be touched.
    pub(crate) fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// The TCP connection beneath, where that is one of which nothing was read.
    pub(crate) fn into_unread_tcp(self) -> Result<TcpStream, Box<Self>> {
        let is_unread = self.prefix.is_empty() && self.read_error.is_none();
        match self.stream {
            Stream::Tcp(stream) if is_unread => Ok(stream),
            stream => Err(Box::new(Self { stream, ..self })),
        }
    }

    /// Closes it so that the peer learns that it broke.
    pub(crate) fn reset(self) {
        self.stream.reset();
    }

    /// Takes the bytes that were read and not consumed yet, and the error that reading
    /// met. The stream goes on after them.
    pub(crate) fn take_first(&mut self) -> FirstBytes {
        self.held = None;
        FirstBytes {
            bytes: std::mem::take(&mut self.prefix),
            error: self.read_error.take(),
        }
    }

    /// Reads until `decide` has seen enough of the first bytes: all that was read is shown
    /// to it, again with each read. `None` when the client ends before that, or once
    /// `longest` bytes were seen. Cancel-safe.
    ///
    /// # Errors
    /// When the connection breaks; whoever reads it next gets the same error.
    pub(crate) async fn read_until<T>(
        &mut self,
        longest: usize,
        mut decide: impl FnMut(&[u8]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        loop {
            if let Some(decided) = decide(&self.prefix) {
                return Ok(Some(decided));
            }
            let left = longest.saturating_sub(self.prefix.len());
            if left == 0 || self.read_at_most(left).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads what comes next and keeps it; 0 when the client has ended. Cancel-safe.
    ///
    /// # Errors
    /// Like [`PrefixedStream::read_until`].
    pub(crate) async fn read_more(&mut self) -> io::Result<usize> {
        self.read_at_most(LARGEST_READ).await
    }

    async fn read_at_most(&mut self, limit: usize) -> io::Result<usize> {
        poll_fn(|context| self.poll_read_more(context, limit)).await
    }

    /// Nothing is held while nothing comes: the bytes are read to the stack first.
    fn poll_read_more(
        &mut self,
        context: &mut Context<'_>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = &self.read_error {
            return Poll::Ready(Err(same_error(error)));
        }
        let mut space = [const { MaybeUninit::uninit() }; LARGEST_READ];
        let mut buffer = ReadBuf::uninit(&mut space[..limit.min(LARGEST_READ)]);
        if let Err(error) = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)) {
            let reported = same_error(&error);
            self.read_error = Some(error);
            return Poll::Ready(Err(reported));
        }
        if !buffer.filled().is_empty() {
            self.began.get_or_insert_with(Instant::now);
        }
        self.prefix.extend_from_slice(buffer.filled());
        if let Some(held) = &mut self.held {
            held.set(self.prefix.len());
        }
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

/// Errors of the system can't be cloned.
fn same_error(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

impl BreakOff for PrefixedStream {
    fn poll_break_off(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_break_off(context)
    }

    fn is_on_its_way(&self) -> bool {
        self.stream.is_on_its_way()
    }

    fn break_on_close(&mut self) {
        self.stream.break_on_close();
    }

    fn announce_unanswered(&mut self) {
        self.stream.announce_unanswered();
    }
}

impl AsyncRead for PrefixedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            let part = self.prefix.len().min(buffer.remaining());
            buffer.put_slice(&self.prefix[..part]);
            self.prefix.advance(part);
            if self.prefix.is_empty() {
                self.prefix = BytesMut::new();
                self.held = None;
            }
            return Poll::Ready(Ok(()));
        }
        if let Some(error) = &self.read_error {
            return Poll::Ready(Err(same_error(error)));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for PrefixedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
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

#[cfg(test)]
mod tests;
