//! Chunked bodies (RFC 9112 section 7.1), followed without keeping anything of them.

use crate::chunk_extension::ChunkExtension;
use crate::refusal::Refusal;

/// Where in a chunked body the stream is, up to the line of the last chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChunkedBody {
    next: Next,
    /// The chunk's size as far as it was read, then how much of its data is left.
    size: u64,
    /// Bytes of the chunk's line: leading zeros are digits, and may not go on forever.
    line_bytes: usize,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Next {
    #[default]
    FirstDigit,
    /// Another digit, or what may follow the size.
    Digit,
    Extension(ChunkExtension),
    /// The LF that ends the chunk's line.
    LineFeed,
    Data,
    /// The CRLF that ends the data.
    DataCr,
    DataLf,
}

/// What came of reading some bytes of a chunked body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ChunksRead {
    /// How many bytes were taken.
    pub(crate) taken: usize,
    /// The last chunk's line was among them: the trailer section follows.
    pub(crate) was_last: bool,
}

impl ChunkedBody {
    /// Reads up to the end of `bytes`, or of the last chunk's line. A line before a chunk's
    /// data may have `longest_line` bytes.
    pub(crate) fn read(
        &mut self,
        bytes: &[u8],
        longest_line: usize,
    ) -> Result<ChunksRead, Refusal> {
        let mut taken = 0;
        while let Some(byte) = bytes.get(taken) {
            match self.next {
                Next::Data => {
                    taken += self.skip_data(bytes.len() - taken);
                    continue;
                }
                Next::DataCr if *byte == b'\r' => self.next = Next::DataLf,
                Next::DataLf if *byte == b'\n' => *self = Self::default(),
                Next::DataCr | Next::DataLf => return Err(Refusal::ChunkEnd),
                _ if self.line_bytes >= longest_line => return Err(Refusal::ChunkLineTooLong),
                _ => {
                    self.line_bytes += 1;
                    self.next = self.read_line_byte(*byte)?;
                }
            }
            taken += 1;
            if self.next == Next::Data && self.size == 0 {
                let was_last = true;
                return Ok(ChunksRead { taken, was_last });
            }
        }
        let was_last = false;
        Ok(ChunksRead { taken, was_last })
    }

    fn skip_data(&mut self, available: usize) -> usize {
        let part = usize::try_from(self.size).map_or(available, |size| size.min(available));
        self.size -= part as u64;
        if self.size == 0 {
            self.next = Next::DataCr;
        }
        part
    }

    /// Reads a byte of the line before a chunk's data: `size [ extensions ] CRLF`.
    fn read_line_byte(&mut self, byte: u8) -> Result<Next, Refusal> {
        match (self.next, byte) {
            (Next::FirstDigit | Next::Digit, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.add_digit(byte)?;
                Ok(Next::Digit)
            }
            (Next::Digit, b';') => Ok(Next::Extension(ChunkExtension::BeforeName)),
            (Next::Digit, b'\r') => Ok(Next::LineFeed),
            (Next::FirstDigit | Next::Digit, _) => Err(Refusal::ChunkSize),
            (Next::Extension(extension), b'\r') if extension.may_end() => Ok(Next::LineFeed),
            (Next::Extension(extension), _) => match extension.next(byte) {
                Some(extension) => Ok(Next::Extension(extension)),
                None => Err(Refusal::ChunkExtension),
            },
            (Next::LineFeed, b'\n') => Ok(Next::Data),
            _ => Err(Refusal::ChunkLineEnd),
        }
    }

    fn add_digit(&mut self, byte: u8) -> Result<(), Refusal> {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        let size = self.size.checked_mul(16).zip(digit);
        let (high, low) = size.ok_or(Refusal::ChunkSize)?;
        self.size = high | low;
        Ok(())
    }
}
