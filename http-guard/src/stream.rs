//! A connection with a guard around it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::guard::{Guard, Refused};
use crate::limits::Limits;
use crate::refusal::Refusal;

/// Bytes of a refused client that are read and forgotten before its connection closes.
const LARGEST_DISCARD: usize = 256 * 1024;

/// What the parser reads instead of a refused head. At no place of a head does NUL
/// belong, and the empty line ends the head for whoever waits for its end.
const NO_REQUEST: &[u8] = b"\0\r\n\r\n";
/// How the parser begins to answer that.
const PARSERS_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request";

/// A connection of a client, as the HTTP/1 server reads it.
///
/// Requests before a refused one are read, and answered, as if nothing had happened.
/// Where the refused one begins the server finds bytes that are none; it answers with
/// the refusal's status and closes. A refusal inside a body that the server is reading
/// already makes its reads fail with an error that holds the [`Refusal`].
///
/// Not for a server with hyper's `pipeline_flush`: it writes nothing while unread bytes
/// are there, neither the refusal's answer nor those before it.
#[derive(Debug)]
pub struct GuardedStream<S> {
    inner: S,
    guard: Guard,
    mode: Mode,
    /// Read, but not to be given away before an upgrade is decided.
    held: BytesMut,
    ahead_of_upgrade_bytes: usize,
    shared: Arc<Shared>,
}

/// How reads are answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    /// The guard looks at them.
    Checking,
    /// Another protocol is spoken.
    PassThrough,
    /// The head that began is refused; so much of [`NO_REQUEST`] is left.
    NoRequest(&'static [u8], Answer),
    /// The body is refused.
    Failed(Refusal),
}

/// The answer to a refused head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    /// The parser's own fits.
    Fits,
    /// Its status line is to become this one.
    Replace(&'static [u8]),
    /// So much of it is left to write.
    Writing(&'static [u8]),
}

/// What the connection's owner has of it while the server has the connection.
#[derive(Clone, Debug)]
pub struct GuardHandle {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    refusal: OnceLock<Refusal>,
    answers: AtomicU64,
    last_status: AtomicU16,
    /// Who reads while an upgrade is undecided.
    reader: Mutex<Option<Waker>>,
}

impl GuardHandle {
    /// Why the connection was refused, if it was.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.shared.refusal.get().copied()
    }

    /// To be called once for each request's final answer, before the server gets it.
    /// After 101, or a success to CONNECT, bytes are not looked at any more.
    pub fn response_decided(&self, status: StatusCode) {
        self.shared
            .last_status
            .store(status.as_u16(), Ordering::Relaxed);
        self.shared.answers.fetch_add(1, Ordering::Release);
        let mut reader = self
            .shared
            .reader
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = reader.take() {
            reader.wake();
        }
    }
}

impl<S> GuardedStream<S> {
    /// Puts a guard around a connection on which nothing was read yet.
    pub fn new(inner: S, limits: Limits) -> (Self, GuardHandle) {
        let shared = Arc::new(Shared::default());
        let guarded = Self {
            inner,
            guard: Guard::new(limits),
            ahead_of_upgrade_bytes: limits.ahead_of_upgrade_bytes,
            mode: Mode::Checking,
            held: BytesMut::new(),
            shared: Arc::clone(&shared),
        };
        (guarded, GuardHandle { shared })
    }

    /// The connection itself, with what was read from it and not given away.
    pub fn into_parts(self) -> (S, Bytes) {
        (self.inner, self.held.freeze())
    }

    /// Whether the last request's upgrade was granted; `None` before its answer.
    fn upgraded(&self) -> Option<bool> {
        // Nothing behind the request was given away, so the last answer is its own.
        if self.shared.answers.load(Ordering::Acquire) < self.guard.requests() {
            return None;
        }
        let status = self.shared.last_status.load(Ordering::Relaxed);
        Some(match self.guard.asked_for_tunnel() {
            true => (200..300).contains(&status),
            false => status == StatusCode::SWITCHING_PROTOCOLS.as_u16(),
        })
    }

    /// The next head is refused.
    fn refuse_head(&mut self, refusal: Refusal) {
        let _ = self.shared.refusal.set(refusal);
        let answer = match refusal.status() {
            StatusCode::URI_TOO_LONG => Answer::Replace(b"HTTP/1.1 414 URI Too Long"),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                Answer::Replace(b"HTTP/1.1 431 Request Header Fields Too Large")
            }
            _ => Answer::Fits,
        };
        self.mode = Mode::NoRequest(NO_REQUEST, answer);
    }

    /// Lets the guard look at what was read behind the first `before` bytes, and takes
    /// back what must not be given away.
    fn check(&mut self, buffer: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let in_body = self.guard.is_in_body();
        match self.guard.feed(&buffer.filled()[before..]) {
            Ok(used) => {
                self.held
                    .extend_from_slice(&buffer.filled()[before + used..]);
                buffer.set_filled(before + used);
            }
            Err(Refused {
                complete: 0,
                refusal,
            }) if in_body => {
                buffer.set_filled(before);
                let _ = self.shared.refusal.set(refusal);
                self.mode = Mode::Failed(refusal);
                return Err(failure(refusal));
            }
            Err(Refused { complete, refusal }) => {
                buffer.set_filled(before + complete);
                self.refuse_head(refusal);
                self.give_no_request(buffer);
            }
        }
        Ok(())
    }

    fn give_no_request(&mut self, buffer: &mut ReadBuf<'_>) {
        if let Mode::NoRequest(left, _) = &mut self.mode {
            let (now, later) = left.split_at(left.len().min(buffer.remaining()));
            buffer.put_slice(now);
            *left = later;
        }
    }
}

