//! Listening to a client that still sends what was refused or answered early: a close with
//! unread bytes is a reset, which may overtake the response (RFC 9112 section 9.6).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::ahead::UnreadBytes;

/// Silence after which a client has read its response, or never will.
const SILENCE: Duration = Duration::from_secs(1);
/// Longest time that it is listened to.
const LONGEST: Duration = Duration::from_secs(30);
/// Reads in a row before others have their turn.
const READS_AT_ONCE: usize = 32;

/// The last moments of a connection.
#[derive(Debug)]
pub(crate) struct Linger {
    /// Ends at the end of the silence.
    silence: Pin<Box<Sleep>>,
    last: Instant,
}

impl Linger {
    /// Begins now.
    pub(crate) fn begin() -> Self {
        let now = Instant::now();
        Self {
            silence: Box::pin(sleep_until(now + SILENCE)),
            last: now + LONGEST,
        }
    }

    /// Ready when the client has ended, or was listened to long enough. What it sends is
    /// forgotten.
    pub(crate) fn poll_over<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        unread: &mut UnreadBytes,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        for _ in 0..READS_AT_ONCE {
            let mut bytes = [0; 8192];
            let mut buffer = ReadBuf::new(&mut bytes);
            match unread.poll_read(stream, context, &mut buffer) {
                Poll::Pending => return self.silence.as_mut().poll(context),
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
            }
            let until = Instant::now() + SILENCE;
            self.silence.as_mut().reset(until.min(self.last));
        }
        if self.silence.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
