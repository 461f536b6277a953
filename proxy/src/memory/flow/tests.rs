use proptest::prelude::*;

use super::frames::PREFACE;
use super::*;

const WINDOW: u32 = 64 * 1024;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn data(stream: u32, length: usize) -> Vec<u8> {
    frame(DATA, 0, stream, &vec![0; length])
}

fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

struct Meter(FlowMeter);

impl Meter {
    /// A server's end, with a stream of each of these numbers.
    fn with(streams: &[u32]) -> Self {
        let mut meter = Self(FlowMeter::new(WINDOW, PER_BLOCKED_STREAM));
        meter.received(PREFACE);
        meter.received(&frame(SETTINGS, 0, 0, &[]));
        for stream in streams {
            meter.received(&frame(HEADERS, 4, *stream, b"head"));
        }
        meter
    }

    fn received(&mut self, bytes: &[u8]) {
        self.0.count(Direction::Received, bytes, 1);
    }

    fn sent(&mut self, bytes: &[u8]) {
        self.0.count(Direction::Sent, bytes, 1);
    }

    fn held(&self) -> usize {
        self.0.held()
    }
}

#[test]
fn what_came_and_was_not_read_is_held() {
    let mut meter = Meter::with(&[1, 3]);
    meter.received(&data(1, 1000));
    meter.received(&data(3, 500));
    assert_eq!(meter.held(), 1500 + 2 * PER_FRAME);
    meter.sent(&window_update(0, 1000));
    meter.sent(&window_update(1, 1000));
    assert_eq!(meter.held(), 500 + PER_FRAME);
    meter.received(&frame(RST_STREAM, 0, 3, &[0; 4]));
    assert_eq!(meter.held(), 0);
    // Late frames are of no stream.
    meter.received(&data(3, 500));
    assert_eq!(meter.held(), 0);
}

#[test]
fn frames_of_one_byte_cost_more_than_a_byte() {
    let mut meter = Meter::with(&[1]);
    for _ in 0..1000 {
        meter.received(&data(1, 1));
    }
    assert_eq!(meter.held(), 1000 + 1000 * PER_FRAME);
    meter.sent(&window_update(1, 1000));
    assert_eq!(meter.held(), 0);
}

#[test]
fn a_stream_that_has_ended_holds_what_somebody_may_still_read() {
    let mut meter = Meter::with(&[1]);
    meter.received(&data(1, 1000));
    meter.received(&frame(DATA, END_STREAM, 1, b"end"));
    meter.sent(&frame(HEADERS, END_STREAM, 1, b"head"));
    assert_eq!(meter.held(), 1003 + 2 * PER_FRAME);
    meter.0.count(Direction::Sent, &[], 0);
    assert_eq!(meter.held(), 0);
}

#[test]
fn a_stream_whose_other_end_takes_nothing_holds_a_part_of_its_body() {
    let mut meter = Meter::with(&[1]);
    meter.received(&window_update(0, 1 << 20));
    meter.sent(&frame(HEADERS, 4, 1, b"head"));
    for _ in 0..4 {
        meter.sent(&data(1, 16 * 1024 - 1));
    }
    assert_eq!(meter.held(), 0);
    meter.sent(&data(1, 3));
    assert_eq!(meter.held(), PER_BLOCKED_STREAM);
    meter.received(&window_update(1, 1));
    assert_eq!(meter.held(), 0);
    // A smaller first window is one of those that are there, too.
    let smaller = [0, 4, 0, 0, 0, 0];
    meter.received(&frame(SETTINGS, 0, 0, &smaller));
    assert_eq!(meter.held(), PER_BLOCKED_STREAM);
    meter.sent(&frame(DATA, END_STREAM, 1, &[]));
    assert_eq!(meter.held(), 0);
}

#[test]
fn streams_hold_parts_of_their_bodies_while_the_window_of_their_connection_is_closed() {
    let mut meter = Meter::with(&[1, 3, 5]);
    meter.received(&frame(SETTINGS, 0, 0, &[0, 4, 1, 0, 0, 0]));
    for stream in [1, 3] {
        meter.sent(&frame(HEADERS, 4, stream, b"head"));
    }
    for _ in 0..4 {
        meter.sent(&data(1, 16 * 1024 - 1));
    }
    assert_eq!(meter.held(), 0);
    meter.sent(&data(3, 3));
    // The third has sent nothing yet.
    assert_eq!(meter.held(), 2 * PER_BLOCKED_STREAM);
    meter.sent(&frame(DATA, END_STREAM, 1, &[]));
    assert_eq!(meter.held(), PER_BLOCKED_STREAM);
    meter.received(&window_update(0, 1));
    assert_eq!(meter.held(), 0);
}

