//! HBONE: connections tunnelled as HTTP/2 CONNECT streams over mutual TLS, the way
//! Istio's ambient mode does it. There is no written specification; what is needed
//! to interoperate with ztunnel is followed exactly.

pub(crate) mod client;
pub(crate) mod keepalive;
pub(crate) mod pool;

pub(crate) use crate::tunnel::hbone::request::connect_request as request;
pub(crate) use crate::tunnel::hbone::request::{
    InvalidTunnelRequest, destination, forwarded_client,
};

/// Stream window in bytes (ztunnel: 4 MiB). It bounds what one connection can have
/// buffered on the way.
pub(crate) const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// Connection window in bytes.
pub(crate) const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// Largest frame in bytes. Frames of one TLS record's size lose to larger ones, and
/// much larger ones make a stream wait for its neighbour.
pub(crate) const FRAME_SIZE: u32 = 64 * 1024;
/// Bytes that one stream may have waiting for the tunnel.
pub(crate) const SEND_BUFFER: usize = 256 * 1024;
/// Streams that a peer may have open on one connection.
pub(crate) const MAX_STREAMS: u32 = 200;
/// Streams that we put on one connection (ztunnel: 100), so that a few bulk flows
/// don't share one connection's congestion window with everybody.
pub(crate) const STREAMS_PER_CONNECTION: usize = 100;
/// Bytes of headers in a request or a response.
pub(crate) const HEADER_LIST: u32 = 64 * 1024;
