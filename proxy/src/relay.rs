//! Carrying bytes both ways between two ends, until both are done.
//!
//! Half-closes and resets are passed on as what they are: a FIN on one side becomes
//! a FIN (or END_STREAM) on the other, a reset becomes a reset. Buffers are bounded,
//! grow only while they fill, and are given back when a connection idles.
//!
//! * `tcp`, `tunnel`, `duplex`: one half of a connection, by what it is between
//! * `halves`: both halves at the same time
//! * `buffer`: the buffer of a half
//! * `meter`, `error`: what a half tells while it runs, and when it breaks

mod buffer;
mod duplex;
mod error;
mod halves;
mod meter;
mod old_duplex;
mod plain;
mod stream;
mod tcp;
mod tunnel;

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use old_duplex::relay_duplex;
pub(crate) use plain::relay_plain;
pub(crate) use plain::reset_on_close;
pub(crate) use stream::{TcpSide, relay_stream};

use self::End as CloseReason;
use self::duplex::duplex;
use self::error::RelayError;
use self::halves::{Half, run_both};
use self::meter::Meter;
use self::tcp::tcp_to_tcp;
use self::tunnel::{tcp_to_tunnel, tunnel_to_tcp};
use crate::detect::PrefixedStream;
use crate::stream::Stream;

/// Carries bytes between two ends until both halves ended, beginning with what was
/// read of either already. Dropped before, it cuts both, and so does a break of either.
#[allow(dead_code, reason = "until the walks use it")]
pub(crate) fn relay(
    downstream: PrefixedStream,
    upstream: PrefixedStream,
    progress: &Progress,
    timeouts: IdleTimeouts,
) -> impl Future<Output = CloseReason> + Send {
    // Built outside of the future, which would hold it twice: many wait at the same time.
    let mut ends = Ends {
        downstream,
        upstream,
        is_finished: false,
    };
    async move {
        tokio::select! {
            result = ends.carry(progress) => match result {
                Ok(()) => {
                    ends.finish();
                    CloseReason::Finished
                }
                Err((reason, error)) => {
                    tracing::debug!(%error, ?reason, "a connection broke");
                    reason
                }
            },
            () = progress.idle(timeouts) => CloseReason::Idle,
        }
    }
}

/// Both ends of a relay; cut when dropped before they have finished.
#[derive(Debug)]
struct Ends {
    downstream: PrefixedStream,
    upstream: PrefixedStream,
    is_finished: bool,
}

impl Ends {
    /// They have finished in order: dropping them cuts nothing.
    fn finish(&mut self) {
        self.is_finished = true;
    }

    /// Runs both halves, with the code that fits what the two ends are.
    async fn carry(&mut self, progress: &Progress) -> Result<(), (CloseReason, RelayError)> {
        let first_sent = self.downstream.take_first();
        let first_received = self.upstream.take_first();
        let sent = Meter::new(Half::Sent, progress);
        let received = Meter::new(Half::Received, progress);
        match (self.downstream.stream_mut(), self.upstream.stream_mut()) {
            (Stream::Tcp(downstream), Stream::Tcp(upstream)) => {
                let (from_downstream, to_downstream) = downstream.split();
                let (from_upstream, to_upstream) = upstream.split();
                let sending = tcp_to_tcp(first_sent, from_downstream, to_upstream, sent);
                let receiving = tcp_to_tcp(first_received, from_upstream, to_downstream, received);
                carry_both(pin!(sending), pin!(receiving)).await
            }
            (Stream::Tcp(downstream), Stream::Tunnel(upstream)) => {
                let (from_downstream, to_downstream) = downstream.split();
                let (from_upstream, to_upstream) = upstream.split();
                let sending = tcp_to_tunnel(first_sent, from_downstream, to_upstream, sent);
                let receiving =
                    tunnel_to_tcp(first_received, from_upstream, to_downstream, received);
                carry_both(pin!(sending), pin!(receiving)).await
            }
            (Stream::Tunnel(downstream), Stream::Tcp(upstream)) => {
                let (from_downstream, to_downstream) = downstream.split();
                let (from_upstream, to_upstream) = upstream.split();
                let sending = tunnel_to_tcp(first_sent, from_downstream, to_upstream, sent);
                let receiving =
                    tcp_to_tunnel(first_received, from_upstream, to_downstream, received);
                carry_both(pin!(sending), pin!(receiving)).await
            }
            (downstream, upstream) => {
                let (downstream, upstream) = ((first_sent, downstream), (first_received, upstream));
                duplex(downstream, upstream, progress).await
            }
        }
    }
}

