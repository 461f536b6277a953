//! Chunks (RFC 9112 section 7.1), followed without keeping anything of them.

use memchr::memchr3;

use crate::refusal::Refusal;

/// Where in a chunked body the stream is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chunks {
    part: Part,
    /// The size as far as it was read, then what is left of the chunk.
    size: u64,
    /// Bytes of this chunk's line.
    line: usize,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Part {
    #[default]
    FirstDigit,
    Size,
    Extension,
    LineEnd,
    Data,
    DataCr,
    DataLf,
}

impl Chunks {
    /// Follows chunks; gives back how many bytes it took, and whether the last chunk's
    /// line was among them. Trailers follow then.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        longest_line: usize,
    ) -> Result<(usize, bool), Refusal> {
        let mut used = 0;
        while let Some(byte) = bytes.get(used) {
            match self.part {
                Part::Data => {
                    let left = bytes.len() - used;
                    let part = usize::try_from(self.size).map_or(left, |size| size.min(left));
                    self.size -= part as u64;
                    used += part;
                    if self.size == 0 {
                        self.part = Part::DataCr;
                    }
                    continue;
                }
                Part::Extension => {
                    used += self.extension(&bytes[used..], longest_line)?;
                    continue;
                }
                Part::FirstDigit | Part::Size => self.digit(*byte, longest_line)?,
                Part::LineEnd if *byte != b'\n' => return Err(Refusal::ChunkLine),
                Part::LineEnd if self.size == 0 => return Ok((used + 1, true)),
                Part::LineEnd => self.part = Part::Data,
                Part::DataCr if *byte == b'\r' => self.part = Part::DataLf,
                Part::DataLf if *byte == b'\n' => *self = Self::default(),
                Part::DataCr | Part::DataLf => return Err(Refusal::ChunkEnd),
            }
            used += 1;
        }
        Ok((used, false))
    }

    fn digit(&mut self, byte: u8, longest_line: usize) -> Result<(), Refusal> {
        self.line += 1;
        self.part = match (char::from(byte).to_digit(16), byte) {
            (Some(_), _) if self.size >> 60 != 0 => return Err(Refusal::ChunkSize),
            (Some(digit), _) => {
                self.size = self.size << 4 | u64::from(digit);
                Part::Size
            }
            (None, _) if self.part == Part::FirstDigit => return Err(Refusal::ChunkSize),
            (None, b';') => Part::Extension,
            (None, b'\r') => Part::LineEnd,
            (None, _) => return Err(Refusal::ChunkSize),
        };
        self.check_line(longest_line)
    }

    fn extension(&mut self, bytes: &[u8], longest_line: usize) -> Result<usize, Refusal> {
        let end = memchr3(b'\r', b'\n', b'\0', bytes);
        let used = end.map_or(bytes.len(), |end| end + 1);
        self.line = self.line.saturating_add(used);
        self.check_line(longest_line)?;
        match end.map(|end| bytes[end]) {
            None => {}
            Some(b'\r') => self.part = Part::LineEnd,
            Some(_) => return Err(Refusal::ChunkLine),
        }
        Ok(used)
    }

    /// Leading zeros are digits too: they may not go on forever.
    fn check_line(&self, longest_line: usize) -> Result<(), Refusal> {
        if self.line > longest_line {
            return Err(Refusal::ChunkLine);
        }
        Ok(())
    }
}
