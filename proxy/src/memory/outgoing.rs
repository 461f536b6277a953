//! Bytes on their way out, counted as long as they wait for a sink that takes nothing: those of
//! bodies and tunnels in HTTP/2's queues, and the buffers of connections that are carried as they
//! are.

use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};

use super::account::{ConnectionMemory, PodMemory};

/// Bytes that count with their connection until they are dropped, which is when the last of them
/// was written.
#[derive(Debug)]
pub(crate) struct MeteredData {
    bytes: Bytes,
    counted: usize,
    memory: Arc<ConnectionMemory>,
}

impl MeteredData {
    /// Bytes that are to be sent on that connection.
    pub(crate) fn new(bytes: Bytes, memory: &Arc<ConnectionMemory>) -> Self {
        let counted = bytes.len();
        memory.hold(counted);
        Self {
            bytes,
            counted,
            memory: Arc::clone(memory),
        }
    }
}

impl Buf for MeteredData {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}

impl Drop for MeteredData {
    fn drop(&mut self) {
        self.memory.release(self.counted);
    }
}

/// A body whose bytes count with the connection that they are sent on.
#[derive(Debug)]
pub(crate) struct MeteredBody<B> {
    body: B,
    memory: Arc<ConnectionMemory>,
}

impl<B> MeteredBody<B> {
    /// A body that is sent on that connection.
    pub(crate) fn new(body: B, memory: &Arc<ConnectionMemory>) -> Self {
        Self {
            body,
            memory: Arc::clone(memory),
        }
    }

    /// The body, of which nothing was sent.
    pub(crate) fn into_inner(self) -> B {
        self.body
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for MeteredBody<B> {
    type Data = MeteredData;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<MeteredData>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let metered = |bytes| MeteredData::new(bytes, &self.memory);
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(metered))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a connection holds that is carried as it is: nothing, as long as both ends take what comes.
#[derive(Debug)]
pub(crate) struct RelayMemory {
    pod: Arc<PodMemory>,
    /// Made when the first write has to wait: most connections never have one that does.
    connection: OnceLock<Arc<ConnectionMemory>>,
}

/// Bytes of a connection that wait to be written, until this is dropped.
#[derive(Debug)]
struct WaitingBytes<'a> {
    memory: &'a ConnectionMemory,
    bytes: usize,
}

impl Drop for WaitingBytes<'_> {
    fn drop(&mut self) {
        self.memory.release(self.bytes);
    }
}

impl RelayMemory {
    /// Of one more connection of a pod.
    pub(crate) fn new(pod: &Arc<PodMemory>) -> Self {
        Self {
            pod: Arc::clone(pod),
            connection: OnceLock::new(),
        }
    }

    /// Runs a write from a buffer of that many bytes, which counts as long as it has to wait.
    pub(crate) async fn while_it_waits<T>(
        &self,
        bytes: usize,
        write: impl Future<Output = T>,
    ) -> T {
        let mut write = pin!(write);
        let mut held = None;
        poll_fn(|context| {
            let written = write.as_mut().poll(context);
            if written.is_pending() && held.is_none() {
                held = Some(self.hold(bytes));
            }
            written
        })
        .await
    }

    /// The buffer of a half counts with that many bytes from now on, and no longer with `before`.
    pub(crate) fn replace(&self, before: &mut usize, bytes: usize) {
        if bytes == *before {
            return;
        }
        let connection = self.connection();
        connection.release(*before);
        connection.hold(bytes);
        *before = bytes;
    }

    /// Ready when the connection is to end, as it holds too much. To be polled after what may have
    /// to wait.
    pub(crate) fn poll_cut(&self, context: &Context<'_>) -> Poll<()> {
        let Some(connection) = self.connection.get() else {
            return Poll::Pending;
        };
        connection.wake_when_cut(context);
        match connection.is_cut() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn connection(&self) -> &Arc<ConnectionMemory> {
        self.connection.get_or_init(|| self.pod.connection())
    }

    fn hold(&self, bytes: usize) -> WaitingBytes<'_> {
        let memory = self.connection();
        memory.hold(bytes);
        WaitingBytes { memory, bytes }
    }
}
