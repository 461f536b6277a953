//! A connection to a server of HTTP/1, whose sending side ends with its client, and which breaks off
//! with it once it carries another protocol.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::broken_response::BreakableStream;
use super::half_close::HalfClose;
use crate::stream::BreakOff;

/// A connection whose sending side ends when its [`HalfClose`] says so, and that tells of the
/// server's end when that may be told.
#[derive(Debug)]
pub(super) struct HalfClosingStream<S: BreakOff> {
    stream: BreakableStream<S>,
    half_close: HalfClose,
    has_ended: bool,
    server_has_ended: bool,
}

impl<S: BreakOff> HalfClosingStream<S> {
    pub(super) fn new(stream: S) -> (Self, HalfClose) {
        let half_close = HalfClose::default();
        let server_break = half_close.server_break();
        let closing = Self {
            stream: BreakableStream::new(stream, server_break),
            half_close: half_close.clone(),
            has_ended: false,
            server_has_ended: false,
        };
        (closing, half_close)
    }
}

impl<S: AsyncRead + BreakOff + Unpin> AsyncRead for HalfClosingStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.server_has_ended {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
            if buffer.filled().len() > before {
                self.half_close.received();
                return Poll::Ready(Ok(()));
            }
            self.server_has_ended = true;
        }
        self.half_close.poll_end(context).map(Ok)
    }
}

impl<S: AsyncWrite + BreakOff + Unpin> AsyncWrite for HalfClosingStream<S> {
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

    /// hyper flushes, whenever it looks at the connection, what it has written by then: behind
    /// a request whose body it has taken nothing is to come.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.half_close.flushed();
        if !self.has_ended && self.half_close.poll_due(context).is_ready() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            self.has_ended = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_ended {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
