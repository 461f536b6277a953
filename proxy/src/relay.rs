//! Carrying bytes both ways between two ends, until both are done.
//!
//! Half-closes and resets are passed on as what they are: a FIN on one side becomes
//! a FIN (or END_STREAM) on the other, a reset becomes a reset. Buffers are bounded,
//! grow only while they fill, and are given back when a connection idles.
//!
//! * `tcp`, `tunnel`, `duplex`: one half of a connection, by what it is between
//! * `halves`: both halves at the same time
//! * `buffer`: the buffer of a half
//! * `error`: why a half broke

mod buffer;
mod duplex;
mod error;
mod halves;
mod tcp;
mod tunnel;

use std::pin::{Pin, pin};

use weft_model::idle::IdleTimeouts;

use self::duplex::duplex;
use self::error::RelayError;
use self::halves::{Half, run_both};
use self::tcp::tcp_to_tcp;
use self::tunnel::{tcp_to_tunnel, tunnel_to_tcp};
use crate::detect::PrefixedStream;
use crate::stream::Stream;
use crate::telemetry::{CloseReason, Progress};

/// Carries bytes between two ends until both halves ended, beginning with what was
/// read of either already. Dropped before, it cuts both, and so does a break of either.
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
            () = progress.idle(timeouts) => CloseReason::IdleTimeout,
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
        let sent = progress.sending();
        let received = progress.receiving();
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

#[cfg(test)]
mod tests;