fn failure(refusal: Refusal) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, refusal)
}

impl<S: AsyncRead + Unpin> GuardedStream<S> {
    /// Waits for the answer to an upgrade. What arrives is held, so that a client that
    /// leaves is still noticed.
    fn poll_undecided(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Undecided>> {
        let mut reader = self
            .shared
            .reader
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *reader = Some(context.waker().clone());
        drop(reader);
        match self.upgraded() {
            Some(true) => {
                self.mode = Mode::PassThrough;
                return Poll::Ready(Ok(Undecided::Decided));
            }
            Some(false) => {
                self.guard.upgrade_refused();
                if !self.held.is_empty() {
                    self.held.clear();
                    self.refuse_head(Refusal::AheadOfUpgrade);
                }
                return Poll::Ready(Ok(Undecided::Decided));
            }
            None => {}
        }
        while self.held.len() < self.ahead_of_upgrade_bytes {
            let mut part = [0; 1024];
            let mut buffer = ReadBuf::new(&mut part);
            ready!(Pin::new(&mut self.inner).poll_read(context, &mut buffer))?;
            match buffer.filled() {
                [] if self.held.is_empty() => return Poll::Ready(Ok(Undecided::End)),
                [] => break,
                read => self.held.extend_from_slice(read),
            }
        }
        Poll::Pending
    }

    fn poll_checked(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        Poll::Ready(self.check(buffer, before))
    }
}

/// What came of waiting for the answer to an upgrade.
enum Undecided {
    Decided,
    /// The client left.
    End,
}

impl<S: AsyncRead + Unpin> AsyncRead for GuardedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.mode == Mode::Checking && this.guard.is_undecided() {
            match ready!(this.poll_undecided(context))? {
                Undecided::Decided => {}
                Undecided::End => return Poll::Ready(Ok(())),
            }
        }
        match this.mode {
            Mode::Checking => this.poll_checked(context, buffer),
            Mode::PassThrough if this.held.is_empty() => {
                Pin::new(&mut this.inner).poll_read(context, buffer)
            }
            Mode::PassThrough => {
                let part = this.held.len().min(buffer.remaining());
                buffer.put_slice(&this.held[..part]);
                this.held.advance(part);
                Poll::Ready(Ok(()))
            }
            Mode::NoRequest(..) => {
                this.give_no_request(buffer);
                Poll::Ready(Ok(()))
            }
            Mode::Failed(refusal) => Poll::Ready(Err(failure(refusal))),
        }
    }
}

impl<S: AsyncWrite + Unpin> GuardedStream<S> {
    /// Writes another status line in place of the parser's; ready with how many bytes of
    /// `bytes` that was for, or with `None` when `bytes` are to be written themselves.
    fn poll_answer(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<Option<usize>>> {
        let Mode::NoRequest(_, answer) = &mut self.mode else {
            return Poll::Ready(Ok(None));
        };
        let mut line = match *answer {
            Answer::Replace(line) if bytes.starts_with(PARSERS_ANSWER) => line,
            Answer::Writing(line) => line,
            Answer::Fits | Answer::Replace(_) => return Poll::Ready(Ok(None)),
        };
        while !line.is_empty() {
            *answer = Answer::Writing(line);
            match ready!(Pin::new(&mut self.inner).poll_write(context, line))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => line = &line[written..],
            }
        }
        *answer = Answer::Fits;
        Poll::Ready(Ok(Some(PARSERS_ANSWER.len())))
    }
}

impl<S: AsyncRead + Unpin> GuardedStream<S> {
    /// Forgets what has arrived from a refused client: a close with unread bytes is a
    /// reset, which may overtake the answer (RFC 9112 section 9.6).
    fn discard(&mut self, context: &mut Context<'_>) {
        let mut discarded = 0;
        while matches!(self.mode, Mode::NoRequest(..)) && discarded < LARGEST_DISCARD {
            let mut part = [0; 4096];
            let mut buffer = ReadBuf::new(&mut part);
            let read = Pin::new(&mut self.inner).poll_read(context, &mut buffer);
            match (read, buffer.filled().len()) {
                (Poll::Ready(Ok(())), length @ 1..) => discarded += length,
                _ => return,
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for GuardedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(done) = ready!(self.poll_answer(context, bytes))? {
            return Poll::Ready(Ok(done));
        }
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        if let Some(first) = first
            && let Some(done) = ready!(self.poll_answer(context, first))?
        {
            return Poll::Ready(Ok(done));
        }
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.discard(context);
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
