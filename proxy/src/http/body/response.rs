//! A response's body on its way back: bounded in time, recorded when it ends, its
//! connection given back when it was read to the end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use super::frame::BodyError;
use super::gate::GateHolder;
use crate::http::broken_call::trailers_of_break;
use crate::http::broken_response::{ResponseBreak, ServerEnd};
use crate::http::half_close::{ClientEnd, ResponseEnd};
use crate::http::pool::Lease;
use crate::http::request_info::RequestInfo;
use crate::http::unprocessed::reset_without_error;
use crate::memory::{OpenStream, RevocableBody};
use crate::telemetry::{RequestRecord, ResponseFlag};
use crate::traffic::OutcomeReport;
use crate::upstream::{RequestRevoked, RequestUnderWay};

/// A response that took longer than its route allows.
#[derive(Debug, thiserror::Error)]
#[error("the response took longer than its route allows")]
struct ResponseTimeout;

/// The body that is sent to the client.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// Of a local reply.
    Local(Full<Bytes>),
    /// As it comes from upstream.
    Upstream(Box<UpstreamBody>),
}

/// A body that comes from upstream.
#[derive(Debug)]
pub(crate) struct UpstreamBody {
    source: RevocableBody<Incoming>,
    /// It came by HTTP/2.
    http2: bool,
    /// Its client takes a status of gRPC behind it.
    takes_status: bool,
    /// Ends at the moment when all of it has to be there.
    deadline: Option<Pin<Box<Sleep>>>,
    record: RequestRecord,
    completion: Completion,
    /// The client takes the end of its connection for that of the response.
    is_open_ended: bool,
    /// The server's end, which the client's connection is about to pass on.
    failure: Option<(ServerEnd, BodyError)>,
}

/// What ends together with a response, beside its record.
#[derive(Debug, Default)]
pub(crate) struct Completion {
    /// The connection that it came on: given back when all of it was read.
    pub(crate) lease: Option<Lease>,
    /// What traffic policies learn from it.
    pub(crate) outcome: Option<OutcomeReport>,
    /// The receiving pod's record, where this process serves that pod, too.
    pub(crate) receiving: Option<RequestRecord>,
    /// The request, which that pod's policies may revoke.
    pub(crate) under_way: Option<Arc<RequestUnderWay>>,
    /// The end of the client, where that is passed on to the server.
    pub(crate) client: Option<ClientEnd>,
    /// The end of a server of HTTP/1 while the request's body is still on its way.
    pub(crate) response_end: Option<ResponseEnd>,
    /// The client's connection, where it ends with the response.
    pub(crate) response_break: Option<ResponseBreak>,
    /// Keeps the request's body with the client, as long as the server hasn't asked for it.
    pub(crate) gate: Option<GateHolder>,
    /// What its connection holds of it.
    #[allow(dead_code, reason = "held for its drop")]
    pub(crate) memory: Option<OpenStream>,
}

impl Completion {
    /// Whether the response came without the request's body: the client may send it or not, so
    /// the connection ends (RFC 9110 section 10.1.1).
    pub(crate) fn has_unread_body(&self) -> bool {
        self.gate.as_ref().is_some_and(GateHolder::is_closed)
    }

    /// The body, which goes with its connection when that is ended for its memory.
    fn body(&self, body: Incoming) -> RevocableBody<Incoming> {
        let leased = self.lease.as_ref().and_then(Lease::memory);
        match self.memory.as_ref().or(leased) {
            Some(memory) => memory.body(body),
            None => RevocableBody::new(body),
        }
    }

    /// The flag of a response that the server broke off: it may have done so because its
    /// client had ended.
    fn broken_off_flag(&self) -> ResponseFlag {
        match self.client.as_ref().is_some_and(ClientEnd::has_ended) {
            true => ResponseFlag::DownstreamReset,
            false => ResponseFlag::UpstreamReset,
        }
    }

    fn set_open_ended(&self, is_under_way: bool) {
        if let Some(client) = &self.response_break {
            client.set_open_ended(is_under_way);
        }
    }

    pub(crate) fn body_bytes(&mut self, bytes: usize) {
        if let Some(record) = &mut self.receiving {
            record.response_bytes(bytes);
        }
    }

    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(outcome) = &mut self.outcome {
            outcome.trailers(trailers);
        }
        if let Some(record) = &mut self.receiving {
            record.trailers(trailers);
        }
    }

    pub(crate) fn complete(&mut self) {
        if let Some(record) = &mut self.receiving {
            record.finish();
        }
        self.gate = None;
        self.under_way = None;
        if let Some(end) = self.response_end.take() {
            end.complete(self.response_break.clone());
        }
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    pub(crate) fn fail(&mut self, flag: ResponseFlag) {
        if let Some(outcome) = &mut self.outcome
            && !matches!(
                flag,
                ResponseFlag::DownstreamReset | ResponseFlag::PolicyChanged
            )
        {
            outcome.response_broke();
        }
        if let Some(record) = &mut self.receiving {
            record.fail(flag);
        }
    }
}

impl ResponseBody {
    /// The body of a local reply.
    pub(crate) fn local(text: Bytes) -> Self {
        Self::Local(Full::new(text))
    }

