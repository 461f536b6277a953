//! Bodies of responses, and text that is sent while it is written: no more of it is in
//! memory than a few chunks, however slowly it is read.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::pages::WriteText;

/// Bytes that are sent at once.
const CHUNK: usize = 32 * 1024;
/// Chunks that wait for the reader.
const WAITING_CHUNKS: usize = 2;

/// Whose turn it is to make a long page. Only one is made at a time, in turns of a chunk,
/// and a turn takes half of a core at most: the rest belongs to what the process is for.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// Somebody's turn. It ends when this is dropped.
pub(crate) struct Turn {
    began: Instant,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// Waits for a turn, on a thread that may.
    pub(crate) fn wait(&self, runtime: &Handle) -> Turn {
        // The semaphore is never closed.
        let permit = runtime.block_on(Arc::clone(&self.0).acquire_owned()).ok();
        Turn {
            began: Instant::now(),
            _permit: permit,
        }
    }
}

impl Drop for Turn {
    /// Half of a core: as long as it worked, it rests.
    fn drop(&mut self) {
        thread::sleep(self.began.elapsed());
    }
}

/// The body of a response.
#[derive(Debug)]
pub(crate) enum Text {
    /// All of it, until it is sent.
    Whole(Option<Bytes>),
    /// Chunks, and whether the last has come. Without it the response is cut off, so that
    /// nobody takes a part for the whole.
    Chunks(mpsc::Receiver<Option<Bytes>>),
}

/// The writer of a text that is sent in chunks has failed.
#[derive(Debug, thiserror::Error)]
#[error("the text could not be written to its end")]
pub(crate) struct Unfinished;

impl Text {
    /// What `write` writes, on a thread of its own.
    pub(crate) fn written(write: WriteText, turns: &Turns) -> Self {
        let (sender, chunks) = mpsc::channel(WAITING_CHUNKS);
        let runtime = Handle::current();
        let turns = turns.clone();
        runtime.clone().spawn_blocking(move || {
            let turn = Some(turns.wait(&runtime));
            let mut writer = ChunkWriter {
                buffer: String::with_capacity(CHUNK + 4096),
                sender,
                turns,
                turn,
                runtime,
            };
            if write(&mut writer).is_ok() {
                writer.finish();
            }
        });
        Self::Chunks(chunks)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Whole((!text.is_empty()).then(|| text.into()))
    }
}

impl Body for Text {
    type Data = Bytes;
    type Error = Unfinished;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        match &mut *self {
            Self::Whole(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Chunks(chunks) => chunks.poll_recv(context).map(|chunk| match chunk {
                Some(Some(chunk)) => Some(Ok(Frame::data(chunk))),
                Some(None) => None,
                None => Some(Err(Unfinished)),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(text) => {
                let length = text.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(length as u64)
            }
            Self::Chunks(_) => SizeHint::default(),
        }
    }
}

/// Sends what is written to it, chunk by chunk. It waits for the reader, and meanwhile it is
/// another's turn.
struct ChunkWriter {
    buffer: String,
    sender: mpsc::Sender<Option<Bytes>>,
    turns: Turns,
    turn: Option<Turn>,
    runtime: Handle,
}

impl ChunkWriter {
    fn send(&mut self) -> fmt::Result {
        self.turn = None;
        let chunk = Bytes::copy_from_slice(self.buffer.as_bytes());
        self.buffer.clear();
        // The reader has gone, or was sent away.
        let sent = self.sender.blocking_send(Some(chunk));
        sent.map_err(|_| fmt::Error)
    }

    /// Sends the rest, and that it was the last.
    fn finish(mut self) {
        if self.send().is_ok() {
            let _ = self.sender.blocking_send(None);
        }
    }
}

impl fmt::Write for ChunkWriter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.buffer.len() + text.len() > CHUNK {
            self.send()?;
            self.turn = Some(self.turns.wait(&self.runtime));
        }
        self.buffer.push_str(text);
        Ok(())
    }
}
