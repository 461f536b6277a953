//! A client's connection with a guard around it, as a server of HTTP/1 reads it.

mod targets;
mod upgrade;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::ahead::{ClientEnd, UnreadBytes};
use crate::deadline::HeadDeadline;
use crate::guard::{Guard, Refused};
use crate::handle::GuardHandle;
use crate::interim::InterimWriter;
use crate::limits::Limits;
use crate::linger::Linger;
use crate::refusal::Refusal;
use crate::status_line::{Next, StatusLine};

/// What the server reads in place of a refused head. At no place of a head does NUL belong,
/// and the empty line ends the head for whoever waits for its end.
const NO_REQUEST: &[u8] = b"\0\r\n\r\n";

/// A client's connection, of which a server of HTTP/1 reads only what the guard let pass.
///
/// Requests before a refused one are read, and answered, as if nothing had happened. Where
/// the refused one begins the server reads bytes that are no request: it answers with the
/// status of the refusal, and closes. A refusal inside a body that the server reads already
/// fails its reads with an error that holds the [`Refusal`]; how that is answered is up to
/// whoever reads the body.
///
/// The server must answer what is no request with 400, in its turn, and close, and it must
/// not read on while a response is under way. hyper's does, with `half_close(true)`. With its
/// `pipeline_flush` it doesn't: that writes nothing while unread bytes are there, neither the
/// response to them nor those before it.
#[derive(Debug)]
pub struct GuardedStream<S> {
    inner: S,
    guard: Guard,
    handle: GuardHandle,
    reading: Reading,
    /// Bytes of the client behind a request for an upgrade, which the server may not read
    /// before its answer.
    ahead: BytesMut,
    /// How many of them are read at most.
    longest_ahead: usize,
    /// Bytes that passed and that the server's buffer had no room for: encoding makes more of them.
    passed: BytesMut,
    /// Bytes that came while the server read nothing.
    unread: UnreadBytes,
    /// Of the head that has begun.
    deadline: HeadDeadline,
    /// The server has read a whole request and nothing since: its response is under way.
    is_paused: bool,
    /// Number of the request whose body was last seen to come without a response of 100, which
    /// it expects.
    unasked_body_of: u64,
    interim: InterimWriter,
    /// Once the server has closed, and the client still sends.
    linger: Option<Linger>,
    /// The status line of the response to a refused head, where it isn't the server's.
    status_line: Option<StatusLine>,
}

/// What the server reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reading {
    /// What the guard lets pass.
    Requests,
    /// Another protocol: whatever the client sends.
    Upgraded,
    /// So much of [`NO_REQUEST`], as the head that follows, or has begun, is refused.
    NoRequest(Refusal, &'static [u8]),
    /// An error, as the rest of the body is refused.
    Failure(Refusal),
}