async fn carry_both(
    mut sending: Pin<&mut impl Future<Output = Result<(), RelayError>>>,
    mut receiving: Pin<&mut impl Future<Output = Result<(), RelayError>>>,
) -> Result<(), (CloseReason, RelayError)> {
    run_both(|half, context| match half {
        Half::Sent => sending.as_mut().poll(context),
        Half::Received => receiving.as_mut().poll(context),
    })
    .await
}

impl Drop for Ends {
    fn drop(&mut self) {
        if !self.is_finished {
            self.downstream.stream_mut().reset_on_close();
            self.upstream.stream_mut().reset_on_close();
        }
    }
}

/// First buffer of a direction, in bytes: enough for most requests.
const SMALLEST_BUFFER: usize = 8 * 1024;
/// Largest buffer of a direction, in bytes.
const LARGEST_BUFFER: usize = 64 * 1024;

/// How a relay ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// Both sides finished in order.
    Finished,
    /// The side that opened the connection reset it.
    DownstreamReset,
    /// The side that was connected to reset it.
    UpstreamReset,
    /// Nothing moved for too long.
    Idle,
}

/// How long a connection may be silent.
#[derive(Clone, Copy, Debug)]
pub struct IdleTimeouts {
    /// While both directions are open.
    pub open: Duration,
    /// Once one direction has ended.
    pub half_closed: Duration,
}

/// Bytes carried so far; readable while the relay runs.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// From the side that opened the connection to the other.
    pub(crate) sent: AtomicU64,
    /// Back.
    pub(crate) received: AtomicU64,
    /// Directions that have ended.
    ended: AtomicU64,
}

impl Progress {
    fn moved(&self) -> u64 {
        self.sent
            .load(Ordering::Relaxed)
            .wrapping_add(self.received.load(Ordering::Relaxed))
    }

    /// Resolves when nothing has moved for the time that applies. It looks once per
    /// such time, so a silent connection lives at most twice as long.
    async fn idle(&self, timeouts: IdleTimeouts) {
        let (mut seen, mut ended) = (self.moved(), 0);
        loop {
            let half_closed = self.ended.load(Ordering::Relaxed);
            let wait = if half_closed == 0 {
                timeouts.open
            } else {
                timeouts.half_closed
            };
            tokio::time::sleep(wait).await;
            let (now, ended_now) = (self.moved(), self.ended.load(Ordering::Relaxed));
            if now == seen && ended_now == ended && half_closed == ended_now {
                return;
            }
            (seen, ended) = (now, ended_now);
        }
    }
}

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
mod old_tests {
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

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_ends_and_a_busy_one_does_not() {
        let timeouts = IdleTimeouts {
            open: Duration::from_secs(10),
            half_closed: Duration::from_secs(1),
        };
        let progress = Progress::default();
        let busy = async {
            for _ in 0..30 {
                tokio::time::sleep(Duration::from_secs(5)).await;
                progress.sent.fetch_add(1, Ordering::Relaxed);
            }
        };
        tokio::select! {
            () = progress.idle(timeouts) => panic!("ended a busy connection"),
            () = busy => {}
        }
        tokio::time::timeout(Duration::from_secs(21), progress.idle(timeouts))
            .await
            .unwrap();
    }
}

#[cfg(test)]
mod tests;
