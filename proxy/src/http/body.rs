//! Bodies on their way: never gathered, except what a retry keeps, up to its bound.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::mpsc;

/// What goes wrong with a body.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of a request's body that are kept for another attempt.
pub(crate) const KEPT_BYTES: usize = 64 * 1024;
/// Bytes of an unwanted body that are read and forgotten, and for how long.
const DISCARDED_BYTES: usize = 256 * 1024;
const DISCARDED_FOR: Duration = Duration::from_secs(1);
/// Bytes that a copy may be behind before it is given up.
const COPY_BEHIND: usize = 256 * 1024;

/// A request's body was taken by a later attempt.
#[derive(Debug, thiserror::Error)]
#[error("another attempt sends this body")]
struct Superseded;

/// A copy that was too slow.
#[derive(Debug, thiserror::Error)]
#[error("the copy of the request was given up: it is too slow")]
struct GivenUp;

/// What is sent upstream.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// Nothing.
    Empty,
    /// As it comes from the client.
    Stream {
        /// From the client.
        source: Incoming,
        /// Bytes that went through.
        sent: Arc<AtomicU64>,
    },
    /// Kept for further attempts, or copied.
    Kept(Attempt),
    /// A copy of another request's.
    Copy(Copy),
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
                if let Some(Ok(frame)) = &frame {
                    count(sent, frame);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Self::Kept(attempt) => attempt.poll_frame(context),
            Self::Copy(copy) => copy.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream { source, .. } => source.is_end_stream(),
            Self::Kept(attempt) => attempt.is_end_stream(),
            Self::Copy(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream { source, .. } => source.size_hint(),
            Self::Kept(attempt) => attempt.kept.lock().size,
            Self::Copy(copy) => copy.size,
        }
    }
}

/// A request's body before it is sent.
#[derive(Debug, Default)]
pub(crate) enum OutgoingBody {
    /// None.
    #[default]
    Empty,
    /// As it came, while nothing was decided.
    Unread(Incoming),
    /// For one attempt; `None` once that was begun.
    Once(Option<RequestBody>),
    /// For several.
    Kept(Kept),
}

impl OutgoingBody {
    /// The body for the next attempt, `None` when it is lost.
    pub(crate) fn take(&mut self) -> Option<RequestBody> {
        match self {
            Self::Empty | Self::Unread(_) => Some(RequestBody::Empty),
            Self::Once(body) => body.take(),
            Self::Kept(kept) => Some(kept.attempt()),
        }
    }

    /// Puts back what no attempt has begun to send.
    pub(crate) fn put_back(&mut self, unsent: RequestBody) {
        if let Self::Once(body) = self {
            *body = Some(unsent);
        }
    }

    /// Reads on for a while, as the request is answered without it: a client of HTTP/2
    /// whose stream is reset while it still sends may take that for its answer (RFC 9113
    /// section 8.1), one of HTTP/1 would lose its connection.
    pub(crate) fn discard(mut self) {
        let unread = match self {
            Self::Unread(source) => Some(RequestBody::Stream {
                source,
                sent: Arc::default(),
            }),
            _ => self.take(),
        };
        let Some(mut unread) = unread.filter(|unread| !unread.is_end_stream()) else {
            return;
        };
        tokio::spawn(async move {
            let reading = async {
                let mut left = DISCARDED_BYTES;
                while let Some(Ok(frame)) = unread.frame().await {
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    left = left.saturating_sub(length);
                    if left == 0 {
                        break;
                    }
                }
            };
            // Whoever sends for longer has been told.
            let _ = tokio::time::timeout(DISCARDED_FOR, reading).await;
        });
    }

    /// Whether another attempt could send all of it.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Self::Empty | Self::Unread(_) => true,
            Self::Once(body) => body.is_some(),
            Self::Kept(kept) => kept.is_whole(),
        }
    }
}

fn count(counter: &AtomicU64, frame: &Frame<Bytes>) {
    if let Some(data) = frame.data_ref() {
        counter.fetch_add(data.len() as u64, Ordering::Relaxed);
    }
}

/// A request's body that several attempts send, one after the other, and that others
/// get a copy of.
#[derive(Clone, Debug)]
pub(crate) struct Kept(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    source: Incoming,
    size: SizeHint,
    /// What came so far, as long as it is not too much.
    frames: Vec<Part>,
    bytes: usize,
    bound: usize,
    overflowed: bool,
    complete: bool,
    /// Only the latest attempt may take from the source.
    attempt: u64,
    copies: Vec<CopySender>,
    sent: Arc<AtomicU64>,
}