#[test]
fn a_stream_whose_window_was_closed_before_it_began_holds_a_part_of_its_body() {
    let mut meter = Meter::with(&[]);
    meter.received(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    for stream in [1, 3] {
        meter.received(&frame(HEADERS, 4 | END_STREAM, stream, b"head"));
    }
    assert_eq!(meter.held(), 2 * PER_BLOCKED_STREAM);
    meter.received(&window_update(1, 1));
    assert_eq!(meter.held(), PER_BLOCKED_STREAM);
    meter.received(&frame(RST_STREAM, 0, 3, &[0; 4]));
    assert_eq!(meter.held(), 0);
    // A request that is sent without a body waits for nothing.
    let mut client = Meter(FlowMeter::new(WINDOW, PER_BLOCKED_STREAM));
    client.received(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    client.sent(&frame(HEADERS, 4 | END_STREAM, 1, b"head"));
    assert_eq!(client.held(), 0);
}

#[test]
fn a_client_opens_its_streams_by_what_it_sends() {
    let mut meter = Meter(FlowMeter::new(WINDOW, PER_BLOCKED_STREAM));
    meter.sent(PREFACE);
    meter.sent(&frame(HEADERS, 4 | END_STREAM, 1, b"head"));
    meter.received(&frame(HEADERS, 4, 1, b"head"));
    meter.received(&data(1, 1000));
    assert_eq!(meter.held(), 1000 + PER_FRAME);
    meter.received(&frame(HEADERS, 4 | END_STREAM, 1, b"trailers"));
    assert_eq!(meter.held(), 1000 + PER_FRAME);
    meter.0.count(Direction::Received, &[], 0);
    assert_eq!(meter.held(), 0);
}

proptest! {
    #[test]
    fn it_doesnt_matter_where_reads_end(cuts in prop::collection::vec(1usize..50, 0..100)) {
        let mut whole = Vec::new();
        whole.extend_from_slice(PREFACE);
        whole.extend(frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9, 0, 4, 0, 0, 1, 0]));
        for stream in [1, 3, 5] {
            whole.extend(frame(HEADERS, 4, stream, b"head"));
            whole.extend(data(stream, 100));
            whole.extend(window_update(stream, 7));
        }
        whole.extend(frame(SETTINGS, ACK, 0, &[]));
        whole.extend(frame(RST_STREAM, 0, 3, &[0; 4]));
        let (mut meter, mut rest) = (Meter(FlowMeter::new(WINDOW, PER_BLOCKED_STREAM)), &whole[..]);
        for cut in cuts {
            let (part, left) = rest.split_at(cut.min(rest.len()));
            meter.received(part);
            rest = left;
        }
        meter.received(rest);
        prop_assert_eq!(meter.held(), 2 * (100 + PER_FRAME));
        prop_assert_eq!(meter.0.peer_window, 256);
        prop_assert_eq!(meter.0.streams[&5].send_window, 256 + 7);
    }

    #[test]
    fn it_holds_what_its_streams_hold_whatever_frames_come(
        frames in prop::collection::vec(
            (any::<bool>(), 0usize..5, any::<bool>(), 0u32..4, 0u32..100_000),
            0..60,
        ),
    ) {
        let mut meter = Meter::with(&[]);
        for (is_sent, kind, ends, stream, value) in frames {
            let stream = 2 * stream + 1;
            let flags = u8::from(ends) * END_STREAM;
            let bytes = match kind {
                0 => data(stream, value as usize),
                1 => frame(HEADERS, 4 | flags, stream, b"head"),
                2 => frame(RST_STREAM, 0, stream, &[0; 4]),
                3 => window_update(stream, value),
                _ => {
                    let [a, b, c, d] = (value / 2 * u32::from(ends)).to_be_bytes();
                    frame(SETTINGS, 0, 0, &[0, 4, a, b, c, d])
                }
            };
            match is_sent {
                true => meter.sent(&bytes),
                false => meter.received(&bytes),
            }
            let streams = || meter.0.streams.values();
            let open: usize = streams().map(|stream| stream.held(PER_BLOCKED_STREAM)).sum();
            prop_assert_eq!(meter.0.open, open);
            let sending = streams().filter(|stream| stream.is_sending()).count();
            prop_assert_eq!(meter.0.sending, sending);
        }
    }

    #[test]
    fn no_bytes_are_too_odd(
        received in prop::collection::vec(any::<u8>(), 0..500),
        sent in prop::collection::vec(any::<u8>(), 0..500),
    ) {
        let mut meter = Meter::with(&[1, 3]);
        meter.received(&received);
        meter.sent(&sent);
        meter.held();
    }
}

#[test]
fn a_head_is_held_until_it_is_complete() {
    let mut meter = Meter::with(&[1]);
    meter.received(&frame(HEADERS, 0, 3, &[0; 1000]));
    meter.received(&frame(CONTINUATION, 0, 3, &[0; 500]));
    assert_eq!(meter.held(), 1500 + 2 * PER_FRAME);
    meter.received(&frame(CONTINUATION, END_HEADERS, 3, &[0; 10]));
    assert_eq!(meter.held(), 0);
}