impl<S> GuardedStream<S> {
    /// Puts a guard around a connection on which nothing was read yet.
    pub fn new(inner: S, limits: Limits) -> (Self, GuardHandle) {
        let handle = GuardHandle::default();
        let stream = Self {
            inner,
            guard: Guard::new(limits),
            handle: handle.clone(),
            reading: Reading::Requests,
            ahead: BytesMut::new(),
            longest_ahead: limits.ahead_of_upgrade_bytes,
            passed: BytesMut::new(),
            unread: UnreadBytes::new(limits.ahead_of_response_bytes),
            deadline: HeadDeadline::new(limits.head_time),
            is_paused: false,
            unasked_body_of: 0,
            interim: InterimWriter::default(),
            linger: None,
            status_line: None,
        };
        (stream, handle)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GuardedStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.is_paused = false;
        if this.give_passed(buffer) {
            return Poll::Ready(Ok(()));
        }
        loop {
            let step = match this.reading {
                Reading::Requests if this.guard.awaits_upgrade() => this.poll_upgrade(context),
                Reading::Requests => this.poll_requests(context, buffer),
                Reading::Upgraded => return this.poll_upgraded(context, buffer),
                Reading::NoRequest(refusal, rest) => {
                    this.give_no_request(buffer, refusal, rest);
                    return Poll::Ready(Ok(()));
                }
                Reading::Failure(refusal) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, refusal);
                    return Poll::Ready(Err(error));
                }
            };
            if ready!(step)? == Step::Over {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// What a step of reading came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// The server's read is over, with bytes or with the client's end.
    Over,
    /// There is nothing for the server yet, but something else to look at.
    Again,
}

impl<S: AsyncRead + Unpin> GuardedStream<S> {
    /// Reads what the guard lets pass, straight into the server's buffer.
    fn poll_requests(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Step>> {
        let before = buffer.filled().len();
        let Poll::Ready(read) = self.unread.poll_read(&mut self.inner, context, buffer) else {
            return self.poll_silence(context);
        };
        read?;
        let is_end = buffer.filled().len() == before;
        self.inspect(buffer, before);
        self.handle.set_unserved(self.guard.unserved());
        self.note_pause();
        let is_something = buffer.filled().len() > before;
        Poll::Ready(Ok(match is_end || is_something {
            true => Step::Over,
            false => Step::Again,
        }))
    }

    /// Nothing has come: a head that has begun has only so much time. The server has taken
    /// everything else that it had.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Step>> {
        self.guard.all_served();
        self.handle.set_unserved(self.guard.unserved());
        let has_begun = self.guard.unfinished_head() > 0;
        let head = has_begun.then(|| self.guard.requests());
        ready!(self.deadline.poll_over(head, context));
        self.refuse_head(Refusal::HeadTimeout);
        Poll::Ready(Ok(Step::Again))
    }

    /// Inspects what was read behind the first `before` bytes of `buffer`, and takes back
    /// what the server may not have.
    fn inspect(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        // The server has the head of this body already.
        let is_in_body = self.guard.is_in_body();
        let bytes = &buffer.filled()[before..];
        match self.guard.inspect(bytes) {
            Ok(taken) => {
                self.ahead.extend_from_slice(&bytes[taken..]);
                buffer.set_filled(before + taken);
                self.encode_targets(buffer, before);
                self.decide_answered_upgrade();
            }
            Err(Refused { complete, refusal }) => {
                buffer.set_filled(before + complete);
                self.encode_targets(buffer, before);
                match is_in_body && complete == 0 {
                    true => self.refuse_body(refusal),
                    false => self.refuse_head(refusal),
                }
            }
        }
    }

    fn refuse_head(&mut self, refusal: Refusal) {
        self.handle.refuse(refusal);
        self.handle.set_unserved(0);
        self.reading = Reading::NoRequest(refusal, NO_REQUEST);
    }

    fn refuse_body(&mut self, refusal: Refusal) {
        self.handle.refuse(refusal);
        self.reading = Reading::Failure(refusal);
    }

    /// Gives the server what is left of [`NO_REQUEST`], in a read of its own: it looks at it
    /// only when everything before is answered, and writes nothing else from then on.
    fn give_no_request(&mut self, buffer: &mut ReadBuf<'_>, refusal: Refusal, rest: &'static [u8]) {
        let (now, later) = rest.split_at(rest.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.reading = Reading::NoRequest(refusal, later);
        if rest.len() == NO_REQUEST.len() {
            self.status_line = StatusLine::instead_of_400(refusal.status());
        }
    }
}

impl<S: AsyncRead + Unpin> GuardedStream<S> {
    /// Whether the server will read on is up to its response from here on.
    fn note_pause(&mut self) {
        let awaits_continue = self.guard.awaits_continue();
        let is_between = self.guard.requests() > 0 && !self.guard.is_in_body();
        self.is_paused = is_between || awaits_continue;
        let is_unasked = self.guard.has_unasked_body();
        if awaits_continue || (is_unasked && self.unasked_body_of != self.guard.requests()) {
            self.set_unasked_body(is_unasked);
        }
    }

    fn set_unasked_body(&mut self, has_come: bool) {
        self.unasked_body_of = if has_come { self.guard.requests() } else { 0 };
        self.interim.skips_continue = has_come;
        self.handle.set_unasked_body(has_come);
    }

