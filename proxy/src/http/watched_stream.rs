//! A connection to an application, whose end is noticed by somebody else than who reads and writes
//! it.
//!
//! An application may answer as soon as it is connected to, and read nothing: its client takes
//! that for the response to its request. hyper takes it for a broken connection where it comes
//! sooner than the request, so it is left unread until the request is sent. Not for long: what
//! comes on a connection that is idle (408 Request Timeout) says that it ends.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::stream::SendQueue;

/// First bytes of a response of HTTP/1.
const RESPONSE: &[u8] = b"HTTP/1.";
/// How long a response may wait for its request.
const WAITS_FOR: Duration = Duration::from_secs(1);

/// A connection; its token is cancelled when it is dropped. A connection that has changed its
/// protocol lives on.
#[derive(Debug)]
pub(crate) struct WatchedStream {
    stream: TcpStream,
    /// Until something is written, and a response may come sooner than its request.
    early: Option<EarlyResponse>,
    _ended: DropGuard,
}

/// A response ahead of its request.
#[derive(Debug, Default)]
struct EarlyResponse {
    /// When it waits no longer, once it is there.
    timeout: Option<Pin<Box<Sleep>>>,
    reader: Option<Waker>,
}

impl EarlyResponse {
    /// Ready when what is there may be read.
    fn poll_readable(&mut self, stream: &TcpStream, context: &mut Context<'_>) -> Poll<()> {
        if self.timeout.is_none() {
            let mut bytes = [0; RESPONSE.len()];
            let mut peeked = ReadBuf::new(&mut bytes);
            let result = ready!(stream.poll_peek(context, &mut peeked));
            let is_response = !peeked.filled().is_empty() && RESPONSE.starts_with(peeked.filled());
            if result.is_err() || !is_response {
                return Poll::Ready(());
            }
        }
        self.reader = Some(context.waker().clone());
        let timeout = || Box::pin(tokio::time::sleep(WAITS_FOR));
        self.timeout
            .get_or_insert_with(timeout)
            .as_mut()
            .poll(context)
    }
}

impl WatchedStream {
    /// Has `ended` cancelled when the stream is dropped.
    pub(crate) fn new(stream: TcpStream, ended: CancellationToken) -> Self {
        Self {
            stream,
            early: Some(EarlyResponse::default()),
            _ended: ended.drop_guard(),
        }
    }

    /// Something was written: what comes may be the response to it.
    fn written(&mut self) {
        let early = self.early.take();
        if let Some(reader) = early.and_then(|early| early.reader) {
            reader.wake();
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

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(early) = &mut this.early {
            ready!(early.poll_readable(&this.stream, context));
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.written();
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices));
        self.written();
        Poll::Ready(written)
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
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;
    use weft_testing::tcp;
    use weft_testing::wait::in_time;

    use super::*;

    const SOON: Duration = Duration::from_millis(100);

    async fn watched(greeting: &[u8]) -> (WatchedStream, TcpStream) {
        let (near, mut far) = tcp::pair().await;
        far.write_all(greeting).await.unwrap();
        (WatchedStream::new(near, CancellationToken::new()), far)
    }

    #[tokio::test]
    async fn a_response_ahead_of_its_request_is_read_behind_it() {
        let (mut stream, _far) = watched(b"HTTP/1.1 200").await;
        let mut bytes = [0; 12];
        let early = timeout(SOON, stream.read_exact(&mut bytes)).await;
        early.unwrap_err();
        stream.write_all(b"GET").await.unwrap();
        in_time(stream.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(&bytes, b"HTTP/1.1 200");
    }

    #[tokio::test]
    async fn a_response_that_no_request_follows_is_read_in_the_end_and_a_greeting_at_once() {
        let mut bytes = [0; 4];
        for (greeting, is_at_once) in [(b"HTTP", false), (b"220 ", true)] {
            let (mut stream, _far) = watched(greeting).await;
            let read = timeout(SOON, stream.read_exact(&mut bytes)).await;
            assert_eq!(read.is_ok(), is_at_once);
            if !is_at_once {
                in_time(stream.read_exact(&mut bytes)).await.unwrap();
            }
            assert_eq!(&bytes, greeting);
        }
        let (mut stream, far) = watched(b"").await;
        drop(far);
        assert_eq!(in_time(stream.read(&mut bytes)).await.unwrap(), 0);
    }
}
