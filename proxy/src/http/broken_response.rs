//! A response that its server broke off, passed on to a client of HTTP/1.
//!
//! hyper drops a connection as soon as a response's body fails, with what it had not written
//! yet, and a tunnel that is dropped loses what waits in it. So the failure is held back until
//! all that came before it was sent, and the connection has ended as the server's did: in order,
//! or with a reset.

use std::error::Error;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::BodyError;
use crate::stream::BreakOff;
use crate::sync::lock;

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

/// Tells a client's connection that the response on it breaks off.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResponseBreak(Arc<Mutex<Break>>);

#[derive(Debug, Default)]
struct Break {
    state: BreakState,
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

/// A client's connection that ends as its server's did.
#[derive(Debug)]
pub(crate) struct BreakableStream<S> {
    stream: S,
    response_break: ResponseBreak,
}

impl<S> BreakableStream<S> {
    /// One that ends when the response on it breaks off.
    pub(crate) fn new(stream: S, response_break: ResponseBreak) -> Self {
        Self {
            stream,
            response_break,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for BreakableStream<S> {
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