    /// Notes the client's end, which a server that waits for its own response doesn't see.
    fn watch_client(&mut self, context: &mut Context<'_>) {
        let mut end = match self.guard.awaits_upgrade() {
            true => self.poll_ahead(context).map(|end| match end {
                Ok(()) => ClientEnd::Finished,
                Err(_) => ClientEnd::Broken,
            }),
            false => self.unread.poll_end(&mut self.inner, context),
        };
        if self.guard.awaits_continue() {
            if !self.unread.is_empty() {
                self.is_paused = false;
                return self.set_unasked_body(true);
            }
            // Nobody waits for the response to half a request.
            end = end.map(|_| ClientEnd::Broken);
        }
        if let Poll::Ready(end) = end {
            self.is_paused = false;
            self.handle.end(end);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for GuardedStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.decide_before_response(context)?;
        if let skipped @ 1.. = ready!(this.poll_interim(context, bytes))? {
            return Poll::Ready(Ok(skipped));
        }
        match this.status_line {
            Some(line) => this.poll_write_last(context, bytes, line),
            None => Pin::new(&mut this.inner).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.decide_before_response(context)?;
        let head = slices.iter().find(|slice| !slice.is_empty());
        let head = head.map_or(&[][..], |head| head);
        if let skipped @ 1.. = ready!(this.poll_interim(context, head))? {
            return Poll::Ready(Ok(skipped));
        }
        let Some(line) = this.status_line else {
            return Pin::new(&mut this.inner).poll_write_vectored(context, slices);
        };
        // The line is in the last slice: those before it belong to other responses.
        let mut slices = slices.iter().filter(|slice| !slice.is_empty());
        let first = slices.next().map_or(&[][..], |slice| slice);
        match slices.next() {
            Some(_) => Pin::new(&mut this.inner).poll_write(context, first),
            None => this.poll_write_last(context, first, line),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// Servers flush whenever they look at a connection: what they don't read is looked at
    /// then.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_paused && this.reading == Reading::Requests {
            this.watch_client(context);
        }
        if this.reading == Reading::Requests {
            let (interim, stream) = (&mut this.interim, &mut this.inner);
            ready!(interim.poll_flush(stream, &this.handle, context))?;
        }
        Pin::new(&mut this.inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            let is_refused = matches!(this.reading, Reading::NoRequest(..) | Reading::Failure(_));
            ready!(Pin::new(&mut this.inner).poll_shutdown(context))?;
            if !is_refused && !this.guard.is_in_body() {
                return Poll::Ready(Ok(()));
            }
        }
        let (stream, unread) = (&mut this.inner, &mut this.unread);
        let linger = this.linger.get_or_insert_with(Linger::begin);
        linger.poll_over(stream, unread, context).map(Ok)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> GuardedStream<S> {
    /// Decides an upgrade, if one is awaited, before its response is written.
    fn decide_before_response(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.reading == Reading::Requests && self.guard.awaits_upgrade() {
            let _ = self.poll_upgrade(context)?;
        }
        Ok(())
    }

    /// Writes interim responses before the server's next bytes; how many of these are passed
    /// over.
    fn poll_interim(&mut self, context: &mut Context<'_>, next: &[u8]) -> Poll<io::Result<usize>> {
        if self.reading != Reading::Requests {
            return Poll::Ready(Ok(0));
        }
        let (interim, stream) = (&mut self.interim, &mut self.inner);
        interim.poll_before_write(stream, &self.handle, context, next)
    }

    /// Writes the last bytes that the server has, with another status line in them.
    fn poll_write_last(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
        mut line: StatusLine,
    ) -> Poll<io::Result<usize>> {
        loop {
            let (part, exchanged) = match line.next(bytes) {
                Next::Write(part) => return Pin::new(&mut self.inner).poll_write(context, part),
                Next::Exchange(part, exchanged) => (part, exchanged),
            };
            let written = ready!(Pin::new(&mut self.inner).poll_write(context, part))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if written == part.len() {
                self.status_line = None;
                return Poll::Ready(Ok(exchanged));
            }
            line.advance(written);
            self.status_line = Some(line);
        }
    }
}
