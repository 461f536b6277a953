//! One stream of an HBONE connection: its two halves, and its permit on the connection.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::oneshot;

use super::batch::WeakTls;
use super::limits::RESETS_PER_CONNECTION;
use crate::memory::{ConnectionMemory, MeteredData, OpenStream};
use crate::telemetry::{TcpReport, TcpReported};

/// The field of the trailers of a stream whose end leaves something unanswered that may have
/// been read. Peers that don't know it carry bytes, to which it means nothing.
const UNANSWERED: HeaderName = HeaderName::from_static("weft-unanswered");

/// The receiving half of a stream.
#[derive(Debug)]
pub(crate) struct HboneReceiver {
    stream: RecvStream,
    has_ended: bool,
    /// The peer has said so at its end: [`HboneSender::announce_unanswered`].
    ends_unanswered: bool,
}

/// The sending half of a stream.
#[derive(Debug)]
pub(crate) struct HboneSender {
    stream: SendStream<MeteredData>,
    memory: Arc<ConnectionMemory>,
    has_finished: bool,
    ends_unanswered: bool,
    /// Ends when all that was sent before it has left HTTP/2's queue.
    queue_end: Option<oneshot::Receiver<Infallible>>,
}

/// The owner of bytes that there are none of: dropped when their frame was written.
#[derive(Debug)]
struct QueueEnd(#[expect(dead_code, reason = "its drop tells")] oneshot::Sender<Infallible>);

impl AsRef<[u8]> for QueueEnd {
    fn as_ref(&self) -> &[u8] {
        &[]
    }
}

impl HboneReceiver {
    /// The receiving half of a stream that was just opened.
    pub(super) fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            has_ended: false,
            ends_unanswered: false,
        }
    }

    /// Whether the peer has ended the stream though it may have read what it hasn't answered.
    pub(crate) fn ends_unanswered(&self) -> bool {
        self.ends_unanswered
    }

    /// Whether the peer has finished, or cut the stream.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The next DATA frame's bytes; `None` after END_STREAM.
    pub(crate) fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        let received = ready!(self.stream.poll_data(context));
        self.has_ended = !matches!(received, Some(Ok(_)));
        if received.is_none()
            && let Poll::Ready(Ok(Some(trailers))) = self.stream.poll_trailers(context)
        {
            self.ends_unanswered = trailers.contains_key(UNANSWERED);
        }
        Poll::Ready(received.map(|received| received.map_err(stream_error)))
    }

    /// Opens the windows of the stream and its connection (RFC 9113 section 5.2).
    pub(crate) fn release(&mut self, consumed: usize) -> io::Result<()> {
        let released = self.stream.flow_control().release_capacity(consumed);
        released.map_err(stream_error)
    }
}

impl HboneSender {
    /// The sending half of a stream that was just opened.
    pub(super) fn new(stream: SendStream<MeteredData>, memory: &Arc<ConnectionMemory>) -> Self {
        Self {
            stream,
            memory: Arc::clone(memory),
            has_finished: false,
            ends_unanswered: false,
            queue_end: None,
        }
    }

    /// Whether nothing more will be sent.
    pub(crate) fn has_finished(&self) -> bool {
        self.has_finished
    }

