//! A client's end, passed on to the server of its request.
//!
//! A client of HTTP/1 that ends its side may have given up, or may wait for its response: TCP
//! tells the two apart only when something is written to it. A proxy that takes it for gone
//! breaks the second, one that takes no notice lets a server work for the first until it
//! answers. So the end is passed on, on the connection of that request, once all of the request
//! is sent: the server sees what it would see without a proxy, and decides.
//!
//! A server that answers early may end its side and read on (RFC 9112 section 9.6), which hyper
//! takes for a broken connection. So its end is held back: behind a complete response until all of
//! the request is written, and its client is told. One that isn't complete ends with it at once.
//! Only whoever reads the response can tell the two.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::broken_response::ResponseBreak;
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
    /// Everything of the request was written.
    is_written: bool,
    /// Number of the request that was begun last, and what is known of its response.
    response_to: u64,
    response: ResponseState,
    /// The server has ended, and that isn't told yet.
    end_waits: bool,
    /// Whoever drives the connection.
    driver: Option<Waker>,
    /// Whoever reads the response.
    reader: Option<Waker>,
    /// The client of a complete response, whom the server's end is passed on to.
    client: Option<ResponseBreak>,
    /// Breaks the connection itself off.
    server: ResponseBreak,
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
    /// Breaks the connection off, once it carries another protocol.
    pub(super) fn server_break(&self) -> ResponseBreak {
        lock(&self.0).server.clone()
    }

    /// Begins a request, whose client's end the server shall see. The first that comes back is
    /// to be dropped with the request's body, the other one is for whoever reads the response.
    pub(crate) fn begin_request(&self, client: Option<&ClientEnd>) -> (BodyEnd, ResponseEnd) {
        let number = {
            let mut state = lock(&self.0);
            state.request += 1;
            state.is_sent = false;
            state.is_written = false;
            state.response_to = state.request;
            state.response = ResponseState::default();
            state.end_waits = false;
            state.client = None;
            state.request
        };
        if let Some(client) = client {
            let connection = self.clone();
            client.follow(SentRequest { connection, number });
        }
        (
            BodyEnd(self.clone()),
            ResponseEnd::new(self.clone(), number),
        )
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
    pub(super) fn poll_due(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.0);
        if state.is_last && state.is_sent {
            return Poll::Ready(());
        }
        set_waker(&mut state.driver, context);
        Poll::Pending
    }
}

impl Drop for BodyEnd {
    fn drop(&mut self) {
        lock(&self.0.0).is_sent = true;
    }
}

/// What is known of the response to the request that is under way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum ResponseState {
    /// Nothing of it was received.
    #[default]
    Awaited,
    /// A part of it was received, or all.
    Begun,
    /// It was read to its end.
    Complete,
    /// It lacks what the server's end cuts off, or nobody reads it any more.
    Incomplete,
}

/// The server's end, as whoever reads the response to a request decides about it. Dropped before
/// the response is complete, it lets the end through.
#[derive(Debug)]
pub(crate) struct ResponseEnd {
    connection: HalfClose,
    /// The request's number.
    number: u64,
}

impl ResponseEnd {
    fn new(connection: HalfClose, number: u64) -> Self {
        Self { connection, number }
    }

