//! Copies of a request's body, for mirrored requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;

use super::frame::{BodyError, ReplayFrame};

/// Bytes that a copy may be behind the request itself before it is given up.
const LARGEST_LAG: usize = 256 * 1024;

/// A copy that was too slow.
#[derive(Debug, thiserror::Error)]
#[error("the copy of the request was given up: it is too slow")]
struct MirrorTooSlow;

/// A copy of a body as the mirrored request sends it.
#[derive(Debug)]
pub(crate) struct MirrorBody {
    frames: mpsc::UnboundedReceiver<ReplayFrame>,
    progress: Arc<Progress>,
    size: SizeHint,
}

/// Where the request itself hands over what it sends.
#[derive(Debug)]
pub(super) struct MirrorSender {
    frames: mpsc::UnboundedSender<ReplayFrame>,
    progress: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// The request's body has been handed over to its end.
    complete: AtomicBool,
    /// Bytes handed over and not sent yet.
    waiting: AtomicUsize,
}

/// A copy of a body of that size, and where its frames come from.
pub(super) fn mirror(size: SizeHint) -> (MirrorSender, MirrorBody) {
    let (sender, frames) = mpsc::unbounded_channel();
    let progress = Arc::<Progress>::default();
    let sender = MirrorSender {
        frames: sender,
        progress: Arc::clone(&progress),
    };
    let body = MirrorBody {
        frames,
        progress,
        size,
    };
    (sender, body)
}

impl MirrorSender {
    /// Hands a frame over; false when the copy is given up, because it would slow down
    /// the request itself or because nobody wants it any more.
    pub(super) fn send(&self, frame: &ReplayFrame) -> bool {
        let length = frame.data_len();
        let waiting = self.progress.waiting.fetch_add(length, Ordering::AcqRel) + length;
        waiting <= LARGEST_LAG && self.frames.send(frame.clone()).is_ok()
    }

    /// Says that all of the body was handed over.
    pub(super) fn finish(self) {
        self.progress.complete.store(true, Ordering::Release);
    }
}

impl MirrorBody {
    /// The size that the request's own body announced.
    pub(super) fn size_hint(&self) -> SizeHint {
        self.size
    }

    /// The next frame; an error when the copy was given up.
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match ready!(self.frames.poll_recv(context)) {
            Some(frame) => {
                let length = frame.data_len();
                self.progress.waiting.fetch_sub(length, Ordering::AcqRel);
                Poll::Ready(Some(Ok(frame.into_frame())))
            }
            None if self.progress.complete.load(Ordering::Acquire) => Poll::Ready(None),
            None => Poll::Ready(Some(Err(MirrorTooSlow.into()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn data(length: usize) -> ReplayFrame {
        ReplayFrame::Data(vec![b'a'; length].into())
    }

    #[tokio::test]
    async fn a_copy_ends_as_the_body_does() {
        let (sender, mut body) = mirror(SizeHint::default());
        assert!(sender.send(&data(3)));
        sender.finish();
        let first = poll_fn(|cx| body.poll_frame(cx)).await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap().len(), 3);
        assert!(poll_fn(|cx| body.poll_frame(cx)).await.is_none());
    }

    #[tokio::test]
    async fn a_copy_whose_request_broke_off_breaks_off_too() {
        let (sender, mut body) = mirror(SizeHint::default());
        drop(sender);
        assert!(poll_fn(|cx| body.poll_frame(cx)).await.unwrap().is_err());
    }

    #[test]
    fn a_slow_copy_is_given_up_instead_of_slowing_the_request_down() {
        let (sender, body) = mirror(SizeHint::default());
        assert!(sender.send(&data(LARGEST_LAG)));
        assert!(!sender.send(&data(1)));
        drop(body);
        let (sender, body) = mirror(SizeHint::default());
        drop(body);
        assert!(!sender.send(&data(1)), "nobody wants it");
    }
}
