//! A request's body that is kept, up to a bound, so that another attempt can send it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::frame::{BodyError, ReplayFrame};
use super::incoming::IncomingBody;
use super::mirror::{MirrorBody, MirrorSender, mirror};
use crate::sync::lock;

/// A body that a later attempt has taken over.
#[derive(Debug, thiserror::Error)]
#[error("another attempt sends this body")]
struct Superseded;

/// A request's body that several attempts send, one after the other, and that mirrored
/// requests get a copy of.
#[derive(Clone, Debug)]
pub(crate) struct ReplayBody(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    source: IncomingBody,
    size: SizeHint,
    /// What came so far, as long as it is within the bound.
    frames: Vec<ReplayFrame>,
    kept_bytes: usize,
    bound: usize,
    /// More came than may be kept, or the client broke off: it can't be sent again.
    lost: bool,
    complete: bool,
    /// Number of the latest attempt, which alone may take from the source.
    attempt: u64,
    mirrors: Vec<MirrorSender>,
    sent: Arc<AtomicU64>,
}

impl ReplayBody {
    /// Keeps up to `bound` bytes of a body; `sent` counts the bytes that went through.
    pub(super) fn new(source: IncomingBody, bound: usize, sent: Arc<AtomicU64>) -> Self {
        let size = source.size_hint();
        let complete = source.is_end_stream();
        // What is announced to be too long isn't begun to be kept.
        let lost = size.lower() > bound as u64;
        Self(Arc::new(Mutex::new(State {
            source,
            size,
            frames: Vec::new(),
            kept_bytes: 0,
            bound,
            lost,
            complete,
            attempt: 0,
            mirrors: Vec::new(),
            sent,
        })))
    }

    /// Whether another attempt could send all of it.
    pub(super) fn is_whole(&self) -> bool {
        !lock(&self.0).lost
    }

    /// No further attempt follows.
    pub(super) fn keep_no_longer(&self) {
        lock(&self.0).lost = true;
    }

    /// The body for the next attempt; earlier attempts get no more of it.
    pub(super) fn next_attempt(&self) -> ReplayAttempt {
        let mut state = lock(&self.0);
        state.attempt += 1;
        ReplayAttempt {
            number: state.attempt,
            position: 0,
            body: self.clone(),
        }
    }

    /// A copy of all that the attempts send, `None` for a body that is empty. To be asked
    /// for before the first attempt.
    pub(super) fn mirror(&self) -> Option<MirrorBody> {
        let mut state = lock(&self.0);
        if state.complete && state.frames.is_empty() {
            return None;
        }
        let (sender, body) = mirror(state.size);
        state.mirrors.push(sender);
        Some(body)
    }
}

/// The body as one attempt sends it.
#[derive(Debug)]
pub(crate) struct ReplayAttempt {
    number: u64,
    position: usize,
    body: ReplayBody,
}

impl ReplayAttempt {
    pub(super) fn size_hint(&self) -> SizeHint {
        lock(&self.body.0).size
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let state = lock(&self.body.0);
        state.complete && self.position >= state.frames.len()
    }

    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = lock(&self.body.0);
        if state.attempt != self.number {
            return Poll::Ready(Some(Err(Superseded.into())));
        }
        if let Some(frame) = state.frames.get(self.position) {
            self.position += 1;
            return Poll::Ready(Some(Ok(frame.clone().into_frame())));
        }
        if state.complete {
            return Poll::Ready(None);
        }
        let frame = ready!(state.poll_source(context));
        self.position = state.frames.len();
        Poll::Ready(frame)
    }
}

impl State {
    /// The next frame from the client, kept and copied on its way.
    fn poll_source(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match ready!(Pin::new(&mut self.source).poll_frame(context)) {
            Some(Ok(frame)) => {
                let Some(frame) = ReplayFrame::from_frame(frame) else {
                    return Poll::Ready(None);
                };
                let length = frame.data_len();
                self.sent.fetch_add(length as u64, Ordering::Relaxed);
                self.mirrors.retain(|mirror| mirror.send(&frame));
                self.keep(&frame);
                Poll::Ready(Some(Ok(frame.into_frame())))
            }
            Some(Err(error)) => {
                // What the client broke off can't be sent again.
                self.lost = true;
                self.mirrors.clear();
                Poll::Ready(Some(Err(error)))
            }
            None => {
                self.complete = true;
                self.mirrors.drain(..).for_each(MirrorSender::finish);
                Poll::Ready(None)
            }
        }
    }

    fn keep(&mut self, frame: &ReplayFrame) {
        self.kept_bytes += frame.data_len();
        self.lost |= self.kept_bytes > self.bound;
        if self.lost {
            self.frames = Vec::new();
        } else {
            self.frames.push(frame.clone());
        }
    }
}
