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

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, sink};
use tokio::time::timeout;
use weft_model::idle::IdleTimeouts;

use self::duplex::duplex;
use self::error::{BREAK_OFF_WITHIN, RelayError};
use self::halves::{Half, run_both};
use self::tcp::tcp_to_tcp;
use self::tunnel::{tcp_to_tunnel, tunnel_to_tcp};
use crate::detect::PrefixedStream;
use crate::memory::RelayMemory;
use crate::stream::{BreakOff, Stream};
use crate::telemetry::{CloseReason, Progress, TcpReports};

/// How long a client that is not heard may take to end its side, once its server has.
const LINGER: Duration = Duration::from_secs(2);

/// The directions in which a relay carries bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Directions {
    /// Either.
    Both,
    /// To the client alone: nothing that it says is read.
    ToClient,
}

/// Carries bytes between two ends until both halves ended, beginning with what was
/// read of either already. Dropped before, it cuts both, and so does a break of either. What it
/// holds for an end that takes nothing counts in `memory`, which may end it.
pub(crate) fn relay(
    downstream: PrefixedStream,
    upstream: PrefixedStream,
    directions: Directions,
    progress: &Progress,
    timeouts: IdleTimeouts,
    memory: RelayMemory,
) -> impl Future<Output = CloseReason> + Send {
    // Built outside of the future, which would hold it twice: many wait at the same time.
    let mut ends = Ends {
        downstream,
        upstream,
        progress,
        is_finished: false,
        memory,
    };
    async move {
        if directions == Directions::ToClient {
            // Boxed: it is rare, and its size would be part of every relay's.
            return Box::pin(ends.carry_to_client(progress, timeouts)).await;
        }
        let Ends {
            downstream,
            upstream,
            memory,
            ..
        } = &mut ends;
        tokio::select! {
            // First, as it may begin to hold something.
            biased;
            result = carry(downstream, upstream, progress, memory) => match result {
                Ok(()) => {
                    ends.finish();
                    CloseReason::Finished
                }
                Err((reason, error)) => {
                    tracing::debug!(%error, ?reason, "a connection broke");
                    // Boxed: it is rare, and its size would be part of every relay's.
                    Box::pin(ends.break_off()).await;
                    reason
                }
            },
            () = poll_fn(|context| memory.poll_cut(context)) => CloseReason::MemoryExceeded,
            () = progress.idle(timeouts) => CloseReason::IdleTimeout,
        }
    }
}

/// Both ends of a relay; cut when dropped before they have finished.
#[derive(Debug)]
struct Ends<'a> {
    downstream: PrefixedStream,
    upstream: PrefixedStream,
    /// Where it is written down what the kernel knows of both, at last.
    progress: &'a Progress,
    is_finished: bool,
    memory: RelayMemory,
}

impl Ends<'_> {
    /// They have finished in order: dropping them cuts nothing.
    fn finish(&mut self) {
        self.is_finished = true;
    }

    /// Breaks both off behind what was sent: a peer may answer and cut at once.
    async fn break_off(&mut self) {
        let (downstream, upstream) = (&mut self.downstream, &mut self.upstream);
        let both = async {
            tokio::join!(
                poll_fn(|context| downstream.poll_break_off(context)),
                poll_fn(|context| upstream.poll_break_off(context)),
            )
        };
        // A peer that takes nothing doesn't hold up the other's reset.
        let _ = tokio::time::timeout(BREAK_OFF_WITHIN, both).await;
    }

    /// Carries to the client until the server ends.
    async fn carry_to_client(&mut self, progress: &Progress, limits: IdleTimeouts) -> CloseReason {
        let received = progress.receiving();
        progress.sending().end();
        let memory = &self.memory;
        let carrying = async {
            let mut bytes = vec![0; 8 * 1024];
            let size = bytes.len();
            loop {
                let read = self.upstream.read(&mut bytes).await;
                let read = read.map_err(|_| CloseReason::UpstreamReset)?;
                let to_client = &mut self.downstream;
                let written = match read {
                    0 => to_client.shutdown().await,
                    read => {
                        let write = to_client.write_all(&bytes[..read]);
                        memory.while_it_waits(size, write).await
                    }
                };
                written.map_err(|_| CloseReason::DownstreamReset)?;
                received.add(read);
                if read == 0 {
                    return Ok(());
                }
            }
        };
        let carried: Result<(), CloseReason> = tokio::select! {
            // First, as it may begin to hold something.
            biased;
            carried = carrying => carried,
            () = poll_fn(|context| memory.poll_cut(context)) => return CloseReason::MemoryExceeded,
            () = progress.idle(limits) => return CloseReason::IdleTimeout,
        };
        match carried {
            Ok(()) => {
                // One that is still sending would answer what it was told with a reset.
                let mut nowhere = sink();
                let discarding = copy(&mut self.downstream, &mut nowhere);
                let _ = timeout(LINGER, discarding).await;
                self.finish();
                CloseReason::Finished
            }
            Err(reason) => {
                self.break_off().await;
                reason
            }
        }
    }
}

/// Runs both halves, with the code that fits what the two ends are.
async fn carry(
    downstream: &mut PrefixedStream,
    upstream: &mut PrefixedStream,
    progress: &Progress,
    memory: &RelayMemory,
) -> Result<(), (CloseReason, RelayError)> {
    let first_sent = downstream.take_first();
    let first_received = upstream.take_first();
    let sent = progress.sending();
    let received = progress.receiving();
    match (downstream.stream_mut(), upstream.stream_mut()) {
        (Stream::Tcp(downstream), Stream::Tcp(upstream)) => {
            let (from_downstream, to_downstream) = downstream.split();
            let (from_upstream, to_upstream) = upstream.split();
            let sending = tcp_to_tcp(first_sent, from_downstream, to_upstream, sent, memory);
            let receiving = tcp_to_tcp(
                first_received,
                from_upstream,
                to_downstream,
                received,
                memory,
            );
            carry_both(pin!(sending), pin!(receiving)).await
        }
        (Stream::Tcp(downstream), Stream::Tunnel(upstream)) => {
            let (from_downstream, to_downstream) = downstream.split();
            let (from_upstream, to_upstream) = upstream.split();
            let sending = tcp_to_tunnel(first_sent, from_downstream, to_upstream, sent, memory);
            let receiving = tunnel_to_tcp(first_received, from_upstream, to_downstream, received);
            carry_both(pin!(sending), pin!(receiving)).await
        }
        (Stream::Tunnel(downstream), Stream::Tcp(upstream)) => {
            let (from_downstream, to_downstream) = downstream.split();
            let (from_upstream, to_upstream) = upstream.split();
            let sending = tunnel_to_tcp(first_sent, from_downstream, to_upstream, sent);
            let receiving = tcp_to_tunnel(
                first_received,
                from_upstream,
                to_downstream,
                received,
                memory,
            );
            carry_both(pin!(sending), pin!(receiving)).await
        }
        (downstream, upstream) => {
            let (downstream, upstream) = ((first_sent, downstream), (first_received, upstream));
            duplex(downstream, upstream, progress, memory).await
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

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.progress.set_tcp(TcpReports {
            downstream: self.downstream.stream_mut().tcp_report(),
            upstream: self.upstream.stream_mut().tcp_report(),
        });
        if !self.is_finished {
            self.downstream.stream_mut().reset_on_close();
            self.upstream.stream_mut().reset_on_close();
        }
    }
}

#[cfg(test)]
mod tests;
