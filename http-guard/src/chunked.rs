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
                    if self.next == Next::Data && self.size == 0 {
                        return Ok(ChunksRead {
                            taken: taken + 1,
                            was_last: true,
                        });
                    }
                }
            }
            taken += 1;
        }
        Ok(ChunksRead {
            taken,
            was_last: false,
        })
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
        match self.next {
            Next::FirstDigit | Next::Digit => self.read_size_byte(byte),
            Next::Extension(extension) if byte == b'\r' && extension.may_end() => {
                Ok(Next::LineFeed)
            }
            Next::Extension(extension) => match extension.next(byte) {
                Some(extension) => Ok(Next::Extension(extension)),
                None => Err(Refusal::ChunkExtension),
            },
            Next::LineFeed if byte == b'\n' => Ok(Next::Data),
            _ => Err(Refusal::ChunkLineEnd),
        }
    }

    fn read_size_byte(&mut self, byte: u8) -> Result<Next, Refusal> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            // The highest digit would be lost.
            if self.size >> 60 != 0 {
                return Err(Refusal::ChunkSize);
            }
            self.size = self.size << 4 | u64::from(digit);
            return Ok(Next::Digit);
        }
        match byte {
            b';' if self.next == Next::Digit => Ok(Next::Extension(ChunkExtension::BeforeName)),
            b'\r' if self.next == Next::Digit => Ok(Next::LineFeed),
            _ => Err(Refusal::ChunkSize),
        }
    }
}
