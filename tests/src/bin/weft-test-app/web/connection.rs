//! One connection of a client.

use std::net::SocketAddr;

/// One connection, as the answers tell of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    /// Counted from 1 in the order in which they came.
    pub(super) number: u64,
}
