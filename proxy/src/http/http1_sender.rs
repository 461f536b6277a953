//! Sending requests on one connection of HTTP/1.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;

use super::body::{BodyError, RequestBody};
use super::half_close::{BodyEnd, ClientEnd, HalfClose, ResponseEnd};
use super::original_target::SentTarget;
use crate::memory::AwaitedHead;

/// A connection of HTTP/1 to a server, as whoever sends requests on it has it.
#[derive(Debug)]
pub(crate) struct Http1Sender {
    sender: http1::SendRequest<SentBody>,
    half_close: HalfClose,
    head: AwaitedHead,
    target: SentTarget,
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

impl Http1Sender {
    pub(super) fn new(
        sender: http1::SendRequest<SentBody>,
        half_close: HalfClose,
        head: AwaitedHead,
        target: SentTarget,
    ) -> Self {
        Self {
            sender,
            half_close,
            head,
            target,
        }
    }

    /// Sends a request and waits for the head of its response, whose reader decides about the
    /// server's end. The server sees the end of the request's client, where it has one.
    ///
    /// # Errors
    /// When the connection broke.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
        client: Option<&ClientEnd>,
    ) -> Result<(Response<Incoming>, ResponseEnd), NoResponse> {
        let (body_end, response_end) = self.half_close.begin_request(client);
        self.target.begin_request(&request);
        let request = announce_chunks(request).map(|body| SentBody {
            body,
            _end: body_end,
        });
        let _awaited = self.head.begin();
        let mut sending = pin!(self.sender.try_send_request(request));
        let sent = poll_fn(|context| {
            if let Poll::Ready(sent) = sending.as_mut().poll(context) {
                return Poll::Ready(sent);
            }
            ready!(response_end.poll_waits(context));
            // The head may have come just before the server's end.
            let sent = sending.as_mut().poll(context);
            if sent.is_pending() {
                response_end.is_missed();
            }
            sent
        });
        let response = sent.await.map_err(|mut error| {
            let unsent = error.take_message();
            NoResponse {
                unsent: unsent.map(|request| request.map(|sent| sent.body)),
                error: error.into_error(),
            }
        })?;
        Ok((response, response_end))
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

/// Has the head say that the body comes in chunks, where nobody knows how long it is. hyper does
/// that by itself for methods that most often have a body, and for others sends none at all
/// unless the head says so (RFC 9110 section 9.3.1 leaves it to a GET to have one).
fn announce_chunks(mut request: Request<RequestBody>) -> Request<RequestBody> {
    let body = request.body();
    let is_open_ended = !body.is_end_stream() && body.size_hint().exact().is_none();
    let is_unsaid = !request.headers().contains_key(CONTENT_LENGTH);
    // A tunnel has no body (RFC 9110 section 9.3.6).
    if is_open_ended && is_unsaid && request.method() != Method::CONNECT {
        let chunked = HeaderValue::from_static("chunked");
        request.headers_mut().insert(TRANSFER_ENCODING, chunked);
    }
    request
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
