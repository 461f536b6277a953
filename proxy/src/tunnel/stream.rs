//! One carried connection as a stream of bytes, whichever protocol carries it.
//!
//! [`TunnelStream`] reads and writes like a socket. For carrying without copies its two
//! halves, borrowed with [`TunnelStream::split`], hand over whole buffers instead.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::hbone::stream::{HboneHealth, HboneReceiver, HboneSender, HboneSlot};
use crate::telemetry::TcpReport;

/// Bytes that one copying write hands to the tunnel at the most.
const LARGEST_WRITE: usize = 64 * 1024;

/// A carried connection. Dropped before both directions finished, it is reset; its permit
/// on the tunnel's connection is given back either way.
#[derive(Debug)]
pub(crate) struct TunnelStream {
    receiver: TunnelReceiver,
    sender: TunnelSender,
    slot: Slot,
}

/// What is known of the connection that a stream runs on, for whoever has given the stream
/// away.
#[derive(Clone, Debug)]
pub(crate) struct TunnelHealth(ConnectionHealth);

/// The implementations of it.
#[derive(Clone, Debug)]
enum ConnectionHealth {
    Hbone(HboneHealth),
}

impl TunnelHealth {
    /// Whether it takes no further streams: the peer is on its way out, so what is idle
    /// should go, too.
    pub(crate) fn is_draining(&self) -> bool {
        match &self.0 {
            ConnectionHealth::Hbone(health) => health.is_draining(),
        }
    }
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct TunnelReceiver {
    half: ReceiverHalf,
    /// The part of the last buffer that copying reads have not consumed yet.
    unread: Bytes,
}

/// The sending half.
#[derive(Debug)]
pub(crate) struct TunnelSender {
    half: SenderHalf,
}

/// The implementations of a receiving half.
#[derive(Debug)]
enum ReceiverHalf {
    Hbone(HboneReceiver),
}

/// The implementations of a sending half.
#[derive(Debug)]
enum SenderHalf {
    Hbone(HboneSender),
}

/// A stream's permit on its connection; free again when dropped.
#[derive(Debug)]
enum Slot {
    Hbone(HboneSlot),
}

impl TunnelStream {
    /// A stream of an HBONE connection.
    pub(super) fn hbone(receiver: HboneReceiver, sender: HboneSender, slot: HboneSlot) -> Self {
        Self {
            receiver: TunnelReceiver {
                half: ReceiverHalf::Hbone(receiver),
                unread: Bytes::new(),
            },
            sender: TunnelSender {
                half: SenderHalf::Hbone(sender),
            },
            slot: Slot::Hbone(slot),
        }
    }

    /// Both halves, to be used at the same time.
    pub(crate) fn split(&mut self) -> (&mut TunnelReceiver, &mut TunnelSender) {
        (&mut self.receiver, &mut self.sender)
    }

    /// Cuts the stream: the peer learns that it broke, at once.
    pub(crate) fn reset(&mut self) {
        self.sender.reset();
    }

    /// Ready once the peer has cut the stream, or its connection broke.
    pub(crate) fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        self.sender.poll_reset(context)
    }

    /// Tells the peer that the end that follows is not one between two requests.
    pub(crate) fn announce_unanswered(&mut self) {
        let SenderHalf::Hbone(half) = &mut self.sender.half;
        half.announce_unanswered();
    }

    /// Whether the peer has said so.
    pub(crate) fn ends_unanswered(&self) -> bool {
        let ReceiverHalf::Hbone(half) = &self.receiver.half;
        half.ends_unanswered()
    }

    /// Cuts the stream behind what was sent. Ready once the peer has all of it, or is gone.
    pub(crate) fn poll_break_off(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.sender.poll_break_off(context)
    }

    /// What the kernel knows of its connection, where that is still open.
    pub(crate) fn tcp_report(&self) -> Option<TcpReport> {
        match &self.slot {
            Slot::Hbone(slot) => slot.tcp_report(),
        }
    }

    /// What is known of its connection.
    pub(crate) fn health(&self) -> TunnelHealth {
        match &self.slot {
            Slot::Hbone(slot) => TunnelHealth(ConnectionHealth::Hbone(slot.health())),
        }
    }
}

