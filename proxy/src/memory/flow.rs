//! What a connection of HTTP/2 holds here, as the frames on it show (RFC 9113): bytes that came
//! for a stream and were not read yet, for which its window was not opened again, and bytes that
//! wait because the other end has closed its own.

mod frames;

use std::collections::HashMap;

use frames::{DATA, Frame, FrameReader, SETTINGS, WINDOW_UPDATE};

/// Further types of frames (section 6).
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
/// Flags of frames.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// The first window of a stream by default (section 6.5.2).
const DEFAULT_WINDOW: i64 = 65_535;
/// Bytes that a frame costs beside its payload, as long as nobody has read it.
const PER_FRAME: usize = 96;
/// Bytes of a body that wait where it comes from while a window is closed.
pub(super) const PER_BLOCKED_STREAM: usize = 64 * 1024;

/// A direction of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Direction {
    Received,
    Sent,
}

/// One connection's streams, as far as they hold bytes.
#[derive(Debug)]
pub(super) struct FlowMeter {
    received: FrameReader,
    sent: FrameReader,
    streams: HashMap<u32, Stream>,
    /// The highest stream that there was: a lower one is not new.
    highest: u32,
    /// First window of a stream that the other end lets us send on.
    peer_window: i64,
    /// Bytes of streams that have ended both ways and that somebody may still read.
    ended: usize,
    /// The same of streams that have not, and what waits for the other end's windows.
    open: usize,
    /// What would wait beside it if the other end had closed the window of the connection.
    sending: usize,
    /// Bytes that the other end lets us send on all streams together (section 6.9.1).
    connection_window: i64,
    /// Bytes that wait for a window that is closed.
    per_blocked_stream: usize,
    stream_window: usize,
    /// Bytes of a head that isn't complete: one at a time is under way (section 4.3).
    head: usize,
    has_received: bool,
    /// Frames that came, but those of a head that isn't complete.
    complete: u64,
}

#[derive(Debug)]
struct Stream {
    unread: usize,
    frames: usize,
    send_window: i64,
    has_sent_head: bool,
    has_received_end: bool,
    has_sent_end: bool,
}

impl Stream {
    fn new(send_window: i64) -> Self {
        Self {
            unread: 0,
            frames: 0,
            send_window,
            has_sent_head: false,
            has_received_end: false,
            has_sent_end: false,
        }
    }

    fn unread(&self) -> usize {
        self.unread + self.frames * PER_FRAME
    }

    /// With so many bytes that wait while a window is closed.
    fn held(&self, per_blocked_stream: usize) -> usize {
        let is_blocked = self.send_window <= 0 && !self.has_sent_end;
        self.unread() + if is_blocked { per_blocked_stream } else { 0 }
    }

    /// Whether it would wait if the window of the connection was closed.
    fn is_sending(&self) -> bool {
        self.has_sent_head && !self.has_sent_end && self.send_window > 0
    }

    /// The window was opened by that much: so much was read.
    fn read(&mut self, bytes: usize) {
        let left = self.unread.saturating_sub(bytes);
        self.frames = match self.unread {
            0 => 0,
            unread => (self.frames * left).div_ceil(unread),
        };
        self.unread = left;
    }
}

impl FlowMeter {
    /// Of a connection whose streams have windows of that size here, and that many bytes each
    /// that wait while a window of the other end is closed.
    pub(super) fn new(stream_window: u32, per_blocked_stream: usize) -> Self {
        Self {
            received: FrameReader::default(),
            sent: FrameReader::default(),
            streams: HashMap::new(),
            highest: 0,
            peer_window: DEFAULT_WINDOW,
            ended: 0,
            open: 0,
            sending: 0,
            connection_window: DEFAULT_WINDOW,
            per_blocked_stream,
            stream_window: stream_window as usize,
            head: 0,
            has_received: false,
            complete: 0,
        }
    }

    /// Bytes went over the connection. `open_streams` are those that somebody may still read.
    pub(super) fn count(&mut self, direction: Direction, mut bytes: &[u8], open_streams: usize) {
        self.has_received |= direction == Direction::Received && !bytes.is_empty();
        loop {
            let reader = match direction {
                Direction::Received => &mut self.received,
                Direction::Sent => &mut self.sent,
            };
            let Some(frame) = reader.next(&mut bytes) else {
                break;
            };
            self.handle(direction, &frame);
        }
        self.ended = self.ended.min(open_streams * self.stream_window);
    }

