//! A response on its way back: bounded in time, recorded when it ends, its connection
//! given back when it was read to the end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use super::body::BodyError;
use super::policy::Outcome;
use super::pool::Lease;
use super::recorder::Recorder;
use crate::telemetry::flag::ResponseFlag;

/// A response took longer than its route allows.
#[derive(Debug, thiserror::Error)]
#[error("the response took longer than its route allows")]
pub(crate) struct TooLong;

/// What is sent to the client.
#[derive(Debug)]
pub(crate) enum ResponseBody {
    /// Of the proxy itself.
    Local(Full<Bytes>),
    /// As it comes from the endpoint.
    Upstream(Box<UpstreamBody>),
}

/// A body from an endpoint.
#[derive(Debug)]
pub(crate) struct UpstreamBody {
    pub(crate) source: Incoming,
    /// Given back at the end.
    pub(crate) lease: Option<Lease>,
    /// When all of it has to be there.
    pub(crate) deadline: Option<Pin<Box<Sleep>>>,
    /// Records the request when dropped.
    pub(crate) recorder: Recorder,
    /// Tells the policies how it went.
    pub(crate) outcome: Outcome,
}

impl ResponseBody {
    /// Of the proxy itself.
    pub(crate) fn local(text: Bytes) -> Self {
        Self::Local(Full::new(text))
    }

    /// A body from an endpoint, which may be over already.
    pub(crate) fn upstream(body: UpstreamBody) -> Self {
        let mut body = Box::new(body);
        body.finish_if_ended();
        Self::Upstream(body)
    }
}

impl UpstreamBody {
    /// Nothing follows: gives the connection back. A body without a frame, as that of a
    /// response to HEAD, is never polled.
    fn finish_if_ended(&mut self) {
        if self.source.is_end_stream() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        self.recorder.finish();
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.source).poll_frame(context) else {
            if let Some(deadline) = &mut self.deadline {
                ready!(deadline.as_mut().poll(context));
                self.recorder.fail(ResponseFlag::Timeout);
                self.outcome.broke();
                return Poll::Ready(Some(Err(TooLong.into())));
            }
            return Poll::Pending;
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.recorder.received(data.len());
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.recorder.trailers(trailers);
                    self.outcome.trailers(trailers);
                }
                self.finish_if_ended();
            }
            Some(Err(_)) => {
                self.recorder.fail(ResponseFlag::UpstreamReset);
                self.outcome.broke();
            }
            None => self.finish(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
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
