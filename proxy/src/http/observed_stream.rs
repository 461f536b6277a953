//! A stream of which somebody else wants to know how it ended: a request that met the end of
//! an idle connection may be sent again if the server can't have read it.
//!
//! A server may answer before it has read all of a request, and close: what is written then
//! fails, though the answer waits to be read (RFC 9112 section 9.5). So writing ends silently,
//! and reading tells how the stream ended. One may even answer before it has read anything
//! (`early_response`).

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::early_response::EarlyResponse;
use crate::stream::{BreakOff, SendQueue};

/// A stream with what was seen of it.
#[derive(Debug)]
pub(crate) struct ObservedStream<S> {
    stream: S,
    observation: Arc<Observation>,
    /// Until something was written, and what came ahead of it is read.
    early: Option<EarlyResponse>,
    /// The other end or an error was read: nothing is left to read.
    is_read: bool,
    failure: Option<WriteFailure>,
}

/// A write failed because the other end is gone.
#[derive(Debug)]
struct WriteFailure {
    error: io::Error,
    /// Reading was tried since: what is written may be thrown away. No sooner, as what is taken
    /// of a request may be missing when it is sent again.
    was_read: bool,
    /// Whoever waits to write.
    writer: Option<Waker>,
}

/// What was seen of a stream.
#[derive(Debug, Default)]
pub(crate) struct Observation {
    received: AtomicU64,
    ended_in_order: AtomicBool,
    ended_unanswered: AtomicBool,
    ended_unread: AtomicBool,
    ended_untouched: AtomicBool,
    /// What broke it was seen: what follows is its consequence.
    broke: AtomicBool,
}

impl Observation {
    /// Bytes that were received.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// Whether the other end has ended it, and not broken it off.
    fn ended_in_order(&self) -> bool {
        self.ended_in_order.load(Ordering::Acquire)
    }

    /// Whether the other end has certainly not read a request, before which it had sent that many
    /// bytes. A stream that `was_used` ends for being idle. So may a new one; but as it may also
    /// end because of what was read, nothing at all may have been received there.
    pub(crate) fn is_unread_since(&self, received: u64, was_used: bool) -> bool {
        let is_unread = match was_used {
            true => &self.ended_unread,
            false => &self.ended_untouched,
        };
        self.received() == received && is_unread.load(Ordering::Acquire)
    }

    /// Whether the other end has ended it, after that many bytes, as if no request were there.
    pub(crate) fn ends_between_requests(&self, received: u64) -> bool {
        let is_unanswered = self.ended_unanswered.load(Ordering::Acquire);
        self.received() == received && self.ended_in_order() && !is_unanswered
    }
}

impl<S: SendQueue> ObservedStream<S> {
    /// A stream of which nothing was seen yet.
    pub(crate) fn new(stream: S) -> (Self, Arc<Observation>) {
        let observation = Arc::<Observation>::default();
        let observed = Self {
            stream,
            observation: Arc::clone(&observation),
            early: Some(EarlyResponse::default()),
            is_read: false,
            failure: None,
        };
        (observed, observation)
    }

    fn read(&mut self, result: io::Result<usize>) -> io::Result<()> {
        let is_end = !matches!(result, Ok(1..));
        let failure = self.failure.take_if(|_| is_end);
        if let (Ok(0), Some(WriteFailure { error, .. })) = (&result, failure)
            && !self.is_behind_end(&error)
        {
            // The kernel tells of a reset once.
            self.is_read = true;
            return Err(error);
        }
        self.observe(&result);
        result.map(drop)
    }

    fn observe(&mut self, result: &io::Result<usize>) {
        self.is_read = !matches!(result, Ok(1..));
        match result {
            Ok(0) => {
                self.observation
                    .ended_in_order
                    .store(true, Ordering::Release);
                self.observation
                    .ended_unanswered
                    .store(self.stream.ends_unanswered(), Ordering::Release);
                self.ended(self.stream.is_undelivered());
            }
            Ok(bytes) => {
                let bytes = *bytes as u64;
                self.observation.received.fetch_add(bytes, Ordering::AcqRel);
            }
            Err(error) => self.broke(error),
        }
    }

    fn broke(&self, error: &io::Error) {
        if !self.observation.broke.swap(true, Ordering::AcqRel) {
            self.ended(self.is_behind_end(error));
        }
    }

    /// A reset that answers to bytes for a connection which the other end had closed before
    /// says that these were not read (RFC 9293 section 3.10.7.1). Linux tells it from others: it
    /// is EPIPE where an end came first, and else ECONNRESET. That one may come of a server that
    /// has read a part and acted on it.
    fn is_behind_end(&self, error: &io::Error) -> bool {
        let is_behind_end = match error.kind() {
            ErrorKind::BrokenPipe => true,
            ErrorKind::ConnectionReset => self.observation.ended_in_order(),
            _ => false,
        };
        is_behind_end && self.stream.resets_when_unread()
    }

    fn ended(&self, unread: bool) {
        if unread {
            let is_untouched = self.stream.is_untouched();
            self.observation
                .ended_untouched
                .store(is_untouched, Ordering::Release);
            self.observation.ended_unread.store(true, Ordering::Release);
        }
    }

    /// The result of a write of that length, behind which a response may be read.
    fn written(
        &mut self,
        context: &Context<'_>,
        result: io::Result<usize>,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        if let Some(early) = &mut self.early {
            early.written();
        }
        self.finish_write(context, result, length)
    }

    /// The result of a write of that length, as it is told to whoever writes.
    fn finish_write(
        &mut self,
        context: &Context<'_>,
        result: io::Result<usize>,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        let Err(error) = result else {
            return Poll::Ready(result);
        };
        self.broke(&error);
        if self.is_read || !is_gone(&error) {
            return Poll::Ready(Err(error));
        }
        self.failure = Some(WriteFailure {
            error,
            was_read: false,
            writer: None,
        });
        context.waker().wake_by_ref();
        self.throw_away(context, length).unwrap_or(Poll::Pending)
    }