    /// Ready when the server has ended. The response is complete if it can be read to its end
    /// now, and else [`ResponseEnd::is_missed`].
    pub(crate) fn poll_waits(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.connection.0);
        if state.end_waits {
            return Poll::Ready(());
        }
        set_waker(&mut state.reader, context);
        Poll::Pending
    }

    /// The response is incomplete: it ends with the server.
    pub(crate) fn is_missed(&self) {
        self.decide(ResponseState::Incomplete);
    }

    /// The response was read to its end. If the server's comes ahead of all of the request, the
    /// client is told of it.
    pub(crate) fn complete(self, client: Option<ResponseBreak>) {
        self.decide(ResponseState::Complete);
        let mut state = lock(&self.connection.0);
        if state.response_to != self.number {
            return;
        }
        state.client = client;
        let ended = state.client_of_end();
        drop(state);
        if let Some(client) = ended {
            client.pass_end_on();
        }
    }

    /// Breaks the connection to the server off, once it carries another protocol.
    pub(crate) fn server_break(&self) -> ResponseBreak {
        self.connection.server_break()
    }

    fn decide(&self, response: ResponseState) {
        let driver = {
            let mut state = lock(&self.connection.0);
            use ResponseState::{Complete, Incomplete};
            let is_decided = matches!(state.response, Complete | Incomplete);
            if is_decided || state.response_to != self.number {
                return;
            }
            state.response = response;
            state.driver.take()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

impl Drop for ResponseEnd {
    fn drop(&mut self) {
        self.decide(ResponseState::Incomplete);
    }
}

impl HalfClose {
    /// Something of the server was read.
    pub(super) fn received(&self) {
        let mut state = lock(&self.0);
        if state.response == ResponseState::Awaited {
            state.response = ResponseState::Begun;
        }
    }

    /// Everything that was to be written by then is written.
    pub(super) fn flushed(&self) {
        let mut state = lock(&self.0);
        if !state.is_sent || state.is_written {
            return;
        }
        state.is_written = true;
        if state.end_waits
            && let Some(driver) = state.driver.take()
        {
            driver.wake();
        }
    }

    /// Ready when the server's end, which has come, may be told to whoever drives the
    /// connection.
    pub(super) fn poll_end(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.0);
        if state.lets_end_through() {
            return Poll::Ready(());
        }
        set_waker(&mut state.driver, context);
        state.end_waits = true;
        let (reader, client) = (state.reader.take(), state.client_of_end());
        drop(state);
        if let Some(client) = client {
            client.pass_end_on();
        }
        if let Some(reader) = reader {
            reader.wake();
        }
        Poll::Pending
    }
}

impl ConnectionState {
    fn lets_end_through(&self) -> bool {
        match self.response {
            // It has not answered: what was sent may have crossed with its end.
            ResponseState::Awaited | ResponseState::Incomplete => true,
            ResponseState::Begun | ResponseState::Complete => self.is_written,
        }
    }

    /// The client that is to be told of the server's end, where that waits.
    fn client_of_end(&mut self) -> Option<ResponseBreak> {
        let is_held = self.end_waits && self.response == ResponseState::Complete;
        self.client.take_if(|_| is_held)
    }
}

fn set_waker(waker: &mut Option<Waker>, context: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(context.waker()),
        none => *none = Some(context.waker().clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll_now(future: impl FnOnce(&mut Context<'_>) -> Poll<()>) -> bool {
        future(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn an_end_behind_a_complete_response_waits_until_the_request_is_written() {
        let connection = HalfClose::default();
        let (body, end) = connection.begin_request(None);
        connection.received();
        assert!(!poll_now(|context| connection.poll_end(context)));
        assert!(poll_now(|context| end.poll_waits(context)));
        end.complete(None);
        assert!(!poll_now(|context| connection.poll_end(context)));
        connection.flushed();
        assert!(!poll_now(|context| connection.poll_end(context)), "unsent");
        drop(body);
        assert!(!poll_now(|context| connection.poll_end(context)));
        connection.flushed();
        assert!(poll_now(|context| connection.poll_end(context)));
    }

    #[test]
    fn an_end_without_a_response_or_with_a_part_of_one_is_passed_on_at_once() {
        let connection = HalfClose::default();
        assert!(poll_now(|context| connection.poll_end(context)), "unused");
        let (_body, end) = connection.begin_request(None);
        assert!(poll_now(|context| connection.poll_end(context)));
        assert!(!poll_now(|context| end.poll_waits(context)));
        connection.received();
        assert!(!poll_now(|context| connection.poll_end(context)));
        end.is_missed();
        assert!(poll_now(|context| connection.poll_end(context)));
        let (_body, end) = connection.begin_request(None);
        connection.received();
        assert!(!poll_now(|context| connection.poll_end(context)));
        drop(end);
        assert!(poll_now(|context| connection.poll_end(context)), "unread");
    }
}
