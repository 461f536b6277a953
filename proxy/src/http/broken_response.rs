//! A response that its server broke off, passed on to a client of HTTP/1.
//!
//! hyper drops a connection as soon as a response's body fails, with what it had not written
//! yet, and a tunnel that is dropped loses what waits in it. So the failure is held back until
//! all that came before it was sent, and the connection has ended as the server's did: in order,
//! or with a reset. Where the end of the connection is that of the response, as HTTP/1.0 has it, it
//! is a reset in any case: else a part would look like the whole.

use std::error::Error;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::body::BodyError;
use crate::stream::BreakOff;
use crate::sync::lock;

/// How often we look whether the client has what was sent before a reset, which would overtake it,
/// and how many times: one that reads nothing doesn't hold it up.
const LOOK_EACH: Duration = Duration::from_millis(5);
const LOOKS: usize = 200;

/// How a server ended its connection in the middle of a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ServerEnd {
    /// As if nothing were missing (FIN).
    InOrder,
    /// So, too, ahead of a request that it has certainly not read.
    Unread,
    /// It broke it off (RST).
    Reset,
}

impl ServerEnd {
    /// The end that the failure of a response stands for.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<UnreadRequest>() {
                return Self::Unread;
            }
            let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
            if error
                .downcast_ref()
                .is_some_and(hyper::Error::is_incomplete_message)
                || error.downcast_ref().is_some_and(is_missing)
            {
                return Self::InOrder;
            }
            cause = error.source();
        }
        Self::Reset
    }
}

/// A server ended its connection before it has read anything of the request.
#[derive(Debug, thiserror::Error)]
#[error("the server has not read the request: {0}")]
pub(crate) struct UnreadRequest(#[source] pub(crate) BodyError);

/// Tells a client's connection that the response on it breaks off; and either end's, once it
/// carries another protocol, that the other end has broken off.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResponseBreak(Arc<Mutex<Break>>);

#[derive(Debug, Default)]
struct Break {
    state: BreakState,
    /// What is under way ends with the connection.
    is_open_ended: bool,
    /// Whoever drives the client's connection.
    driver: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default)]
enum BreakState {
    #[default]
    None,
    Wanted(ServerEnd),
    Done,
}

impl ResponseBreak {
    /// Ready once all that was sent of the response is passed on, and the connection has ended.
    /// To be polled by the task that drives the connection.
    pub(crate) fn poll_passed_on(&self, end: ServerEnd) -> Poll<()> {
        let state = &mut lock(&self.0).state;
        match *state {
            BreakState::None => *state = BreakState::Wanted(end),
            BreakState::Wanted(_) => {}
            BreakState::Done => return Poll::Ready(()),
        }
        Poll::Pending
    }

    /// The server has ended its side behind a complete response: so does the connection, behind
    /// what is sent of it. What the client still sends goes on.
    pub(crate) fn pass_end_on(&self) {
        let driver = {
            let mut this = lock(&self.0);
            if matches!(this.state, BreakState::None) {
                this.state = BreakState::Wanted(ServerEnd::Unread);
            }
            this.driver.take()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// A response or another protocol begins, or is passed on to its end, that ends with the
    /// connection: unless it is complete the connection is reset.
    pub(crate) fn set_open_ended(&self, is_under_way: bool) {
        lock(&self.0).is_open_ended = is_under_way;
    }

    fn wanted(&self, context: &Context<'_>) -> Option<ServerEnd> {
        let mut this = lock(&self.0);
        match this.state {
            BreakState::Wanted(end) => return Some(end),
            BreakState::Done => return None,
            BreakState::None => {}
        }
        match &mut this.driver {
            Some(driver) => driver.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        None
    }
}

/// A connection that ends as that of the other end did.
#[derive(Debug)]
pub(crate) struct BreakableStream<S: BreakOff> {
    stream: S,
    response_break: ResponseBreak,
    /// Until the next look at what is on its way.
    pause: Option<Pin<Box<Sleep>>>,
    looks: usize,
}

impl<S: BreakOff> BreakableStream<S> {
    /// One that ends when what is under way on it breaks off.
    pub(crate) fn new(stream: S, response_break: ResponseBreak) -> Self {
        Self {
            stream,
            response_break,
            pause: None,
            looks: 0,
        }
    }

    /// Ready when a reset overtakes nothing, or has waited for long enough.
    fn poll_delivered(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.looks < LOOKS && self.stream.is_on_its_way() {
            let pause = || Box::pin(tokio::time::sleep(LOOK_EACH));
            ready!(self.pause.get_or_insert_with(pause).as_mut().poll(context));
            self.pause = None;
            self.looks += 1;
        }
        Poll::Ready(())
    }
}

impl<S: BreakOff> Drop for BreakableStream<S> {
    fn drop(&mut self) {
        if lock(&self.response_break.0).is_open_ended {
            self.stream.break_on_close();
        }
    }
}

impl<S: AsyncRead + BreakOff + Unpin> AsyncRead for BreakableStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + BreakOff + Unpin> AsyncWrite for BreakableStream<S> {
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

    /// hyper flushes when it has written all that it has, each time that it waits for a body.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        let ended = match self.response_break.wanted(context) {
            None => return Poll::Ready(Ok(())),
            Some(ServerEnd::InOrder) => {
                self.stream.announce_unanswered();
                ready!(Pin::new(&mut self.stream).poll_shutdown(context))
            }
            Some(ServerEnd::Unread) => ready!(Pin::new(&mut self.stream).poll_shutdown(context)),
            Some(ServerEnd::Reset) => {
                ready!(self.poll_delivered(context));
                self.stream.break_on_close();
                ready!(self.stream.poll_break_off(context));
                Ok(())
            }
        };
        lock(&self.response_break.0).state = BreakState::Done;
        // The body is polled by this very task.
        context.waker().wake_by_ref();
        Poll::Ready(ended)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use weft_testing::tcp;
    use weft_testing::wait::in_time;

    use super::*;

    #[tokio::test]
    async fn a_reset_overtakes_nothing_that_came_before_it() {
        // More than the kernel of who doesn't read takes.
        const LENGTH: usize = 1024 * 1024;
        let (near, mut far) = tcp::pair().await;
        let response_break = ResponseBreak::default();
        let mut stream = BreakableStream::new(near, response_break.clone());
        in_time(stream.write_all(&[0; LENGTH])).await.unwrap();
        assert!(stream.stream.is_on_its_way());
        assert!(response_break.poll_passed_on(ServerEnd::Reset).is_pending());
        let breaking = async {
            stream.flush().await.unwrap();
            drop(stream);
        };
        let mut received = Vec::new();
        let reading = far.read_to_end(&mut received);
        let ((), read) = in_time(async { tokio::join!(breaking, reading) }).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(received.len(), LENGTH);
    }

    #[tokio::test]
    async fn a_response_that_ends_with_its_connection_is_whole_or_reset() {
        for is_complete in [false, true] {
            let (near, mut far) = tcp::pair().await;
            let response_break = ResponseBreak::default();
            let mut stream = BreakableStream::new(near, response_break.clone());
            response_break.set_open_ended(true);
            stream.write_all(b"part").await.unwrap();
            in_time(far.read_exact(&mut [0; 4])).await.unwrap();
            response_break.set_open_ended(!is_complete);
            drop(stream);
            let read = in_time(far.read(&mut [0; 1])).await;
            assert_eq!(read.is_ok(), is_complete);
        }
    }
}
