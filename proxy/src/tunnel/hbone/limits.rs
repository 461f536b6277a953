//! Windows, frames and counts of an HBONE connection, the same on both sides.

use std::time::Duration;

use crate::windows::Windows;

/// What streams may have buffered here, on their way to somebody who doesn't read (ztunnel: 4 MiB).
/// A smaller window makes a stream wait for it on a busy machine.
pub(crate) const WINDOWS: Windows = Windows {
    stream: 2 * 1024 * 1024,
    most_streams: MAX_STREAMS,
};
/// Largest frame in bytes. Frames of one TLS record's size lose to larger ones, and
/// much larger ones make a stream wait for its neighbour.
pub(super) const FRAME_SIZE: u32 = 64 * 1024;
/// Bytes that one stream may have waiting for the connection.
pub(super) const SEND_BUFFER: usize = 256 * 1024;
/// Streams that a peer may have open on one connection: some more than it puts there, as it may
/// know of a stream's end before we do.
pub(super) const MAX_STREAMS: u32 = 128;
/// Streams that we put on one connection (ztunnel: 100), so that a few bulk flows
/// don't share one connection's congestion window with everybody.
pub(super) const STREAMS_PER_CONNECTION: usize = 100;
const _: () = assert!(STREAMS_PER_CONNECTION <= MAX_STREAMS as usize);
/// Streams that one end has reset on a connection, after which it takes no further ones: late
/// frames for streams that were forgotten would end it with all that it carries.
pub(super) const RESETS_PER_CONNECTION: usize = 1024;
/// Streams that were reset and whose late frames are still expected: all of those, and what is
/// open when the other end learns of it. And for how long.
pub(super) const REMEMBERED_RESETS: usize = 2 * RESETS_PER_CONNECTION;
pub(super) const RESETS_REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// Frames for streams that nobody knows any more, after which the peer is taken for broken.
pub(super) const MOST_STREAM_ERRORS: usize = 16 * 1024;
/// Age at which a connection takes no new streams, so that none outlives by long the certificates
/// that it was made with, nor the policy and the balance of its time. Those that are open go on.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);

/// The age at which the dialling end makes a new connection: before the other end says so. `jitter`
/// is drawn from 0 up to 1, so that not all do so at once.
pub(crate) fn client_age(jitter: f64) -> Duration {
    MAX_AGE.mul_f64(0.75 + jitter * 0.2)
}

/// The age at which the accepting end says so.
pub(super) fn server_age(jitter: f64) -> Duration {
    MAX_AGE.mul_f64(1.0 + jitter * 0.2)
}

/// Bytes of headers in a request or a response.
pub(super) const HEADER_LIST: u32 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dialling_end_retires_a_connection_before_the_accepting_end_does() {
        assert!(client_age(1.0) < server_age(0.0));
        assert!(client_age(0.0) < client_age(1.0) && server_age(0.0) < server_age(1.0));
    }
}