    /// Bytes that the connection holds.
    pub(super) fn held(&self) -> usize {
        let waiting = match self.connection_window > 0 {
            true => 0,
            false => self.sending * self.per_blocked_stream,
        };
        self.open + self.ended + waiting + self.head
    }

    /// Number of the head that has begun to come, if one has: of a request or a response, of
    /// any other frame but DATA, or the preface with the SETTINGS behind it. None of them waits
    /// for anything on its way, as a body may.
    pub(super) fn unfinished_head(&self) -> Option<u64> {
        let is_opening = self.has_received && self.complete == 0;
        let is_unfinished =
            is_opening || self.head > 0 || self.received.is_within_other_than_data();
        is_unfinished.then_some(self.complete)
    }

    fn handle(&mut self, direction: Direction, frame: &Frame) {
        if direction == Direction::Received {
            if matches!(frame.kind, HEADERS | CONTINUATION) {
                self.head = match frame.flags & END_HEADERS {
                    0 => self.head + frame.length + PER_FRAME,
                    _ => 0,
                };
            }
            self.complete += u64::from(self.head == 0);
        }
        match (frame.kind, direction) {
            (SETTINGS, Direction::Received) if frame.flags & ACK == 0 => {
                if let Some(window) = frame.initial_window {
                    self.set_peer_window(window);
                }
            }
            (WINDOW_UPDATE, Direction::Received) if frame.stream == 0 => {
                self.connection_window += frame.increment;
            }
            (DATA | HEADERS | RST_STREAM | WINDOW_UPDATE, _) if frame.stream != 0 => {
                if (frame.kind, direction) == (DATA, Direction::Sent) {
                    self.connection_window -= i64::try_from(frame.length).unwrap_or(i64::MAX);
                }
                self.handle_stream(direction, frame);
            }
            _ => {}
        }
    }

    fn handle_stream(&mut self, direction: Direction, frame: &Frame) {
        if frame.kind == HEADERS && frame.stream > self.highest {
            self.highest = frame.stream;
            let stream = Stream::new(self.peer_window);
            // What waits for a window that was closed before the stream began.
            self.open += stream.held(self.per_blocked_stream);
            self.streams.insert(frame.stream, stream);
        }
        let Some(stream) = self.streams.get_mut(&frame.stream) else {
            return;
        };
        self.open -= stream.held(self.per_blocked_stream);
        self.sending -= usize::from(stream.is_sending());
        match (frame.kind, direction) {
            (DATA, Direction::Received) => {
                stream.unread += frame.length;
                stream.frames += 1;
            }
            (DATA, Direction::Sent) => {
                stream.send_window -= i64::try_from(frame.length).unwrap_or(i64::MAX);
            }
            (HEADERS, Direction::Sent) => stream.has_sent_head = true,
            (WINDOW_UPDATE, Direction::Received) => stream.send_window += frame.increment,
            (WINDOW_UPDATE, Direction::Sent) => {
                stream.read(usize::try_from(frame.increment).unwrap_or(0));
            }
            _ => {}
        }
        if matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0 {
            match direction {
                Direction::Received => stream.has_received_end = true,
                Direction::Sent => stream.has_sent_end = true,
            }
        }
        let is_reset = frame.kind == RST_STREAM;
        let has_ended = stream.has_received_end && stream.has_sent_end;
        if is_reset || has_ended {
            self.ended += if is_reset { 0 } else { stream.unread() };
            self.streams.remove(&frame.stream);
        } else {
            self.open += stream.held(self.per_blocked_stream);
            self.sending += usize::from(stream.is_sending());
        }
    }

    /// The other end lets streams send so much from now on, and so much more or less on those
    /// that are there (section 6.9.2).
    fn set_peer_window(&mut self, window: i64) {
        let change = window - self.peer_window;
        self.peer_window = window;
        (self.open, self.sending) = (0, 0);
        for stream in self.streams.values_mut() {
            stream.send_window += change;
            self.open += stream.held(self.per_blocked_stream);
            self.sending += usize::from(stream.is_sending());
        }
    }
}

#[cfg(test)]
mod tests;