    /// Takes a write of that length, where an earlier one has failed.
    fn throw_away(
        &mut self,
        context: &Context<'_>,
        length: usize,
    ) -> Option<Poll<io::Result<usize>>> {
        let failure = self.failure.as_mut()?;
        if failure.was_read {
            return Some(Poll::Ready(Ok(length)));
        }
        failure.writer = Some(context.waker().clone());
        Some(Poll::Pending)
    }
}

/// Whether a write failed because nobody reads at the other end: what was sent from there may
/// still be read.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    )
}

impl<S: AsyncRead + Unpin> ObservedStream<S> {
    /// The next bytes, those that came ahead of a request no sooner than it is written.
    fn poll_bytes(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(early) = &mut self.early {
            ready!(early.poll_due(&mut self.stream, context))?;
        }
        match self.early.take() {
            Some(early) if !early.holds_nothing() => {
                self.early = early.read(buffer);
                Poll::Ready(Ok(()))
            }
            _ => Pin::new(&mut self.stream).poll_read(context, buffer),
        }
    }
}

impl<S: AsyncRead + SendQueue + Unpin> AsyncRead for ObservedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(failure) = &mut self.failure {
            failure.was_read = true;
            if let Some(writer) = failure.writer.take() {
                writer.wake();
            }
        }
        let before = buffer.filled().len();
        let result = ready!(self.poll_bytes(context, buffer));
        let result = result.map(|()| buffer.filled().len() - before);
        Poll::Ready(self.read(result))
    }
}

impl<S: AsyncWrite + SendQueue + Unpin> AsyncWrite for ObservedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(thrown) = self.throw_away(context, bytes.len()) {
            return thrown;
        }
        let result = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.written(context, result, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if let Some(thrown) = self.throw_away(context, length) {
            return thrown;
        }
        let result = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices));
        self.written(context, result, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.failure.is_some() {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(Pin::new(&mut self.stream).poll_flush(context));
        self.finish_write(context, result.map(|()| 0), 0)
            .map_ok(drop)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.failure.is_some() {
            return Poll::Ready(Ok(()));
        }
        match ready!(Pin::new(&mut self.stream).poll_shutdown(context)) {
            // It was reset, as reading tells.
            Err(error) if !self.is_read && is_gone_at_end(&error) => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}

impl<S: BreakOff> BreakOff for ObservedStream<S> {
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

/// Whether ending the sending side failed because nobody reads at the other end.
fn is_gone_at_end(error: &io::Error) -> bool {
    is_gone(error) || error.kind() == ErrorKind::NotConnected
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::timeout;
    use weft_testing::tcp;
    use weft_testing::wait::in_time;

    use super::*;

    const SOON: Duration = Duration::from_millis(100);

    async fn greeted(greeting: &[u8]) -> (ObservedStream<TcpStream>, Arc<Observation>, TcpStream) {
        let (near, mut far) = tcp::pair().await;
        far.write_all(greeting).await.unwrap();
        let (stream, observation) = ObservedStream::new(near);
        (stream, observation, far)
    }

    #[tokio::test]
    async fn a_response_ahead_of_its_request_is_read_behind_it() {
        let (mut stream, observation, _far) = greeted(b"HTTP/1.1 200").await;
        let mut bytes = [0; 12];
        let early = timeout(SOON, stream.read_exact(&mut bytes)).await;
        early.unwrap_err();
        assert_eq!(observation.received(), 0);
        stream.write_all(b"GET").await.unwrap();
        // Piece by piece, whatever was held.
        in_time(stream.read_exact(&mut bytes[..3])).await.unwrap();
        in_time(stream.read_exact(&mut bytes[3..])).await.unwrap();
        assert_eq!(&bytes, b"HTTP/1.1 200");
        assert_eq!(observation.received(), 12);
    }

    #[tokio::test]
    async fn a_response_that_no_request_follows_is_read_in_the_end_and_a_greeting_at_once() {
        let mut bytes = [0; 4];
        for (greeting, is_at_once) in [(b"HTTP", false), (b"220 ", true)] {
            let (mut stream, _, _far) = greeted(greeting).await;
            let read = timeout(SOON, stream.read_exact(&mut bytes)).await;
            assert_eq!(read.is_ok(), is_at_once);
            if !is_at_once {
                in_time(stream.read_exact(&mut bytes)).await.unwrap();
            }
            assert_eq!(&bytes, greeting);
        }
        let (mut stream, _, far) = greeted(b"").await;
        drop(far);
        let read = in_time(AsyncReadExt::read(&mut stream, &mut bytes)).await;
        assert_eq!(read.unwrap(), 0);
    }

    #[tokio::test]
    async fn an_end_ahead_of_the_first_byte_is_told_from_one_that_came_later() {
        for is_first_received in [false, true] {
            let (near, mut far) = tcp::pair().await;
            let (mut observed, observation) = ObservedStream::new(near);
            if is_first_received {
                observed.write_all(b"one").await.unwrap();
                in_time(far.read_exact(&mut [0; 3])).await.unwrap();
            }
            far.shutdown().await.unwrap();
            drop(far);
            observed.write_all(b"two").await.unwrap();
            let read = in_time(AsyncReadExt::read(&mut observed, &mut [0; 1])).await;
            assert!(!matches!(read, Ok(1..)), "{read:?}");
            assert!(observation.ends_between_requests(0) && observation.is_unread_since(0, true));
            assert_eq!(observation.is_unread_since(0, false), !is_first_received);
        }
    }
}
