//! Frames (RFC 6455 section 5).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest payload that is taken.
const LONGEST: u64 = 16 * 1024 * 1024;

/// What a frame is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Opcode {
    /// More of the message before.
    Continuation,
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
    /// The end.
    Close,
    /// To be answered.
    Ping,
    /// The answer.
    Pong,
}

/// One frame, unmasked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Frame {
    /// What it is.
    pub(super) opcode: Opcode,
    /// Whether the message ends with it.
    pub(super) last: bool,
    /// What it carries.
    pub(super) payload: Vec<u8>,
}

impl Opcode {
    fn of(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }
}

impl Frame {
    /// A message of one frame.
    pub(super) fn message(opcode: Opcode, payload: Vec<u8>) -> Self {
        Self {
            opcode,
            last: true,
            payload,
        }
    }

    /// Reads one, masked or not.
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let (first, second) = (stream.read_u8().await?, stream.read_u8().await?);
        let opcode = Opcode::of(first & 0x0f).ok_or_else(|| broken("a frame of no known kind"))?;
        if first & 0x70 != 0 {
            return Err(broken("a frame of an extension that nobody asked for"));
        }
        let length = match second & 0x7f {
            126 => u64::from(stream.read_u16().await?),
            127 => stream.read_u64().await?,
            short => u64::from(short),
        };
        if length > LONGEST {
            return Err(broken("a frame longer than 16 MiB"));
        }
        let mut mask = [0; 4];
        if second & 0x80 != 0 {
            stream.read_exact(&mut mask).await?;
        }
        let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
        stream.read_exact(&mut payload).await?;
        apply(mask, &mut payload);
        Ok(Self {
            opcode,
            last: first & 0x80 != 0,
            payload,
        })
    }

    /// Writes it: a client with a mask, a server without.
    pub(super) async fn write(
        mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        mask: Option<[u8; 4]>,
    ) -> io::Result<()> {
        let mut bytes = vec![self.opcode.bits() | u8::from(self.last) << 7];
        let masked = u8::from(mask.is_some()) << 7;
        match self.payload.len() {
            length @ 0..=125 => bytes.push(masked | u8::try_from(length).unwrap_or_default()),
            length => match u16::try_from(length) {
                Ok(length) => {
                    bytes.push(masked | 126);
                    bytes.extend(length.to_be_bytes());
                }
                Err(_) => {
                    bytes.push(masked | 127);
                    bytes.extend((length as u64).to_be_bytes());
                }
            },
        }
        if let Some(mask) = mask {
            bytes.extend(mask);
            apply(mask, &mut self.payload);
        }
        bytes.extend(self.payload);
        stream.write_all(&bytes).await?;
        stream.flush().await
    }
}

fn apply(mask: [u8; 4], payload: &mut [u8]) {
    let bytes = payload.iter_mut().zip(mask.into_iter().cycle());
    bytes.for_each(|(byte, mask)| *byte ^= mask);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_frame_reads_as_it_was_written() {
        for (length, mask) in [
            (0, None),
            (125, Some([1, 2, 3, 4])),
            (126, None),
            (70_000, Some([9; 4])),
        ] {
            let frame = Frame::message(Opcode::Binary, vec![7; length]);
            let mut bytes = Vec::new();
            frame.clone().write(&mut bytes, mask).await.unwrap();
            assert_eq!(Frame::read(&mut &bytes[..]).await.unwrap(), frame);
        }
    }

    #[tokio::test]
    async fn a_frame_of_an_unknown_kind_is_refused() {
        assert!(Frame::read(&mut &[0x83, 0][..]).await.is_err());
        assert!(Frame::read(&mut &[0xc1, 0][..]).await.is_err());
        let huge = [0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0];
        assert!(Frame::read(&mut &huge[..]).await.is_err());
    }
}
