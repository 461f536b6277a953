//! Sending requests on one connection of HTTP/1.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{TrySendError, http1};

use super::body::{BodyError, RequestBody};
use super::half_close::{BodyEnd, ClientEnd, HalfClose};

/// A connection of HTTP/1 to a server, as whoever sends requests on it has it.
#[derive(Debug)]
pub(crate) struct Http1Sender {
    sender: http1::SendRequest<SentBody>,
    half_close: HalfClose,
}

/// A request's body whose end the connection notices.
#[derive(Debug)]
pub(super) struct SentBody {
    body: RequestBody,
    _end: BodyEnd,
}

/// A request that got no response.
#[derive(Debug)]
pub(crate) struct NoResponse {
    /// Why it got none.
    pub(crate) error: hyper::Error,
    /// The request, when no part of it was sent.
    pub(crate) unsent: Option<Request<RequestBody>>,
}

impl From<TrySendError<Request<RequestBody>>> for NoResponse {
    fn from(mut error: TrySendError<Request<RequestBody>>) -> Self {
        let unsent = error.take_message();
        let error = error.into_error();
        Self { error, unsent }
    }
}

impl Http1Sender {
    pub(super) fn new(sender: http1::SendRequest<SentBody>, half_close: HalfClose) -> Self {
        Self { sender, half_close }
    }

    /// Sends a request and waits for the head of its response. The server sees the end of the
    /// request's client, where it has one.
    ///
    /// # Errors
    /// When the connection broke.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
        client: Option<&ClientEnd>,
    ) -> Result<Response<Incoming>, NoResponse> {
        let end = self.half_close.begin_request(client);
        let request = request.map(|body| SentBody { body, _end: end });
        let sent = self.sender.try_send_request(request).await;
        sent.map_err(|mut error| {
            let unsent = error.take_message();
            NoResponse {
                unsent: unsent.map(|request| request.map(|sent| sent.body)),
                error: error.into_error(),
            }
        })
    }

    /// Ends a request whose response was read; whether another one may follow.
    pub(crate) fn end_request(&self) -> bool {
        self.half_close.end_request() && !self.sender.is_closed()
    }

    /// Whether a request may be sent at once.
    pub(crate) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Waits until a request may be sent.
    ///
    /// # Errors
    /// When the connection has ended.
    pub(crate) async fn ready(&mut self) -> Result<(), hyper::Error> {
        self.sender.ready().await
    }
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
