//! Follows the requests of one connection: which bytes belong to which request, and
//! whether they pass (RFC 9112 sections 2.1 and 6.3).

use http::StatusCode;

use crate::chunked::ChunkedBody;
use crate::framing::BodyLength;
use crate::head::{RequestHead, check_trailer_line};
use crate::limits::Limits;
use crate::line::LineReader;
use crate::refusal::Refusal;
use crate::request_line::RequestLine;
use crate::target::TargetEncoder;

/// Inspects the requests of one connection. Give it every byte that the client sends, in
/// reads of any size: what it says does not depend on where they were cut.
///
/// ```
/// use weft_http_guard::{Guard, Refusal};
///
/// let mut guard = Guard::default();
/// let request = b"POST /cart HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nok";
/// assert_eq!(guard.inspect(request), Ok(request.len()));
/// assert_eq!(guard.requests(), 1);
///
/// // One server takes the first length, the next one the other: what is one request for this
/// // one is two for that one.
/// let smuggling = b"POST /cart HTTP/1.1\r\nHost: shop\r\n\
///     Content-Length: 0\r\nContent-Length: 35\r\n\r\n\
///     GET /admin HTTP/1.1\r\nHost: shop\r\n\r\n";
/// let refused = guard.inspect(smuggling).unwrap_err();
/// assert_eq!(refused.refusal, Refusal::ContentLengthRepeated);
/// assert_eq!(refused.refusal.status(), 400);
/// ```
#[derive(Debug, Default)]
pub struct Guard {
    limits: Limits,
    position: Position,
    lines: LineReader,
    /// Field lines of this section so far.
    fields: usize,
    head: RequestHead,
    /// Bytes of this request's body have come.
    has_body_begun: bool,
    requests: u64,
    targets: TargetEncoder,
    /// Bytes of the last read behind the first head that ended in it.
    behind_head: usize,
}

/// What the next byte is part of.
#[derive(Clone, Copy, Debug, Default)]
enum Position {
    #[default]
    RequestLine,
    HeaderSection,
    /// A body of which so many bytes are to come.
    Body(u64),
    ChunkedBody(ChunkedBody),
    TrailerSection,
    /// Whatever the answer to an upgrade decides.
    BehindUpgrade,
    Refused(Refusal),
}

/// A refusal, and where it begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refused {
    /// How many of the inspected bytes belong to requests that are complete, and pass. What
    /// is behind them is refused.
    pub complete: usize,
    /// Why it is.
    pub refusal: Refusal,
}

impl Guard {
    /// A guard of a connection on which nothing was read yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Inspects the next bytes of the connection. Gives back how many it took: all, unless a
    /// request for an upgrade ended among them ([`Guard::awaits_upgrade`]). What is behind it
    /// must wait until its answer is known.
    ///
    /// # Errors
    /// When they are refused. Everything that follows is refused, too.
    pub fn inspect(&mut self, bytes: &[u8]) -> Result<usize, Refused> {
        let (mut taken, mut complete) = (0, 0);
        let (before, mut first_end) = (self.requests, None);
        self.targets.begin_read();
        while taken < bytes.len() && !self.awaits_upgrade() {
            match self.read_part(&bytes[taken..], taken) {
                Ok(part) => taken += part,
                Err(refusal) => {
                    self.position = Position::Refused(refusal);
                    return Err(Refused { complete, refusal });
                }
            }
            if self.is_between_requests() {
                complete = taken;
            }
            if self.requests > before {
                first_end.get_or_insert(taken);
            }
        }
        self.behind_head = first_end.map_or(0, |end| taken - end);
        Ok(taken)
    }

    /// Number of requests whose heads were complete so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Whether the head of a request is complete and its body is not.
    #[must_use]
    pub fn is_in_body(&self) -> bool {
        matches!(
            self.position,
            Position::Body(_) | Position::ChunkedBody(_) | Position::TrailerSection
        )
    }

    /// Whether the last request expects a response of 100 before its body, of which nothing has
    /// come yet.
    #[must_use]
    pub fn awaits_continue(&self) -> bool {
        self.is_in_body() && self.head.expects_continue() && !self.has_body_begun
    }

    /// Whether the last request expects that, and its body comes all the same.
    #[must_use]
    pub fn has_unasked_body(&self) -> bool {
        self.head.expects_continue() && self.has_body_begun
    }

    /// Whether the last request asked for an upgrade, so that nothing more is inspected
    /// until [`Guard::deny_upgrade`].
    #[must_use]
    pub fn awaits_upgrade(&self) -> bool {
        matches!(self.position, Position::BehindUpgrade)
    }

    /// Whether a final response with this status grants the upgrade that the last request
    /// asked for: the bytes behind it are of another protocol then, and none of a request.
    #[must_use]
    pub fn is_upgraded_by(&self, status: StatusCode) -> bool {
        match self.head.is_connect() {
            true => status.is_success(),
            false => status == StatusCode::SWITCHING_PROTOCOLS,
        }
    }

