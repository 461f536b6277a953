//! A stream that carries requests and counts its bytes for the connection's record, which
//! ends with it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::admission::{Admission, DescriptorShare};
use crate::stream::{BreakOff, SendQueue, Stream};
use crate::sync::lock;
use crate::telemetry::{CloseReason, ConnectionRecord, CutReason, Progress, ResponseFlag};
use crate::upstream::UpstreamConnection;

/// A stream with the record of its connection. Reads fail once policy does not allow the
/// connection any more.
pub(crate) struct RecordedStream<S> {
    stream: S,
    recording: Option<Recording>,
    _descriptor: Option<DescriptorShare>,
}

/// The record of a connection, for whoever learns that it failed for another reason than
/// its stream.
#[derive(Clone, Debug)]
pub(crate) struct RecordHandle(Arc<SharedRecord>);

struct Recording {
    progress: Arc<Progress>,
    cut: Pin<Box<dyn Future<Output = CutReason> + Send + Sync>>,
    record: RecordHandle,
    side: Side,
    _admission: Option<Admission>,
}

/// Closed by whoever holds it last.
#[derive(Debug)]
struct SharedRecord(Mutex<Option<(ConnectionRecord, CloseReason)>>);

/// Which end of the connection the proxy is at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    /// It accepted it: what it reads was sent by the client.
    Downstream,
    /// It opened it: what it writes is sent to the server.
    Upstream,
}

impl<S> RecordedStream<S> {
    /// A client's connection, with a handle to its record.
    pub(crate) fn downstream(stream: S, record: ConnectionRecord) -> (Self, RecordHandle) {
        let recording = Recording::new(record, Side::Downstream, None);
        let handle = recording.record.clone();
        let recorded = Self {
            stream,
            recording: Some(recording),
            _descriptor: None,
        };
        (recorded, handle)
    }
}

impl RecordedStream<Stream> {
    /// A connection to an endpoint: recorded for the receiving pod where this process serves
    /// that, too. Its permit among that pod's connections, and its descriptor, are
    /// given back with it.
    pub(crate) fn of_connection(connection: UpstreamConnection) -> Self {
        let recording = connection.same_node.map(|mut side| {
            // Of those that the receiving pod doesn't look at it has a record already.
            side.record.opened_connected_for_requests();
            Recording::new(side.record, Side::Upstream, side.admission)
        });
        Self {
            stream: connection.stream,
            recording,
            _descriptor: connection.descriptor,
        }
    }
}

impl Recording {
    fn new(record: ConnectionRecord, side: Side, admission: Option<Admission>) -> Self {
        Self {
            progress: Arc::clone(record.progress()),
            cut: Box::pin(record.cut_signal()),
            record: RecordHandle(Arc::new(SharedRecord(Mutex::new(Some((
                record,
                CloseReason::Finished,
            )))))),
            side,
            _admission: admission,
        }
    }

    fn read(&self, result: &io::Result<usize>) {
        self.count(result, self.side == Side::Downstream);
    }

    fn wrote(&self, result: &io::Result<usize>) {
        self.count(result, self.side == Side::Upstream);
    }

    fn count(&self, result: &io::Result<usize>, sent: bool) {
        match (result, sent) {
            (Ok(bytes), true) => self.progress.add_sent(*bytes),
            (Ok(bytes), false) => self.progress.add_received(*bytes),
            (Err(_), _) => self.record.broke(match self.side {
                Side::Downstream => CloseReason::DownstreamReset,
                Side::Upstream => CloseReason::UpstreamReset,
            }),
        }
    }
}

impl RecordHandle {
    /// Closes the record with a failure, unless it is closed already.
    pub(crate) fn fail(&self, flag: ResponseFlag, error: &dyn std::error::Error) {
        if let Some((record, _)) = self.take() {
            record.fail(flag, error);
        }
    }

    /// Closes it for that reason, unless it is closed already.
    pub(crate) fn close(&self, reason: CloseReason) {
        if let Some((record, _)) = self.take() {
            record.close(reason);
        }
    }

    /// Closes it because policy does not allow the connection any more.
    pub(crate) fn cut_off(&self, reason: CutReason) {
        if let Some((record, _)) = self.take() {
            record.cut_off(reason);
        }
    }

    fn broke(&self, reason: CloseReason) {
        if let Some((_, ended)) = &mut *lock(&self.0.0) {
            *ended = reason;
        }
    }

    fn take(&self) -> Option<(ConnectionRecord, CloseReason)> {
        lock(&self.0.0).take()
    }
}

impl Drop for SharedRecord {
    fn drop(&mut self) {
        let record = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((record, reason)) = record.take() {
            record.close(reason);
        }
    }
}

impl<S: std::fmt::Debug> std::fmt::Debug for RecordedStream<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordedStream")
            .field("stream", &self.stream)
            .field("recorded", &self.recording.is_some())
            .finish()
    }
}

impl<S: SendQueue> SendQueue for RecordedStream<S> {
    fn is_undelivered(&self) -> bool {
        self.stream.is_undelivered()
    }

    fn resets_when_unread(&self) -> bool {
        self.stream.resets_when_unread()
    }

    fn is_untouched(&self) -> bool {
        self.stream.is_untouched()
    }

    fn ends_unanswered(&self) -> bool {
        self.stream.ends_unanswered()
    }
}

impl<S: BreakOff> BreakOff for RecordedStream<S> {
    fn poll_break_off(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_break_off(context)
    }

    fn is_on_its_way(&self) -> bool {
        self.stream.is_on_its_way()
    }

    fn break_on_close(&mut self) {
        self.stream.break_on_close();
    }

    fn announce_unanswered(&mut self) {
        self.stream.announce_unanswered();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for RecordedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(recording) = &mut self.recording
            && let Poll::Ready(reason) = recording.cut.as_mut().poll(context)
        {
            recording.record.cut_off(reason);
            // It is never looked at again.
            recording.cut = Box::pin(std::future::pending());
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        let result = result.map(|()| buffer.filled().len() - before);
        if let Some(recording) = &self.recording {
            recording.read(&result);
        }
        Poll::Ready(result.map(drop))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RecordedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        if let Some(recording) = &self.recording {
            recording.wrote(&result);
        }
        Poll::Ready(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices));
        if let Some(recording) = &self.recording {
            recording.wrote(&result);
        }
        Poll::Ready(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
