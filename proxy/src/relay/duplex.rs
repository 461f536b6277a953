//! Between two ends of any kind, such as TLS that begins here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

use super::buffer::ReadBuffer;
use super::error::RelayError;
use super::halves::{Half, run_both};

use crate::detect::FirstBytes;
use crate::memory::RelayMemory;
use crate::stream::Stream;
use crate::telemetry::{CloseReason, DirectionProgress, Progress};

/// Carries bytes between two ends of any kind until both halves ended. TLS that ends
/// without having said so (RFC 8446 section 6.1) was cut, which is a break.
///
/// # Errors
/// When either end breaks.
pub(super) async fn duplex(
    (first_of_downstream, downstream): (FirstBytes, &mut Stream),
    (first_of_upstream, upstream): (FirstBytes, &mut Stream),
    progress: &Progress,
    memory: &RelayMemory,
) -> Result<(), (CloseReason, RelayError)> {
    let mut sent = Transfer::new(first_of_downstream, progress.sending(), memory);
    let mut received = Transfer::new(first_of_upstream, progress.receiving(), memory);
    run_both(|half, context| match half {
        Half::Sent => sent.poll(context, downstream, upstream),
        Half::Received => received.poll(context, upstream, downstream),
    })
    .await
}

/// One half.
#[derive(Debug)]
struct Transfer<'a> {
    state: State,
    buffer: ReadBuffer,
    /// The error that follows the first bytes.
    error_of_first: Option<io::Error>,
    /// Streams with buffers of their own keep what was written until they are flushed.
    is_unflushed: bool,
    progress: DirectionProgress<'a>,
    memory: &'a RelayMemory,
    /// Bytes that count because they wait.
    held: usize,
}

/// What a half does next.
#[derive(Debug)]
enum State {
    Writing,
    Reading,
    Finishing,
    Finished,
}

impl<'a> Transfer<'a> {
    fn new(first: FirstBytes, progress: DirectionProgress<'a>, memory: &'a RelayMemory) -> Self {
        Self {
            state: State::Writing,
            buffer: ReadBuffer::new(first.bytes),
            error_of_first: first.error,
            is_unflushed: false,
            progress,
            memory,
            held: 0,
        }
    }

    /// Carries as much as there is and fits; ready when the half has ended.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        source: &mut Stream,
        sink: &mut Stream,
    ) -> Poll<Result<(), RelayError>> {
        loop {
            self.state = match self.state {
                State::Writing => ready!(self.poll_write(context, sink))?,
                State::Reading => ready!(self.poll_read(context, source, sink))?,
                State::Finishing => {
                    // Whoever is there may have closed already, after it sent all it had.
                    let _ = ready!(Pin::new(&mut *sink).poll_shutdown(context));
                    State::Finished
                }
                State::Finished => return Poll::Ready(Ok(())),
            };
        }
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        sink: &mut Stream,
    ) -> Poll<Result<State, RelayError>> {
        while !self.buffer.bytes.is_empty() {
            let size = self.buffer.size();
            let Poll::Ready(written) = Pin::new(&mut *sink).poll_write(context, &self.buffer.bytes)
            else {
                self.memory.replace(&mut self.held, size);
                return Poll::Pending;
            };
            let written = written.map_err(RelayError::Write)?;
            if written == 0 {
                let error = io::ErrorKind::WriteZero.into();
                return Poll::Ready(Err(RelayError::Write(error)));
            }
            self.buffer.bytes.advance(written);
            self.progress.add(written);
            self.is_unflushed = true;
        }
        self.memory.replace(&mut self.held, 0);
        match self.error_of_first.take() {
            Some(error) => Poll::Ready(Err(RelayError::Read(error))),
            None => Poll::Ready(Ok(State::Reading)),
        }
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        source: &mut Stream,
        sink: &mut Stream,
    ) -> Poll<Result<State, RelayError>> {
        if let Poll::Ready(read) = self.buffer.poll_fill(context, source) {
            if read.map_err(RelayError::Read)? > 0 {
                return Poll::Ready(Ok(State::Writing));
            }
            self.buffer = ReadBuffer::new(BytesMut::new());
            self.progress.end();
            return Poll::Ready(Ok(State::Finishing));
        }
        if self.is_unflushed {
            let flushed = ready!(Pin::new(&mut *sink).poll_flush(context));
            flushed.map_err(RelayError::Write)?;
            self.is_unflushed = false;
        }
        // The sink may be cut while the source is silent.
        sink.poll_reset(context)
            .map(|error| Err(RelayError::Write(error)))
    }
}
