//! The lines of a head, whole in one read or put together from several.

use memchr::{memchr, memchr2};

use crate::refusal::Refusal;

/// Capacity that is kept between heads.
const KEPT: usize = 4 * 1024;

/// Puts lines together. A line that lies within one read is not copied.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
    /// The partial line was completed and given away.
    given: bool,
}

/// What a read began with.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// The line without its CRLF.
    pub(crate) text: &'a [u8],
    /// Bytes that it has in all, with its CRLF.
    pub(crate) length: usize,
    /// How many of them are of this read.
    pub(crate) used: usize,
}

impl Lines {
    /// The line that ends in `bytes`, or `None` after taking all of them as the
    /// beginning of one. A line of more than `room` bytes is refused with `too_long`.
    pub(crate) fn next<'a>(
        &'a mut self,
        bytes: &'a [u8],
        room: usize,
        too_long: Refusal,
    ) -> Result<Option<Line<'a>>, Refusal> {
        if self.given {
            self.partial.clear();
            self.partial.shrink_to(KEPT);
            self.given = false;
        }
        let end = memchr(b'\n', bytes);
        let used = end.map_or(bytes.len(), |end| end + 1);
        if self.partial.len() + used > room {
            return Err(too_long);
        }
        let whole = if self.partial.is_empty() && end.is_some() {
            &bytes[..used]
        } else {
            self.partial.extend_from_slice(&bytes[..used]);
            if end.is_none() {
                return Ok(None);
            }
            self.given = true;
            &self.partial[..]
        };
        Ok(Some(Line {
            text: content(whole)?,
            length: whole.len(),
            used,
        }))
    }
}

/// A line's text, which ends with CRLF and holds no other CR and no NUL.
fn content(line: &[u8]) -> Result<&[u8], Refusal> {
    let text = line.strip_suffix(b"\r\n").ok_or(Refusal::BareLf)?;
    match memchr2(b'\r', b'\0', text).map(|at| text[at]) {
        None => Ok(text),
        Some(b'\r') => Err(Refusal::BareCr),
        Some(_) => Err(Refusal::Nul),
    }
}
