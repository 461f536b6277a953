//! Carrying bytes both ways between two ends, until both are done.
//!
//! Half-closes and resets are passed on as what they are: a FIN on one side becomes
//! a FIN (or END_STREAM) on the other, a reset becomes a reset. Buffers are bounded,
//! grow only while they fill, and are given back when a connection idles.

mod duplex;
mod plain;
mod stream;

use std::io;

pub(crate) use crate::settings::IdleTimeouts;
pub(crate) use crate::telemetry::outcome::CloseReason as End;
use crate::telemetry::progress::DirectionProgress;
pub(crate) use crate::telemetry::progress::Progress;
pub(crate) use duplex::relay_duplex;
pub(crate) use plain::relay_plain;
pub(crate) use plain::reset_on_close;
pub(crate) use stream::{TcpSide, relay_stream};

/// First buffer of a direction, in bytes: enough for most requests.
const SMALLEST_BUFFER: usize = 8 * 1024;
/// Largest buffer of a direction, in bytes.
const LARGEST_BUFFER: usize = 64 * 1024;

/// Which end broke a direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Broken {
    /// The end that was read from.
    Source,
    /// The end that was written to.
    Sink,
}

/// The size of the next buffer: doubled while reads fill it, halved while they leave
/// three quarters of it empty.
fn next_buffer(size: usize, filled: usize) -> usize {
    if filled >= size {
        (size * 2).min(LARGEST_BUFFER)
    } else if filled * 4 < size {
        (size / 2).max(SMALLEST_BUFFER)
    } else {
        size
    }
}

/// Whether an error means that the peer cut the connection; anything else that a
/// socket can answer here means the same to whoever is at the other end.
fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn buffers_stay_within_their_bounds(reads in prop::collection::vec(0usize..=1 << 20, 0..40)) {
            let mut size = SMALLEST_BUFFER;
            for read in reads {
                size = next_buffer(size, read.min(size));
                prop_assert!((SMALLEST_BUFFER..=LARGEST_BUFFER).contains(&size));
            }
        }
    }
}
