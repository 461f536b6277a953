//! Which bytes of a connection belong to which request, and whether they pass.

#[cfg(test)]
mod tests;

use crate::chunks::Chunks;
use crate::head::{self, Framing, Head};
use crate::limits::Limits;
use crate::lines::Lines;
use crate::refusal::Refusal;

/// Follows the requests of one connection. Feed it every byte, in reads of any size:
/// the verdict does not depend on where they were cut.
#[derive(Debug, Default)]
pub struct Guard {
    limits: Limits,
    stage: Stage,
    lines: Lines,
    head: Head,
    /// Bytes of this head, or of these trailers, so far.
    length: usize,
    /// Field lines of this section so far.
    fields: usize,
    requests: u64,
}

/// What the next byte is part of.
#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    #[default]
    RequestLine,
    Fields,
    Body(u64),
    Chunks(Chunks),
    Trailers,
    /// Of whatever protocol the answer to an upgrade decides.
    Undecided,
    Refused(Refusal),
}

/// A refusal, and how much came before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refused {
    /// How many of the bytes fed belong to requests that are complete.
    pub complete: usize,
    /// Why what follows them is refused.
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

    /// Looks at the next bytes of the connection and gives back how many it took: all,
    /// unless a request for an upgrade ended among them. What is behind it must wait
    /// until its answer is known.
    ///
    /// # Errors
    /// When they are refused; everything that follows is refused too.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, Refused> {
        let (mut used, mut complete) = (0, 0);
        while used < bytes.len() && !matches!(self.stage, Stage::Undecided) {
            match self.step(&bytes[used..]) {
                Ok(step) => used += step,
                Err(refusal) => {
                    self.stage = Stage::Refused(refusal);
                    return Err(Refused { complete, refusal });
                }
            }
            if self.is_between_requests() {
                complete = used;
            }
        }
        Ok(used)
    }

    /// How many heads were complete so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Whether the head of a request is complete and its body is not.
    #[must_use]
    pub fn is_in_body(&self) -> bool {
        matches!(
            self.stage,
            Stage::Body(_) | Stage::Chunks(_) | Stage::Trailers
        )
    }

    /// Whether the last request asked for an upgrade, so that nothing more is taken
    /// until [`Guard::upgrade_refused`].
    #[must_use]
    pub fn is_undecided(&self) -> bool {
        matches!(self.stage, Stage::Undecided)
    }

    /// Whether the upgrade that the last request asked for is a tunnel.
    #[must_use]
    pub fn asked_for_tunnel(&self) -> bool {
        self.head.is_connect()
    }

    /// The upgrade was not granted: requests follow.
    pub fn upgrade_refused(&mut self) {
        if self.is_undecided() {
            self.stage = Stage::RequestLine;
        }
    }

    fn is_between_requests(&self) -> bool {
        self.is_undecided() || (matches!(self.stage, Stage::RequestLine) && self.length == 0)
    }

    /// Takes some of the bytes, at least one.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        match &mut self.stage {
            Stage::RequestLine => self.request_line(bytes),
            Stage::Fields => self.field(bytes),
            Stage::Body(left) => {
                let part = usize::try_from(*left).map_or(bytes.len(), |n| n.min(bytes.len()));
                *left -= part as u64;
                if *left == 0 {
                    self.end_message();
                }
                Ok(part)
            }
            Stage::Chunks(chunks) => {
                let (used, last) = chunks.feed(bytes, self.limits.chunk_line_bytes)?;
                if last {
                    (self.stage, self.length, self.fields) = (Stage::Trailers, 0, 0);
                }
                Ok(used)
            }
            Stage::Trailers => self.trailer(bytes),
            // Never asked, but a length of zero would never end.
            Stage::Undecided => Ok(bytes.len()),
            Stage::Refused(refusal) => Err(*refusal),
        }
    }

    fn request_line(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let room = self.limits.request_line_bytes.saturating_sub(self.length);
        let line = self.lines.next(bytes, room, Refusal::RequestLineTooLong)?;
        let Some(line) = line else {
            return Ok(bytes.len());
        };
        self.length += line.length;
        // Empty lines before a request are skipped (RFC 9112 section 2.2).
        if !line.text.is_empty() {
            self.head.begin(line.text)?;
            (self.stage, self.fields) = (Stage::Fields, 0);
        }
        Ok(line.used)
    }

    fn field(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let room = self.limits.head_bytes.saturating_sub(self.length);
        let line = self.lines.next(bytes, room, Refusal::HeadTooLarge)?;
        let Some(line) = line else {
            return Ok(bytes.len());
        };
        self.length += line.length;
        let used = line.used;
        if !line.text.is_empty() {
            self.fields += 1;
            if self.fields > self.limits.fields {
                return Err(Refusal::TooManyFields);
            }
            self.head.field(line.text)?;
            return Ok(used);
        }
        let framing = self.head.end()?;
        self.requests += 1;
        match framing {
            Framing::Empty => self.end_message(),
            Framing::Length(length) => self.stage = Stage::Body(length),
            Framing::Chunked => self.stage = Stage::Chunks(Chunks::default()),
        }
        Ok(used)
    }

    fn trailer(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let room = self
            .limits
            .trailer_section_bytes
            .saturating_sub(self.length);
        let line = self.lines.next(bytes, room, Refusal::TrailersTooLarge)?;
        let Some(line) = line else {
            return Ok(bytes.len());
        };
        self.length += line.length;
        let used = line.used;
        if line.text.is_empty() {
            self.end_message();
        } else {
            self.fields += 1;
            if self.fields > self.limits.fields {
                return Err(Refusal::TrailersTooLarge);
            }
            head::trailer(line.text)?;
        }
        Ok(used)
    }

    fn end_message(&mut self) {
        self.length = 0;
        self.stage = if self.head.asks_for_upgrade() {
            Stage::Undecided
        } else {
            Stage::RequestLine
        };
    }
}
