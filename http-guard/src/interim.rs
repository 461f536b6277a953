//! Interim responses (RFC 9110 section 15.2): those that somebody else than the server writes,
//! and the server's own of 100.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

use crate::handle::GuardHandle;

/// How servers ask for a body.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Interim responses on their way to the client.
#[derive(Debug, Default)]
pub(crate) struct InterimWriter {
    /// The rest of those that are being written.
    rest: BytesMut,
    /// The server has written something since it last flushed: what it writes next need not
    /// begin a response.
    is_behind: bool,
    /// A request's body comes unasked: the server's response of 100, for which nobody has
    /// waited, is kept back.
    pub(crate) skips_continue: bool,
}

impl InterimWriter {
    /// Writes what is due before `bytes` of the server are. How many of these are to be passed
    /// over.
    pub(crate) fn poll_before_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        handle: &GuardHandle,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.rest.is_empty() && !self.is_behind {
            self.rest = handle.take_interim(context, true);
        }
        ready!(self.poll_write_rest(stream, context))?;
        if !self.is_behind && self.skips_continue && bytes.starts_with(CONTINUE) {
            self.skips_continue = false;
            return Poll::Ready(Ok(CONTINUE.len()));
        }
        self.is_behind = true;
        Poll::Ready(Ok(0))
    }

    /// Writes what is due while the server has nothing to write.
    pub(crate) fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        handle: &GuardHandle,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.is_behind = false;
        if self.rest.is_empty() {
            self.rest = handle.take_interim(context, false);
        }
        self.poll_write_rest(stream, context)
    }

    fn poll_write_rest<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            match ready!(Pin::new(&mut *stream).poll_write(context, &self.rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.rest.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}
