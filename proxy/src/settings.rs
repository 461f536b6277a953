//! Limits and times of the data path.

use std::time::Duration;

use weft_model::idle::IdleTimeouts;

use crate::telemetry::{SERIES_PER_NODE, SERIES_PER_POD};

/// Limits and times of the data path, the same for all pods of a node.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Connections that one pod may have through the proxy, both directions together.
    pub connections_per_pod: u32,
    /// Open files that the process may have; connections of pods are admitted as far as there
    /// are descriptors for them. As many as they like when `None`.
    pub open_files: Option<usize>,
    /// Tunnel connections of one pod whose clients may be in their TLS handshake, which are
    /// none of its connections yet.
    pub handshakes_per_pod: u32,
    /// Those of them that one address may have.
    pub handshakes_per_address: u32,
    /// Bytes that all connections may hold together, on their way to somebody who doesn't read.
    pub buffer_bytes: usize,
    /// How long a connection to a destination or an application may take.
    pub connect_timeout: Duration,
    /// How long a client may take for its TLS handshake.
    pub handshake_timeout: Duration,
    /// How long a connection may be silent where nobody has set anything.
    pub idle: IdleTimeouts,
    /// How long a pooled tunnel connection lives unused.
    pub tunnel_idle: Duration,
    /// How long a connection of HTTP/1 is kept for the next request, unless its server says
    /// less.
    pub http1_idle: Duration,
    /// How long a connection of HTTP/2 is kept for the next request.
    pub http2_idle: Duration,
    /// Endpoints of a service that are tried before a connection fails.
    pub connect_attempts: usize,
    /// How large the heads of requests and responses may be.
    pub heads: HeadLimits,
    /// Series of metrics that one pod may have for what it connects to, and as many for who
    /// connects to it.
    pub series_per_pod: usize,
    /// Series of metrics that all pods may have together.
    pub series_per_node: usize,
}

/// How large the head of a request or a response may be, which is buffered while it is read, and
/// how long it may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeadLimits {
    /// Bytes of everything before the body.
    pub bytes: usize,
    /// Fields of it.
    pub fields: usize,
    /// Time from the first byte of a head to its last, where there is a limit.
    pub time: Option<Duration>,
}

/// Bytes of a connection of HTTP/1 that are buffered at most, unless heads may be larger.
const HTTP1_BUFFER: usize = 408 * 1024;

impl HeadLimits {
    /// Bytes of a connection of HTTP/1 that are buffered at most: a head in whole.
    pub(crate) fn http1_buffer(self) -> usize {
        HTTP1_BUFFER.max(2 * self.bytes)
    }

    /// The size of the same head as HTTP/2 counts it: 32 bytes more for each field (RFC 9113
    /// section 6.5.2).
    pub(crate) fn http2_list_size(self) -> u32 {
        u32::try_from(self.bytes + 32 * self.fields).unwrap_or(u32::MAX)
    }
}

impl Default for HeadLimits {
    /// Twice what Envoy takes: a server behind the mesh should be the one that refuses.
    fn default() -> Self {
        Self {
            bytes: 128 * 1024,
            fields: 1000,
            time: Some(Duration::from_secs(60)),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_per_pod: 32_768,
            open_files: None,
            handshakes_per_pod: 256,
            handshakes_per_address: 64,
            buffer_bytes: 512 << 20,
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            idle: IdleTimeouts::default(),
            tunnel_idle: Duration::from_secs(300),
            // Shorter than what servers of the field allow (Node, Apache and uvicorn: 5 s), so
            // that theirs seldom end first.
            http1_idle: Duration::from_secs(4),
            http2_idle: Duration::from_secs(50),
            connect_attempts: 3,
            heads: HeadLimits::default(),
            series_per_pod: SERIES_PER_POD,
            series_per_node: SERIES_PER_NODE,
        }
    }
}
