//! A response that comes sooner than its request.
//!
//! A server may answer as soon as it is connected to, and read nothing: its client takes that for
//! the response to its request. hyper takes it for a broken connection where it comes sooner than
//! the request, so it is held back until the request is written. Not for long: what comes on a
//! connection that is idle (408 Request Timeout) says that it ends.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

/// First bytes of a response of HTTP/1.
const RESPONSE: &[u8] = b"HTTP/1.";
/// How long a response may wait for its request.
const WAITS_FOR: Duration = Duration::from_secs(1);

/// The first bytes of a connection to a server, until they are read.
#[derive(Debug, Default)]
pub(super) struct EarlyResponse {
    held: Vec<u8>,
    /// When it waits no longer, once it is there.
    timeout: Option<Pin<Box<Sleep>>>,
    reader: Option<Waker>,
    /// Something was written: what comes may be the response to it.
    is_written: bool,
}

impl EarlyResponse {
    /// Something was written, or could not be.
    pub(super) fn written(&mut self) {
        self.is_written = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Ready when the bytes that it holds, or the end where it holds none, may be read; or when
    /// something was written, and nothing is held.
    ///
    /// # Errors
    /// Those of the stream.
    pub(super) fn poll_due<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_written {
            return Poll::Ready(Ok(()));
        }
        if self.timeout.is_none() {
            let mut bytes = [0; RESPONSE.len()];
            let mut first = ReadBuf::new(&mut bytes);
            ready!(Pin::new(stream).poll_read(context, &mut first))?;
            self.held.extend_from_slice(first.filled());
            if self.held.is_empty() || !RESPONSE.starts_with(&self.held) {
                return Poll::Ready(Ok(()));
            }
        }
        self.reader = Some(context.waker().clone());
        let timeout = || Box::pin(tokio::time::sleep(WAITS_FOR));
        let timeout = self.timeout.get_or_insert_with(timeout);
        timeout.as_mut().poll(context).map(Ok)
    }

    /// Whether the next bytes are still to be read from the stream.
    pub(super) fn holds_nothing(&self) -> bool {
        self.is_written && self.held.is_empty()
    }

    /// Gives the bytes to whoever reads; gives back what there is no room for.
    pub(super) fn read(mut self, buffer: &mut ReadBuf<'_>) -> Option<Self> {
        let part = self.held.len().min(buffer.remaining());
        buffer.put_slice(&self.held[..part]);
        self.held.drain(..part);
        self.is_written = true;
        (!self.held.is_empty()).then_some(self)
    }
}
