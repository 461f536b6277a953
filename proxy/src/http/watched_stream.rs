//! A connection to an application, whose end is noticed by somebody else than who reads and writes
//! it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::stream::{BreakOff, SendQueue};

/// A connection; its token is cancelled when it is dropped. A connection that has changed its
/// protocol lives on.
#[derive(Debug)]
pub(crate) struct WatchedStream {
    stream: TcpStream,
    _ended: DropGuard,
}

impl WatchedStream {
    /// Has `ended` cancelled when the stream is dropped.
    pub(crate) fn new(stream: TcpStream, ended: CancellationToken) -> Self {
        Self {
            stream,
            _ended: ended.drop_guard(),
        }
    }
}

impl SendQueue for WatchedStream {
    fn is_undelivered(&self) -> bool {
        self.stream.is_undelivered()
    }

    fn resets_when_unread(&self) -> bool {
        self.stream.resets_when_unread()
    }

    fn is_untouched(&self) -> bool {
        self.stream.is_untouched()
    }

    fn ends_unanswered(&self) -> bool {
        self.stream.ends_unanswered()
    }
}

impl BreakOff for WatchedStream {
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

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for WatchedStream {
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
