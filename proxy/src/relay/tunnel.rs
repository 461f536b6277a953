//! Between a TCP connection and a stream of a tunnel, without copies: buffers change hands.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncWrite, Interest};
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::buffer::ReadBuffer;
use super::error::{BREAK_OFF_WITHIN, RelayError};
use super::tcp::{finish, write_all};
use crate::detect::FirstBytes;
use crate::memory::RelayMemory;
use crate::telemetry::DirectionProgress;
use crate::tunnel::{TunnelReceiver, TunnelSender};

/// Bytes taken from the tunnel before they are written to the socket, at most. One
/// system call then serves several frames.
const GATHER: usize = 256 * 1024;
/// Slices that one vectored write takes.
const SLICES: usize = 64;

/// Carries the first bytes and what `source` brings into the tunnel, then the end.
///
/// # Errors
/// When the connection breaks, or the peer cuts the stream, also while `source` is silent.
pub(super) async fn tcp_to_tunnel(
    first: FirstBytes,
    mut source: ReadHalf<'_>,
    sink: &mut TunnelSender,
    progress: DirectionProgress<'_>,
    memory: &RelayMemory,
) -> Result<(), RelayError> {
    let mut buffer = ReadBuffer::new(first.bytes);
    send(&source, sink, &mut buffer, progress, memory).await?;
    if let Some(error) = first.error {
        return Err(RelayError::Read(error));
    }
    while read_unless_reset(&mut source, &mut buffer, sink).await? > 0 {
        send(&source, sink, &mut buffer, progress, memory).await?;
    }
    progress.end();
    // Whoever is there may take nothing more, after it sent all it had.
    let _ = sink.finish();
    Ok(())
}

/// Reads once; the peer may cut the stream while the application is silent.
async fn read_unless_reset(
    source: &mut ReadHalf<'_>,
    buffer: &mut ReadBuffer,
    sink: &mut TunnelSender,
) -> Result<usize, RelayError> {
    poll_fn(|context| match buffer.poll_fill(context, source) {
        Poll::Ready(read) => Poll::Ready(read.map_err(RelayError::Read)),
        Poll::Pending => sink
            .poll_reset(context)
            .map(|error| Err(RelayError::Write(error))),
    })
    .await
}

/// Sends what was read. While the peer takes nothing, nobody reads of the application that it
/// has reset its connection: what it sent before may go on for some time then, as if its kernel
/// had passed it on, and holds the peer's window no longer.
async fn send(
    source: &ReadHalf<'_>,
    sink: &mut TunnelSender,
    buffer: &mut ReadBuffer,
    progress: DirectionProgress<'_>,
    memory: &RelayMemory,
) -> Result<(), RelayError> {
    let size = buffer.size();
    let data = buffer.bytes.split().freeze();
    let length = data.len();
    let broken = async {
        let error = until_broken(source).await;
        tokio::time::sleep(BREAK_OFF_WITHIN).await;
        error
    };
    tokio::select! {
        biased;
        sent = memory.while_it_waits(size, sink.send(data)) => sent.map_err(RelayError::Write)?,
        error = broken => return Err(RelayError::Read(error)),
    }
    progress.add(length);
    Ok(())
}

/// Resolves once a connection has been reset, without reading from it.
async fn until_broken(source: &ReadHalf<'_>) -> io::Error {
    if let Err(error) = source.ready(Interest::ERROR).await {
        return error;
    }
    match source.as_ref().take_error() {
        Ok(Some(error)) | Err(error) => error,
        // Whoever took it ends the relay.
        Ok(None) => std::future::pending().await,
    }
}

/// Carries the first bytes and what the tunnel brings to `sink`, then the end.
///
/// # Errors
/// When the connection breaks, or the peer cuts the stream.
pub(super) async fn tunnel_to_tcp(
    first: FirstBytes,
    source: &mut TunnelReceiver,
    mut sink: WriteHalf<'_>,
    progress: DirectionProgress<'_>,
) -> Result<(), RelayError> {
    write_all(&mut sink, &first.bytes, progress).await?;
    drop(first.bytes);
    if let Some(error) = first.error {
        return Err(RelayError::Read(error));
    }
    let mut gathered = Gathered::default();
    loop {
        let more = poll_fn(|context| gathered.poll_gather(context, source)).await;
        let more = more.map_err(RelayError::Read)?;
        let length = gathered.length;
        let written = poll_fn(|context| gathered.poll_write(context, &mut sink)).await;
        written.map_err(RelayError::Write)?;
        progress.add(length);
        // The window opens only as far as the application has read: back-pressure.
        source.release(length).map_err(RelayError::Read)?;
        if !more {
            break;
        }
    }
    progress.end();
    finish(&mut sink).await;
    Ok(())
}

/// Buffers of the tunnel on their way to the socket.
#[derive(Debug, Default)]
struct Gathered {
    buffers: VecDeque<Bytes>,
    length: usize,
    /// The error that followed them at once.
    error: Option<io::Error>,
}

impl Gathered {
    /// Waits for data, then takes what else is there. False when the tunnel has ended.
    fn poll_gather(
        &mut self,
        context: &mut Context<'_>,
        source: &mut TunnelReceiver,
    ) -> Poll<io::Result<bool>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(error));
        }
        while self.length < GATHER && self.buffers.len() < SLICES {
            match source.poll_receive(context) {
                Poll::Ready(Some(Err(error))) if self.length > 0 => {
                    self.error = Some(error);
                    break;
                }
                Poll::Ready(Some(data)) => {
                    let data = data?;
                    self.length += data.len();
                    self.buffers.push_back(data);
                }
                Poll::Ready(None) => return Poll::Ready(Ok(false)),
                Poll::Pending if self.length > 0 => break,
                Poll::Pending => {
                    // Nothing is held while nothing comes.
                    *self = Self::default();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Writes all of it.
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        sink: &mut WriteHalf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.length > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES];
            for (slice, data) in slices.iter_mut().zip(&self.buffers) {
                *slice = IoSlice::new(data);
            }
            let count = self.buffers.len().min(SLICES);
            let write = Pin::new(&mut *sink).poll_write_vectored(context, &slices[..count]);
            match ready!(write)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.advance(written),
            }
        }
        self.buffers.clear();
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        self.length -= written;
        while let Some(first) = self.buffers.front_mut() {
            let part = written.min(first.len());
            first.advance(part);
            written -= part;
            if !first.is_empty() {
                return;
            }
            self.buffers.pop_front();
        }
    }
}
