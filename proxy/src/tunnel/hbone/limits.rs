//! Windows, frames and counts of an HBONE connection, the same on both sides.

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
/// Bytes of headers in a request or a response.
pub(super) const HEADER_LIST: u32 = 64 * 1024;