/// A frame that can be sent again.
#[derive(Clone, Debug)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Part {
    fn length(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(_) => 0,
        }
    }

    fn frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }

    fn of(frame: Frame<Bytes>) -> Option<Self> {
        match frame.into_data() {
            Ok(data) => Some(Self::Data(data)),
            Err(frame) => frame.into_trailers().ok().map(Self::Trailers),
        }
    }
}

impl Kept {
    /// Keeps up to `bound` bytes of a body.
    pub(crate) fn new(source: Incoming, bound: usize, sent: Arc<AtomicU64>) -> Self {
        let size = source.size_hint();
        let complete = source.is_end_stream();
        // What is announced to be too long isn't begun to be kept.
        let overflowed = size.lower() > bound as u64;
        Self(Arc::new(Mutex::new(State {
            source,
            size,
            frames: Vec::new(),
            bytes: 0,
            bound,
            overflowed,
            complete,
            attempt: 0,
            copies: Vec::new(),
            sent,
        })))
    }

    /// Whether another attempt could send all of it.
    pub(crate) fn is_whole(&self) -> bool {
        !self.lock().overflowed
    }

    /// The body for the next attempt; earlier attempts get no more of it.
    pub(crate) fn attempt(&self) -> RequestBody {
        let mut state = self.lock();
        state.attempt += 1;
        RequestBody::Kept(Attempt {
            number: state.attempt,
            position: 0,
            kept: self.clone(),
        })
    }

    /// A copy of all that the attempts send. To be asked for before the first attempt.
    pub(crate) fn copy(&self) -> RequestBody {
        let mut state = self.lock();
        if state.complete && state.frames.is_empty() {
            return RequestBody::Empty;
        }
        let (sender, frames) = mpsc::unbounded_channel();
        let (whole, behind) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let size = state.size;
        state.copies.push(CopySender {
            frames: sender,
            whole: Arc::clone(&whole),
            behind: Arc::clone(&behind),
        });
        RequestBody::Copy(Copy {
            frames,
            whole,
            behind,
            size,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body as one attempt sends it.
#[derive(Debug)]
pub(crate) struct Attempt {
    number: u64,
    position: usize,
    kept: Kept,
}

impl Attempt {
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.kept.lock();
        if state.attempt != self.number {
            return Poll::Ready(Some(Err(Superseded.into())));
        }
        if let Some(part) = state.frames.get(self.position) {
            self.position += 1;
            return Poll::Ready(Some(Ok(part.clone().frame())));
        }
        if state.complete {
            return Poll::Ready(None);
        }
        match ready!(Pin::new(&mut state.source).poll_frame(context)) {
            Some(Ok(frame)) => {
                count(&state.sent, &frame);
                let Some(part) = Part::of(frame) else {
                    return Poll::Ready(None);
                };
                state.copy(&part);
                state.keep(&part);
                self.position = state.frames.len();
                Poll::Ready(Some(Ok(part.frame())))
            }
            Some(Err(error)) => {
                // What the client broke off can't be sent again.
                state.overflowed = true;
                state.copies.clear();
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                state.complete = true;
                for copy in state.copies.drain(..) {
                    copy.whole.store(true, Ordering::Release);
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.kept.lock();
        state.complete && self.position >= state.frames.len()
    }
}

impl State {
    fn keep(&mut self, part: &Part) {
        if let Part::Data(data) = part {
            self.bytes += data.len();
        }
        self.overflowed |= self.bytes > self.bound;
        if self.overflowed {
            self.frames = Vec::new();
        } else {
            self.frames.push(part.clone());
        }
    }

    /// A copy that is behind is given up: it must not slow down the request itself.
    fn copy(&mut self, part: &Part) {
        let length = part.length();
        self.copies.retain(|copy| {
            let behind = copy.behind.fetch_add(length, Ordering::AcqRel) + length;
            behind <= COPY_BEHIND && copy.frames.send(part.clone()).is_ok()
        });
    }
}

#[derive(Debug)]
struct CopySender {
    frames: mpsc::UnboundedSender<Part>,
    whole: Arc<AtomicBool>,
    /// Bytes that wait.
    behind: Arc<AtomicUsize>,
}

/// A copy of a body.
#[derive(Debug)]
pub(crate) struct Copy {
    frames: mpsc::UnboundedReceiver<Part>,
    whole: Arc<AtomicBool>,
    behind: Arc<AtomicUsize>,
    size: SizeHint,
}

impl Copy {
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match ready!(self.frames.poll_recv(context)) {
            Some(part) => {
                self.behind.fetch_sub(part.length(), Ordering::AcqRel);
                Poll::Ready(Some(Ok(part.frame())))
            }
            None if self.whole.load(Ordering::Acquire) => Poll::Ready(None),
            None => Poll::Ready(Some(Err(GivenUp.into()))),
        }
    }
}