    /// The upgrade was not granted: requests follow.
    pub fn deny_upgrade(&mut self) {
        if self.awaits_upgrade() {
            self.position = Position::RequestLine;
        }
    }

    /// Bytes of a head that has begun and isn't complete; empty lines begin none.
    #[must_use]
    pub fn unfinished_head(&self) -> usize {
        match self.position {
            Position::RequestLine => self.lines.unfinished_line(),
            Position::HeaderSection => self.lines.section_bytes(),
            _ => 0,
        }
    }

    /// The server has begun with every request whose head is complete.
    pub(crate) fn all_served(&mut self) {
        self.behind_head = 0;
    }

    /// Bytes that were read and that no request is served of yet: of a head that isn't complete,
    /// here and with the server, or behind one that is.
    pub(crate) fn unserved(&self) -> usize {
        let of_head = match self.unfinished_head() {
            0 => 0,
            head => head + self.lines.unfinished_line(),
        };
        of_head.max(self.behind_head)
    }

    fn is_between_requests(&self) -> bool {
        match self.position {
            Position::RequestLine => self.lines.is_at_start(),
            Position::BehindUpgrade => true,
            _ => false,
        }
    }

    /// What of targets is encoded for the server.
    pub(crate) fn targets(&mut self) -> &mut TargetEncoder {
        &mut self.targets
    }

    /// Reads some of the bytes, at least one, which begin there in the read, and says how many.
    fn read_part(&mut self, bytes: &[u8], start: usize) -> Result<usize, Refusal> {
        match &mut self.position {
            Position::RequestLine => self.read_request_line(bytes, start),
            Position::HeaderSection => self.read_field_line(bytes),
            Position::Body(left) => {
                self.has_body_begun = true;
                let part = usize::try_from(*left).map_or(bytes.len(), |n| n.min(bytes.len()));
                *left -= part as u64;
                if *left == 0 {
                    self.end_request();
                }
                Ok(part)
            }
            Position::ChunkedBody(body) => {
                self.has_body_begun = true;
                let read = body.read(bytes, self.limits.chunk_line_bytes)?;
                if read.was_last {
                    self.position = Position::TrailerSection;
                    self.start_section();
                }
                Ok(read.taken)
            }
            Position::TrailerSection => self.read_trailer_line(bytes),
            // Not asked for, as nothing is inspected there; no part would never end.
            Position::BehindUpgrade => Ok(bytes.len()),
            Position::Refused(refusal) => Err(*refusal),
        }
    }

    fn read_request_line(&mut self, bytes: &[u8], start: usize) -> Result<usize, Refusal> {
        let (limit, too_large) = (self.limits.request_line_bytes, Refusal::RequestLineTooLong);
        let Some(line) = self.lines.next_line(bytes, limit, too_large)? else {
            self.targets.look_at(bytes, start);
            return Ok(bytes.len());
        };
        // Empty lines before a request are skipped (RFC 9112 section 2.2).
        if !line.text.is_empty() {
            let parsed = RequestLine::parse(line.text)?;
            self.head.begin(&parsed);
            self.position = Position::HeaderSection;
            self.targets.look_at(&bytes[..line.taken], start);
            self.targets.end_line(self.requests + 1, parsed.target);
        }
        Ok(line.taken)
    }

    fn read_field_line(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let (limit, too_large) = (self.limits.head_bytes, Refusal::HeadTooLarge);
        let Some(line) = self.lines.next_line(bytes, limit, too_large)? else {
            return Ok(bytes.len());
        };
        let taken = line.taken;
        if line.text.is_empty() {
            self.end_head()?;
            return Ok(taken);
        }
        self.fields += 1;
        if self.fields > self.limits.fields {
            return Err(Refusal::TooManyFields);
        }
        self.head.read_field_line(line.text)?;
        Ok(taken)
    }

    fn read_trailer_line(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let (limit, too_large) = (
            self.limits.trailer_section_bytes,
            Refusal::TrailerSectionTooLarge,
        );
        let Some(line) = self.lines.next_line(bytes, limit, too_large)? else {
            return Ok(bytes.len());
        };
        let taken = line.taken;
        if line.text.is_empty() {
            self.end_request();
            return Ok(taken);
        }
        self.fields += 1;
        if self.fields > self.limits.fields {
            return Err(Refusal::TrailerSectionTooLarge);
        }
        check_trailer_line(line.text)?;
        Ok(taken)
    }

    fn end_head(&mut self) -> Result<(), Refusal> {
        let body = self.head.end()?;
        self.requests += 1;
        self.has_body_begun = false;
        match body {
            BodyLength::Empty => self.end_request(),
            BodyLength::Bytes(length) => self.position = Position::Body(length),
            BodyLength::Chunked => self.position = Position::ChunkedBody(ChunkedBody::default()),
        }
        Ok(())
    }

    fn end_request(&mut self) {
        self.start_section();
        self.position = if self.head.asks_for_upgrade() {
            Position::BehindUpgrade
        } else {
            Position::RequestLine
        };
    }

    fn start_section(&mut self) {
        self.lines.start_section();
        self.fields = 0;
    }
}
