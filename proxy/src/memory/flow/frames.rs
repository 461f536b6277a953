//! The frames in one direction of a connection of HTTP/2 (RFC 9113), as far as they are looked at.

/// Head of a frame in bytes (section 4.1).
const FRAME_HEAD: usize = 9;
/// Types of frames whose payload matters, or that may wait within it (section 6).
pub(super) const DATA: u8 = 0;
pub(super) const SETTINGS: u8 = 4;
pub(super) const WINDOW_UPDATE: u8 = 8;
/// The setting of a stream's first window (section 6.5.2).
const INITIAL_WINDOW_SIZE: u16 = 4;
/// Bytes of a payload that are looked at: more settings than there are.
const MOST_PAYLOAD: usize = 16 * 6;
/// The client's preface, before its frames (section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Finds the frames in one direction of a connection.
#[derive(Debug)]
pub(super) struct FrameReader {
    head: [u8; FRAME_HEAD],
    head_length: usize,
    payload: [u8; MOST_PAYLOAD],
    payload_length: usize,
    /// Bytes of the payload that are still to come.
    left: usize,
}

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) length: usize,
    /// Of a WINDOW_UPDATE (section 6.9).
    pub(super) increment: i64,
    /// Of SETTINGS (section 6.5.1).
    pub(super) initial_window: Option<i64>,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self {
            head: [0; FRAME_HEAD],
            head_length: 0,
            payload: [0; MOST_PAYLOAD],
            payload_length: 0,
            left: 0,
        }
    }
}

impl FrameReader {
    /// The next frame that ends in these bytes, of which it takes what belongs to it. One whose
    /// payload doesn't matter is told of as soon as its head is there.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        loop {
            if self.left > 0 {
                let part = self.left.min(bytes.len());
                let (taken, rest) = bytes.split_at(part);
                *bytes = rest;
                self.left -= part;
                if self.is_looked_at() {
                    self.keep(taken);
                }
                if self.left > 0 {
                    return None;
                }
                if self.is_looked_at() {
                    return Some(self.take());
                }
                self.head_length = 0;
            }
            let part = (FRAME_HEAD - self.head_length).min(bytes.len());
            let (taken, rest) = bytes.split_at(part);
            *bytes = rest;
            self.head[self.head_length..self.head_length + part].copy_from_slice(taken);
            self.head_length += part;
            if self.head_length < FRAME_HEAD {
                return None;
            }
            if self.head == PREFACE[..FRAME_HEAD] {
                self.left = PREFACE.len() - FRAME_HEAD;
                continue;
            }
            self.left = self.length();
            if !self.is_looked_at() || self.left == 0 {
                let frame = self.frame();
                if self.left == 0 {
                    self.head_length = 0;
                }
                return Some(frame);
            }
        }
    }

    /// Whether a frame has begun and isn't there as a whole, and isn't one of DATA.
    pub(super) fn is_within_other_than_data(&self) -> bool {
        let is_data = self.head_length == FRAME_HEAD && self.head[3] == DATA;
        self.head_length > 0 && !is_data
    }

    fn length(&self) -> usize {
        let [first, second, third, ..] = self.head;
        u32::from_be_bytes([0, first, second, third]) as usize
    }

    /// Whether what it says is in its payload.
    fn is_looked_at(&self) -> bool {
        self.head != PREFACE[..FRAME_HEAD] && matches!(self.head[3], SETTINGS | WINDOW_UPDATE)
    }

    fn keep(&mut self, part: &[u8]) {
        let room = &mut self.payload[self.payload_length..];
        let kept = part.len().min(room.len());
        room[..kept].copy_from_slice(&part[..kept]);
        self.payload_length += kept;
    }

    fn take(&mut self) -> Frame {
        let frame = self.frame();
        self.head_length = 0;
        self.payload_length = 0;
        frame
    }

    fn frame(&self) -> Frame {
        let [.., kind, flags, a, b, c, d] = self.head;
        let payload = &self.payload[..self.payload_length];
        Frame {
            kind,
            flags,
            // The first bit is reserved.
            stream: u32::from_be_bytes([a & 0x7f, b, c, d]),
            length: self.length(),
            increment: match *payload {
                [a, b, c, d] => i64::from(u32::from_be_bytes([a & 0x7f, b, c, d])),
                _ => 0,
            },
            initial_window: match kind {
                SETTINGS => initial_window(payload),
                _ => None,
            },
        }
    }
}

/// The first window of a stream that SETTINGS say, where they do: the last one counts.
fn initial_window(settings: &[u8]) -> Option<i64> {
    let settings = settings.chunks_exact(6).rev();
    let mut settings = settings.filter_map(|setting| match *setting {
        [a, b, c, d, e, f] if u16::from_be_bytes([a, b]) == INITIAL_WINDOW_SIZE => {
            Some(i64::from(u32::from_be_bytes([c, d, e, f])))
        }
        _ => None,
    });
    settings.next()
}
