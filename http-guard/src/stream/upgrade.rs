//! Requests for another protocol: what follows them depends on the response.

use std::io;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use tokio::io::{AsyncRead, ReadBuf};

use super::{GuardedStream, Reading, Step};
use crate::refusal::Refusal;

impl<S: AsyncRead + Unpin> GuardedStream<S> {
    /// Waits for the response to a request for an upgrade. Whatever arrives before it is
    /// written was sent ahead of it; that is read, so that a client that leaves is noticed.
    pub(super) fn poll_upgrade(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Step>> {
        let ahead = self.poll_ahead(context)?;
        let requests = self.guard.requests();
        if let Poll::Ready(status) = self.handle.poll_last_status(requests, context) {
            self.decide_upgrade(status);
            return Poll::Ready(Ok(Step::Again));
        }
        match ahead {
            Poll::Ready(()) if self.ahead.is_empty() => Poll::Ready(Ok(Step::Over)),
            _ => Poll::Pending,
        }
    }

    /// Reads what has arrived, up to a limit; ready at the client's end.
    pub(super) fn poll_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.ahead.len() < self.longest_ahead {
            let mut bytes = [0; 1024];
            let bytes = ready!(self.poll_inner(context, &mut bytes))?;
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.ahead.extend_from_slice(bytes);
        }
        Poll::Pending
    }

    /// Decides an upgrade whose response was decided before the request's body was complete:
    /// what follows may be sent in knowledge of it.
    pub(super) fn decide_answered_upgrade(&mut self) {
        if self.guard.awaits_upgrade()
            && let Some(status) = self.handle.last_status(self.guard.requests())
        {
            self.decide_upgrade(status);
        }
    }

    pub(super) fn decide_upgrade(&mut self, status: StatusCode) {
        if self.guard.is_upgraded_by(status) {
            self.reading = Reading::Upgraded;
            return;
        }
        self.guard.deny_upgrade();
        if !self.ahead.is_empty() {
            self.ahead.clear();
            self.refuse_head(Refusal::AheadOfUpgrade);
        }
    }

    /// Reads another protocol, from what was sent ahead on.
    pub(super) fn poll_upgraded(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return self.unread.poll_read(&mut self.inner, context, buffer);
        }
        let part = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead.split_to(part));
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_inner<'a>(
        &mut self,
        context: &mut Context<'_>,
        bytes: &'a mut [u8],
    ) -> Poll<io::Result<&'a [u8]>> {
        let mut buffer = ReadBuf::new(bytes);
        ready!(self.unread.poll_read(&mut self.inner, context, &mut buffer))?;
        let length = buffer.filled().len();
        Poll::Ready(Ok(&bytes[..length]))
    }
}
