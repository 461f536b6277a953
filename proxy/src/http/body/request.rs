//! A request's body as one attempt sends it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::frame::BodyError;
use super::gate::Gate;
use super::incoming::IncomingBody;
use super::mirror::MirrorBody;
use super::replay::ReplayAttempt;
use crate::upstream::{RequestRevoked, RequestUnderWay};

/// The body that is sent upstream.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// No body.
    Empty,
    /// As it comes from the client.
    Stream {
        /// The client's body.
        source: Box<IncomingBody>,
        /// Bytes that went through.
        sent: Arc<AtomicU64>,
    },
    /// As it comes from the client, kept for further attempts and copied for mirrors.
    Replay(ReplayAttempt),
    /// A copy of another request's body.
    Mirror(MirrorBody),
    /// One that waits until the server asks for it.
    Gated(Gate, Box<Self>),
    /// One of a request that policies may revoke.
    Revocable(Arc<RequestUnderWay>, Box<Self>),
}

impl RequestBody {
    /// The body itself, if it waits or its request may be revoked.
    pub(crate) fn without_gate(self) -> Self {
        match self {
            Self::Gated(_, body) | Self::Revocable(_, body) => body.without_gate(),
            body => body,
        }
    }

    /// The same, of which nothing more is sent once policies revoke its request.
    pub(crate) fn of_request(self, request: Option<&Arc<RequestUnderWay>>) -> Self {
        match (self, request) {
            (body, Some(request)) if !body.is_end_stream() => {
                Self::Revocable(Arc::clone(request), Box::new(body))
            }
            (body, _) => body,
        }
    }

    /// The body of a request that is sent once.
    pub(super) fn stream(source: IncomingBody, sent: Arc<AtomicU64>) -> Self {
        match source.is_end_stream() {
            true => Self::Empty,
            false => Self::Stream {
                source: Box::new(source),
                sent,
            },
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Stream { source, sent } => {
                let frame = ready!(Pin::new(source).poll_frame(context));
                if let Some(Ok(frame)) = &frame
                    && let Some(data) = frame.data_ref()
                {
                    sent.fetch_add(data.len() as u64, Ordering::Relaxed);
                }
                Poll::Ready(frame)
            }
            Self::Replay(attempt) => attempt.poll_frame(context),
            Self::Mirror(mirror) => mirror.poll_frame(context),
            Self::Gated(gate, body) => match ready!(gate.poll_open(context)) {
                Ok(()) => Pin::new(&mut **body).poll_frame(context),
                Err(unwanted) => Poll::Ready(Some(Err(unwanted))),
            },
            Self::Revocable(request, body) => match request.is_revoked() {
                false => Pin::new(&mut **body).poll_frame(context),
                true => Poll::Ready(Some(Err(RequestRevoked.into()))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream { source, .. } => source.is_end_stream(),
            Self::Replay(attempt) => attempt.is_end_stream(),
            Self::Mirror(_) => false,
            Self::Gated(_, body) | Self::Revocable(_, body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream { source, .. } => source.size_hint(),
            Self::Replay(attempt) => attempt.size_hint(),
            Self::Mirror(mirror) => mirror.size_hint(),
            Self::Gated(_, body) | Self::Revocable(_, body) => body.size_hint(),
        }
    }
}