impl Drop for TunnelStream {
    fn drop(&mut self) {
        let Slot::Hbone(slot) = &self.slot;
        let ReceiverHalf::Hbone(receiver) = &self.receiver.half;
        let SenderHalf::Hbone(sender) = &self.sender.half;
        if !receiver.has_ended() || !sender.has_finished() {
            slot.count_reset();
        }
    }
}

impl TunnelReceiver {
    /// The next bytes as they arrived, at least one; `None` when the peer has finished.
    /// They count against the window until they are given to [`TunnelReceiver::release`].
    pub(crate) fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        if !self.unread.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.unread))));
        }
        loop {
            let received = match &mut self.half {
                ReceiverHalf::Hbone(half) => ready!(half.poll_receive(context)),
            };
            // A frame may be empty, such as the one that says that nothing follows.
            if !matches!(&received, Some(Ok(data)) if data.is_empty()) {
                return Poll::Ready(received);
            }
        }
    }

    /// Opens the window by that many bytes, which were consumed: back-pressure reaches
    /// the peer as far as they are not.
    ///
    /// # Errors
    /// When the stream is broken.
    pub(crate) fn release(&mut self, consumed: usize) -> io::Result<()> {
        match &mut self.half {
            ReceiverHalf::Hbone(half) => half.release(consumed),
        }
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(self.poll_receive(context)) {
            Some(Ok(data)) => self.unread = data,
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => return Poll::Ready(Ok(())),
        }
        let part = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..part]);
        self.unread.advance(part);
        Poll::Ready(self.release(part))
    }
}

impl TunnelSender {
    /// Sends bytes; waits while the peer's windows are closed. Not cancel-safe: a part
    /// may have been sent.
    ///
    /// # Errors
    /// When the peer has cut the stream, or its connection broke.
    pub(crate) async fn send(&mut self, mut data: Bytes) -> io::Result<()> {
        while !data.is_empty() {
            let capacity = poll_fn(|context| self.poll_capacity(context, data.len())).await?;
            let part = data.split_to(capacity.min(data.len()));
            self.send_part(part)?;
        }
        Ok(())
    }

    /// Tells the peer that nothing more will be sent, after all that was.
    ///
    /// # Errors
    /// When the stream is broken.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        match &mut self.half {
            SenderHalf::Hbone(half) => half.finish(),
        }
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.half {
            SenderHalf::Hbone(half) => half.poll_finish(context),
        }
    }

    /// Ready once the peer has cut the stream, or its connection broke.
    pub(crate) fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        match &mut self.half {
            SenderHalf::Hbone(half) => half.poll_reset(context),
        }
    }

    fn reset(&mut self) {
        match &mut self.half {
            SenderHalf::Hbone(half) => half.reset(),
        }
    }

    fn poll_break_off(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.half {
            SenderHalf::Hbone(half) => half.poll_break_off(context),
        }
    }

    /// The bytes, of those wanted, that may be sent now.
    fn poll_capacity(
        &mut self,
        context: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<io::Result<usize>> {
        match &mut self.half {
            SenderHalf::Hbone(half) => half.poll_capacity(context, wanted),
        }
    }

    /// Sends bytes within the capacity that there is.
    fn send_part(&mut self, part: Bytes) -> io::Result<()> {
        match &mut self.half {
            SenderHalf::Hbone(half) => half.send_part(part),
        }
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        if offered == 0 {
            return Poll::Ready(Ok(0));
        }
        let wanted = offered.min(LARGEST_WRITE);
        let length = ready!(self.poll_capacity(context, wanted))?.min(wanted);
        let mut data = BytesMut::with_capacity(length);
        for slice in slices {
            let part = slice.len().min(length - data.len());
            data.extend_from_slice(&slice[..part]);
        }
        Poll::Ready(self.send_part(data.freeze()).map(|()| length))
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.receiver.poll_read(context, buffer)
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.sender.poll_write(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.sender.poll_write(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing waits here: the connection's own task sends.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Whoever has shut a stream down may drop it: what was sent arrives.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Slot::Hbone(slot) = &self.slot;
        match slot.is_clients() {
            true => self.sender.poll_finish(context),
            false => Poll::Ready(self.sender.finish()),
        }
    }
}

#[cfg(test)]
mod tests;
