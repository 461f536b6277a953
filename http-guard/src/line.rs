//! Lines of a head or a trailer section, whole in one read or put together from several
//! (RFC 9112 section 2.2).

use memchr::{memchr, memchr2};

use crate::refusal::Refusal;

/// Capacity that is kept from one section to the next.
const KEPT_CAPACITY: usize = 4 * 1024;

/// Reads the lines of one section after the other, and counts a section's bytes. A line
/// that lies within one read is not copied.
#[derive(Debug, Default)]
pub(crate) struct LineReader {
    /// The beginning of a line whose end is in a read to come.
    partial: Vec<u8>,
    /// The line in `partial` was completed and given away: the next begins.
    partial_is_complete: bool,
    /// Bytes of the complete lines of this section.
    section_bytes: usize,
}

/// A line that ended in a read.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// The line without its CRLF.
    pub(crate) text: &'a [u8],
    /// How many bytes of the read are of it, its CRLF included.
    pub(crate) taken: usize,
}

impl LineReader {
    /// Whether nothing of this section was read yet.
    pub(crate) fn is_at_start(&self) -> bool {
        self.section_bytes == 0 && (self.partial.is_empty() || self.partial_is_complete)
    }

    /// Bytes of the line that has begun and not ended.
    pub(crate) fn unfinished_line(&self) -> usize {
        match self.partial_is_complete {
            true => 0,
            false => self.partial.len(),
        }
    }

    /// Bytes of the section so far.
    pub(crate) fn section_bytes(&self) -> usize {
        self.section_bytes + self.unfinished_line()
    }

    /// Begins another section.
    pub(crate) fn start_section(&mut self) {
        self.section_bytes = 0;
    }

    /// Gives back the line that ends in `bytes`, or `None` after taking all of them as the
    /// beginning of one. A section of more than `limit` bytes is refused with `too_large`.
    pub(crate) fn next_line<'a>(
        &'a mut self,
        bytes: &'a [u8],
        limit: usize,
        too_large: Refusal,
    ) -> Result<Option<Line<'a>>, Refusal> {
        if self.partial_is_complete {
            self.partial.clear();
            self.partial.shrink_to(KEPT_CAPACITY);
            self.partial_is_complete = false;
        }
        let line_feed = memchr(b'\n', bytes);
        let taken = line_feed.map_or(bytes.len(), |at| at + 1);
        let length = self.partial.len() + taken;
        if length > limit.saturating_sub(self.section_bytes) {
            return Err(too_large);
        }
        let line = if self.partial.is_empty() && line_feed.is_some() {
            &bytes[..taken]
        } else {
            self.partial.extend_from_slice(&bytes[..taken]);
            if line_feed.is_none() {
                return Ok(None);
            }
            self.partial_is_complete = true;
            &self.partial[..]
        };
        self.section_bytes += length;
        let text = text_of(line)?;
        Ok(Some(Line { text, taken }))
    }
}

/// A line's text: the line ends with CRLF, and holds no other CR and no NUL.
fn text_of(line: &[u8]) -> Result<&[u8], Refusal> {
    let text = line.strip_suffix(b"\r\n").ok_or(Refusal::BareLf)?;
    match memchr2(b'\r', b'\0', text).map(|at| text[at]) {
        None => Ok(text),
        Some(b'\r') => Err(Refusal::BareCr),
        Some(_) => Err(Refusal::Nul),
    }
}
