//! A client's end, passed on to the server of its request.
//!
//! A client of HTTP/1 that ends its side may have given up, or may wait for its response: TCP
//! tells the two apart only when something is written to it. A proxy that takes it for gone
//! breaks the second, one that takes no notice lets a server work for the first until it
//! answers. So the end is passed on, on the connection of that request, once all of the request
//! is sent: the server sees what it would see without a proxy, and decides.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sync::lock;

/// The end of a client's side of its connection. One request is under way on it at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientEnd(Arc<Mutex<ClientState>>);

#[derive(Debug, Default)]
struct ClientState {
    has_ended: bool,
    /// Where the request that is under way was sent.
    request: Option<SentRequest>,
}

/// A request on a connection to a server.
#[derive(Clone, Debug)]
struct SentRequest {
    connection: HalfClose,
    number: u64,
}

/// Ends the sending side of a connection to a server, which somebody else reads and writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct HalfClose(Arc<Mutex<ConnectionState>>);

#[derive(Debug, Default)]
struct ConnectionState {
    /// Number of the request that is under way: what was asked for an earlier one is void.
    request: u64,
    /// All of its body was taken for sending.
    is_sent: bool,
    /// The sending side shall end with it.
    is_last: bool,
    /// Whoever drives the connection.
    driver: Option<Waker>,
}

/// Says, when it is dropped, that all of a request's body was taken for sending.
#[derive(Debug)]
pub(crate) struct BodyEnd(HalfClose);

impl ClientEnd {
    /// The client sends nothing more.
    pub(crate) fn end(&self) {
        let request = {
            let mut state = lock(&self.0);
            state.has_ended = true;
            state.request.take()
        };
        if let Some(SentRequest { connection, number }) = request {
            connection.end_with(number);
        }
    }

    /// Whether it has ended: a server that broke off since then did as it was told.
    pub(crate) fn has_ended(&self) -> bool {
        lock(&self.0).has_ended
    }

    /// The request is sent there: the client's end is passed on to it.
    fn follow(&self, request: SentRequest) {
        let mut state = lock(&self.0);
        if !state.has_ended {
            state.request = Some(request);
            return;
        }
        drop(state);
        request.connection.end_with(request.number);
    }
}

impl HalfClose {
    /// Begins a request, whose client's end the server shall see. What comes back is to be
    /// dropped with the request's body.
    pub(crate) fn begin_request(&self, client: Option<&ClientEnd>) -> BodyEnd {
        let number = {
            let mut state = lock(&self.0);
            state.request += 1;
            state.is_sent = false;
            state.request
        };
        if let Some(client) = client {
            let connection = self.clone();
            client.follow(SentRequest { connection, number });
        }
        BodyEnd(self.clone())
    }

    /// Ends the request: the client's end isn't passed on any more. Whether another request
    /// may follow.
    pub(crate) fn end_request(&self) -> bool {
        let mut state = lock(&self.0);
        state.request += 1;
        state.is_sent && !state.is_last
    }

    fn end_with(&self, number: u64) {
        let driver = {
            let mut state = lock(&self.0);
            if state.request != number {
                return;
            }
            state.is_last = true;
            state.driver.take()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Ready when the sending side is to end.
    fn poll_due(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.0);
        if state.is_last && state.is_sent {
            return Poll::Ready(());
        }
        match &mut state.driver {
            Some(driver) => driver.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for BodyEnd {
    fn drop(&mut self) {
        lock(&self.0.0).is_sent = true;
    }
}

/// A connection whose sending side ends when its [`HalfClose`] says so.
#[derive(Debug)]
pub(super) struct HalfClosingStream<S> {
    stream: S,
    half_close: HalfClose,
    has_ended: bool,
}

impl<S> HalfClosingStream<S> {
    pub(super) fn new(stream: S) -> (Self, HalfClose) {
        let half_close = HalfClose::default();
        let closing = Self {
            stream,
            half_close: half_close.clone(),
            has_ended: false,
        };
        (closing, half_close)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HalfClosingStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HalfClosingStream<S> {
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
