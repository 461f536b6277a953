//! Windows, frames and counts of an HBONE connection, the same on both sides.

use std::time::Duration;

/// Stream window in bytes (ztunnel: 4 MiB). It bounds what one connection can have
/// buffered on the way.
pub(super) const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// Connection window in bytes.
pub(super) const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// Largest frame in bytes. Frames of one TLS record's size lose to larger ones, and
/// much larger ones make a stream wait for its neighbour.
pub(super) const FRAME_SIZE: u32 = 64 * 1024;
/// Bytes that one stream may have waiting for the connection.
pub(super) const SEND_BUFFER: usize = 256 * 1024;
/// Streams that a peer may have open on one connection.
pub(super) const MAX_STREAMS: u32 = 200;
/// Streams that we put on one connection (ztunnel: 100), so that a few bulk flows
/// don't share one connection's congestion window with everybody.
pub(super) const STREAMS_PER_CONNECTION: usize = 100;
/// Streams that one end has reset on a connection, after which it takes no further ones: late
/// frames for streams that were forgotten would end it with all that it carries.
pub(super) const RESETS_PER_CONNECTION: usize = 1024;
/// Streams that were reset and whose late frames are still expected: all of those, and what is
/// open when the other end learns of it. And for how long.
pub(super) const REMEMBERED_RESETS: usize = 2 * RESETS_PER_CONNECTION;
pub(super) const RESETS_REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// Frames for streams that nobody knows any more, after which the peer is taken for broken.
pub(super) const MOST_STREAM_ERRORS: usize = 16 * 1024;
/// Bytes of headers in a request or a response.
pub(super) const HEADER_LIST: u32 = 64 * 1024;