    /// The bytes, of those wanted, that the peer's windows allow now.
    pub(crate) fn poll_capacity(
        &mut self,
        context: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<io::Result<usize>> {
        self.stream.reserve_capacity(wanted);
        loop {
            match self.stream.capacity() {
                0 => {}
                capacity => return Poll::Ready(Ok(capacity)),
            }
            match ready!(self.stream.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(stream_error(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }

    /// Sends bytes within the capacity that there is.
    pub(crate) fn send_part(&mut self, part: Bytes) -> io::Result<()> {
        let part = MeteredData::new(part, &self.memory);
        self.stream.send_data(part, false).map_err(stream_error)
    }

    /// The end that follows will say that it is not one between two requests. To whoever carries
    /// bytes it is an end like any other.
    pub(crate) fn announce_unanswered(&mut self) {
        self.ends_unanswered = true;
    }

    /// Sends END_STREAM after all that was sent.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.has_finished = true;
        let finished = match self.ends_unanswered {
            true => {
                let unanswered = (UNANSWERED, HeaderValue::from_static("1"));
                self.stream
                    .send_trailers(HeaderMap::from_iter([unanswered]))
            }
            false => {
                let nothing = MeteredData::new(Bytes::new(), &self.memory);
                self.stream.send_data(nothing, true)
            }
        };
        finished.map_err(stream_error)
    }

    /// Sends END_STREAM after all that was sent. Ready once that is done, or the stream is gone:
    /// a client's stream that is dropped while its server still sends is reset (RFC 9113 section
    /// 8.1), and what waits in HTTP/2's queue is lost.
    pub(crate) fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_finished {
            self.has_finished = true;
            let (end, ended) = oneshot::channel();
            let marker = MeteredData::new(Bytes::from_owner(QueueEnd(end)), &self.memory);
            self.stream.send_data(marker, true).map_err(stream_error)?;
            self.queue_end = Some(ended);
        }
        self.poll_queue_end(context).map(Ok)
    }

    /// Sends RST_STREAM, which stands for a TCP connection's RST (RFC 9113 section 8.5).
    pub(crate) fn reset(&mut self) {
        self.stream.send_reset(Reason::CANCEL);
    }

    /// Sends RST_STREAM behind all that was sent, which it would discard otherwise. Ready once
    /// that is done, or the stream is gone.
    pub(crate) fn poll_break_off(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.queue_end.is_none() {
            let (end, ended) = oneshot::channel();
            let marker = MeteredData::new(Bytes::from_owner(QueueEnd(end)), &self.memory);
            if self.stream.send_data(marker, false).is_err() {
                return Poll::Ready(());
            }
            self.queue_end = Some(ended);
        }
        ready!(self.poll_queue_end(context));
        self.reset();
        Poll::Ready(())
    }

    fn poll_queue_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(ended) = &mut self.queue_end {
            // Nothing is ever sent on it.
            let _ = ready!(Pin::new(ended).poll(context));
        }
        self.queue_end = None;
        Poll::Ready(())
    }

    /// Ready once the peer has cut the stream by RST_STREAM, or the connection broke. A peer
    /// that has sent all it had and takes nothing more (`NO_ERROR`, RFC 9113 section 8.1) has
    /// cut nothing: what it sent counts, and the next write fails.
    pub(crate) fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        match ready!(self.stream.poll_reset(context)) {
            Ok(Reason::NO_ERROR) => Poll::Pending,
            Ok(reason) => Poll::Ready(stream_error(reason.into())),
            Err(error) => Poll::Ready(stream_error(error)),
        }
    }
}

/// What the streams of one connection share.
#[derive(Debug)]
pub(super) struct Streams {
    memory: Arc<ConnectionMemory>,
    open: AtomicUsize,
    /// Streams that this end has reset.
    resets: AtomicUsize,
    /// No further stream is to be opened.
    closed: AtomicBool,
    tcp: WeakTls,
    /// What streams have reported of the connection already, each part once.
    reported: TcpReported,
}

impl Streams {
    /// None is open, of a connection that holds nothing.
    pub(super) fn new(memory: Arc<ConnectionMemory>, tcp: WeakTls) -> Self {
        Self {
            memory,
            tcp,
            reported: TcpReported::default(),
            open: AtomicUsize::new(0),
            resets: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Streams that are open.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Whether no further stream is to be opened.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// No further stream is to be opened.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// One more stream was reset by this end: after many no further one is to be opened.
    fn count_reset(&self) {
        if self.resets.fetch_add(1, Ordering::AcqRel) + 1 >= RESETS_PER_CONNECTION {
            self.close();
        }
    }

    /// A permit for a stream that the peer has opened: HTTP/2 has limited their number.
    pub(super) fn add(self: &Arc<Self>) -> StreamPermit {
        self.open.fetch_add(1, Ordering::AcqRel);
        self.permit()
    }

    /// A permit for one more stream, unless `limit` are open.
    pub(super) fn reserve(self: &Arc<Self>, limit: usize) -> Option<StreamPermit> {
        let add = |open| (open < limit).then_some(open + 1);
        let reserved = self
            .open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        reserved.ok().map(|_| self.permit())
    }

    fn permit(self: &Arc<Self>) -> StreamPermit {
        StreamPermit {
            _memory: self.memory.open_stream(),
            streams: Arc::clone(self),
        }
    }
}

/// One stream's permit on a connection; free again when dropped.
#[derive(Debug)]
pub(super) struct StreamPermit {
    streams: Arc<Streams>,
    /// What its stream holds may still be read.
    _memory: OpenStream,
}

impl StreamPermit {
    /// What the connection holds.
    pub(super) fn memory(&self) -> &Arc<ConnectionMemory> {
        &self.streams.memory
    }

    /// The other streams of the connection.
    pub(super) fn streams(&self) -> &Streams {
        &self.streams
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.streams.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One stream's permit on a connection, and the connection itself, which lives as long as
/// the stream.
#[derive(Debug)]
pub(crate) struct HboneSlot {
    pub(super) permit: StreamPermit,
    /// The handle of an outgoing connection, which knows of the peer's GOAWAY.
    pub(super) requests: Option<SendRequest<MeteredData>>,
}

impl HboneSlot {
    /// Its stream is reset, and did not finish.
    pub(crate) fn count_reset(&self) {
        self.permit.streams.count_reset();
    }

    /// Whether this end has opened the stream.
    pub(crate) fn is_clients(&self) -> bool {
        self.requests.is_some()
    }

    /// What the kernel knows of the connection, where it is still open. What is new since another
    /// stream asked is new to one of them only.
    pub(crate) fn tcp_report(&self) -> Option<TcpReport> {
        let streams = &self.permit.streams;
        let statistics = streams.tcp.tcp_statistics()?;
        Some(streams.reported.report(statistics))
    }

    /// What is known of the connection.
    pub(crate) fn health(&self) -> HboneHealth {
        HboneHealth {
            streams: Arc::clone(&self.permit.streams),
            requests: self.requests.clone(),
        }
    }
}

/// What is known of a connection. Whoever holds it keeps the connection open.
#[derive(Clone, Debug)]
pub(crate) struct HboneHealth {
    streams: Arc<Streams>,
    requests: Option<SendRequest<MeteredData>>,
}

impl HboneHealth {
    /// Whether the connection takes no further streams.
    pub(crate) fn is_draining(&self) -> bool {
        let is_refused = |requests: &SendRequest<MeteredData>| {
            let mut context = Context::from_waker(Waker::noop());
            let ready = requests.clone().poll_ready(&mut context);
            matches!(ready, Poll::Ready(Err(_)))
        };
        self.streams.is_closed() || self.requests.as_ref().is_some_and(is_refused)
    }
}

/// An error of HTTP/2 as one of a stream of bytes.
fn stream_error(error: h2::Error) -> io::Error {
    match error.get_io() {
        Some(cause) => io::Error::new(cause.kind(), error),
        None => io::Error::new(io::ErrorKind::ConnectionReset, error),
    }
}
