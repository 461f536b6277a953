//! A request's body before it is sent, and what is left of it for another attempt.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::incoming::IncomingBody;
use super::replay::ReplayBody;
use super::request::RequestBody;

/// Bytes of a request's body that are kept for another attempt.
const REPLAY_BYTES: usize = 64 * 1024;
/// Bytes of an unwanted body that are read and thrown away, and for how long.
const DISCARDED_BYTES: usize = 256 * 1024;
const DISCARDED_FOR: Duration = Duration::from_secs(1);

/// Where the body for each attempt comes from.
#[derive(Debug, Default)]
pub(crate) enum RequestBodySource {
    /// There is no body.
    #[default]
    Empty,
    /// As it came, while nothing is decided about it.
    Unread(Incoming),
    /// For one attempt; `None` once that was begun.
    Once(Option<RequestBody>),
    /// For several attempts, or with copies.
    Replay(ReplayBody),
}

impl RequestBodySource {
    /// Begins to keep what is read of a body that was unread, within a bound: another attempt
    /// may follow where a connection has ended just then. `sent` counts its bytes, which come by
    /// HTTP/2 or by HTTP/1.
    pub(crate) fn prepare(&mut self, http2: bool, mirrored: bool, sent: Arc<AtomicU64>) {
        let Self::Unread(source) = std::mem::take(self) else {
            return;
        };
        if source.is_end_stream() {
            return;
        }
        let source = IncomingBody::new(source, http2);
        let is_too_long = source.size_hint().lower() > REPLAY_BYTES as u64;
        *self = match is_too_long && !mirrored {
            true => Self::Once(Some(RequestBody::stream(source, sent))),
            false => Self::Replay(ReplayBody::new(source, REPLAY_BYTES, sent)),
        };
    }

    /// No further attempt follows: nothing is kept of what is still to come.
    pub(crate) fn keep_no_longer(&self) {
        if let Self::Replay(body) = self {
            body.keep_no_longer();
        }
    }

    /// The body for the next attempt, `None` when it is lost.
    pub(crate) fn next_attempt(&mut self) -> Option<RequestBody> {
        match self {
            Self::Empty | Self::Unread(_) => Some(RequestBody::Empty),
            Self::Once(body) => body.take(),
            Self::Replay(body) => Some(RequestBody::Replay(body.next_attempt())),
        }
    }

    /// Puts back a body of which an attempt has sent nothing.
    pub(crate) fn put_back(&mut self, unsent: RequestBody) {
        if let Self::Once(body) = self {
            *body = Some(unsent);
        }
    }

    /// The body of a mirrored request. To be asked for before the first attempt.
    pub(crate) fn mirror(&self) -> RequestBody {
        match self {
            Self::Replay(body) => body
                .mirror()
                .map_or(RequestBody::Empty, RequestBody::Mirror),
            Self::Empty | Self::Unread(_) | Self::Once(_) => RequestBody::Empty,
        }
    }

    /// Whether another attempt could send all of it.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Self::Empty | Self::Unread(_) => true,
            Self::Once(body) => body.is_some(),
            Self::Replay(body) => body.is_whole(),
        }
    }

    /// Whether it could be sent once more after an attempt that begins now.
    pub(crate) fn is_kept(&self) -> bool {
        match self {
            Self::Empty | Self::Unread(_) => true,
            Self::Once(_) => false,
            Self::Replay(body) => body.is_whole(),
        }
    }

    /// Reads on for a while, as the request is answered without it: a client of HTTP/2
    /// whose stream is reset while it still sends may take that for its answer (RFC 9113
    /// section 8.1), one of HTTP/1 would lose its connection.
    pub(crate) fn discard(mut self) {
        let unread = match self {
            // It need not be whole.
            Self::Unread(source) => {
                let source = IncomingBody::new(source, false);
                Some(RequestBody::stream(source, Arc::default()))
            }
            _ => self.next_attempt(),
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
            // A client that sends for longer has its answer by now.
            let _ = tokio::time::timeout(DISCARDED_FOR, reading).await;
        });
    }
}