    /// A body from upstream, which may be over already. `record` is finished with it.
    pub(crate) fn upstream(
        info: &RequestInfo,
        (source, version): (Incoming, Version),
        deadline: Option<Instant>,
        record: RequestRecord,
        completion: Completion,
    ) -> Self {
        let mut body = Box::new(UpstreamBody {
            source: completion.body(source),
            http2: version == Version::HTTP_2,
            takes_status: info.grpc && info.http2,
            deadline: deadline.map(|at| Box::pin(tokio::time::sleep_until(at.into()))),
            record,
            completion,
            is_open_ended: false,
            failure: None,
        });
        body.complete_if_ended();
        Self::Upstream(body)
    }

    /// The client takes the end of its connection for that of the response: what breaks off must
    /// not look so.
    pub(crate) fn ends_with_connection(&mut self) {
        if let Self::Upstream(body) = self {
            body.is_open_ended = true;
            body.completion.set_open_ended(true);
        }
    }
}

impl UpstreamBody {
    /// A body without a frame, as that of a response to HEAD, is never polled.
    fn complete_if_ended(&mut self) {
        if self.source.is_end_stream() {
            self.complete();
        }
    }

    fn complete(&mut self) {
        self.record.finish();
        if self.is_open_ended {
            self.completion.set_open_ended(false);
        }
        self.completion.complete();
    }

    fn fail(&mut self, flag: ResponseFlag) {
        self.record.fail(flag);
        self.completion.fail(flag);
    }

    fn arrived(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.record.response_bytes(data.len());
            self.completion.body_bytes(data.len());
        } else if let Some(trailers) = frame.trailers_ref() {
            self.record.trailers(trailers);
            self.completion.trailers(trailers);
        }
        self.complete_if_ended();
    }

    fn poll_source(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.source).poll_frame(context) {
            Poll::Ready(None) if self.http2 && !self.source.is_end_stream() => {
                return Poll::Ready(Some(Err(reset_without_error())));
            }
            frame @ Poll::Ready(_) => return frame,
            Poll::Pending => {}
        }
        let Some(end) = &self.completion.response_end else {
            return Poll::Pending;
        };
        ready!(end.poll_waits(context));
        // The rest may have come just before the server's end.
        let frame = Pin::new(&mut self.source).poll_frame(context);
        if frame.is_pending() {
            end.is_missed();
        }
        frame
    }

    /// Whether policies have revoked the request; if they haven't, whoever polls is woken then.
    fn is_revoked(&self, waits: Option<&Context<'_>>) -> bool {
        let request = self.completion.under_way.as_ref();
        request.is_some_and(|request| match waits {
            Some(context) => request.poll_revoked(context).is_ready(),
            None => request.is_revoked(),
        })
    }

    /// The client gets no more, also not what it would have to read first.
    fn revoke(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(request) = self.completion.under_way.clone() {
            let receiving = self.completion.receiving.as_mut();
            request.note_revocation(receiving.unwrap_or(&mut self.record));
        }
        self.fail(ResponseFlag::PolicyChanged);
        Poll::Ready(Some(Err(RequestRevoked.into())))
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.failure.is_some() {
            return self.poll_failure();
        }
        if self.is_revoked(None) {
            return self.revoke();
        }
        let Poll::Ready(frame) = self.poll_source(context) else {
            if self.is_revoked(Some(context)) {
                return self.revoke();
            }
            if let Some(deadline) = &mut self.deadline {
                ready!(deadline.as_mut().poll(context));
                return self.break_off(ResponseTimeout.into(), ResponseFlag::Timeout);
            }
            return Poll::Pending;
        };
        match frame {
            Some(Ok(frame)) => {
                self.arrived(&frame);
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => self.break_off(error, self.completion.broken_off_flag()),
            None => {
                self.complete();
                Poll::Ready(None)
            }
        }
    }

    /// The response ends here, with a status where its client takes one.
    fn break_off(
        &mut self,
        error: BodyError,
        flag: ResponseFlag,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let trailers = trailers_of_break(error.as_ref(), flag).filter(|_| self.takes_status);
        if let Some(trailers) = &trailers {
            self.record.trailers(trailers);
            self.completion.trailers(trailers);
        }
        self.fail(flag);
        if let Some(trailers) = trailers {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        if flag == ResponseFlag::Timeout {
            return Poll::Ready(Some(Err(error)));
        }
        let end = match self.is_open_ended {
            true => ServerEnd::Reset,
            false => ServerEnd::of(error.as_ref()),
        };
        self.failure = Some((end, error));
        self.poll_failure()
    }

    /// The failure, once the client has all that came before it.
    fn poll_failure(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let (Some(client), Some((end, _))) = (&self.completion.response_break, &self.failure) {
            ready!(client.poll_passed_on(*end));
        }
        Poll::Ready(self.failure.take().map(|(_, error)| Err(error)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Local(body) => {
                let frame = ready!(Pin::new(body).poll_frame(context));
                Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Self::Upstream(body) => body.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Local(body) => body.is_end_stream(),
            Self::Upstream(body) => body.source.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Local(body) => body.size_hint(),
            Self::Upstream(body) => body.source.size_hint(),
        }
    }
}
