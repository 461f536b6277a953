//! Between two TCP connections.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

pub(crate) use crate::sockets::reset_on_close;

use super::{Broken, End, IdleTimeouts, Progress, SMALLEST_BUFFER, next_buffer, would_block};

/// Carries bytes between `downstream` and `upstream` until both directions ended.
/// A reset of one is a reset of the other.
pub(crate) async fn relay_plain(
    mut downstream: TcpStream,
    mut upstream: TcpStream,
    progress: &Progress,
    timeouts: IdleTimeouts,
) -> End {
    let end = {
        let (from_downstream, to_downstream) = downstream.split();
        let (from_upstream, to_upstream) = upstream.split();
        let sent = carry(
            from_downstream,
            to_upstream,
            &progress.sent,
            &progress.ended,
        );
        let received = carry(
            from_upstream,
            to_downstream,
            &progress.received,
            &progress.ended,
        );
        tokio::select! {
            result = both(sent, received) => result,
            () = progress.idle(timeouts) => End::Idle,
        }
    };
    if end != End::Finished {
        reset_on_close(&downstream);
        reset_on_close(&upstream);
    }
    end
}

/// Runs both directions to their ends; a break of either ends both.
pub(super) async fn both(
    sent: impl Future<Output = Result<(), Broken>>,
    received: impl Future<Output = Result<(), Broken>>,
) -> End {
    let sent = async {
        sent.await.map_err(|broken| match broken {
            Broken::Source => End::DownstreamReset,
            Broken::Sink => End::UpstreamReset,
        })
    };
    let received = async {
        received.await.map_err(|broken| match broken {
            Broken::Source => End::UpstreamReset,
            Broken::Sink => End::DownstreamReset,
        })
    };
    match tokio::try_join!(sent, received) {
        Ok(((), ())) => End::Finished,
        Err(end) => end,
    }
}

async fn carry(
    source: ReadHalf<'_>,
    mut sink: WriteHalf<'_>,
    counter: &AtomicU64,
    ended: &AtomicU64,
) -> Result<(), Broken> {
    let mut size = SMALLEST_BUFFER;
    let mut buffer = Vec::new();
    loop {
        let read = match source.try_read_buf(&mut buffer_of(&mut buffer, size)) {
            Ok(read) => read,
            Err(error) if would_block(&error) => {
                // An idle connection holds no buffer.
                buffer = Vec::new();
                source.readable().await.map_err(|_| Broken::Source)?;
                continue;
            }
            Err(_) => return Err(Broken::Source),
        };
        if read == 0 {
            break;
        }
        sink.write_all(&buffer).await.map_err(|_| Broken::Sink)?;
        counter.fetch_add(read as u64, Ordering::Relaxed);
        size = next_buffer(size, read);
    }
    ended.fetch_add(1, Ordering::Relaxed);
    finish(&mut sink).await
}

/// An empty buffer of at least that size.
fn buffer_of(buffer: &mut Vec<u8>, size: usize) -> &mut Vec<u8> {
    buffer.clear();
    buffer.reserve(size);
    buffer
}

/// Passes the end on. The other side may be gone already, after it sent all it had:
/// that is no break.
async fn finish(sink: &mut WriteHalf<'_>) -> Result<(), Broken> {
    match sink.shutdown().await {
        Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(Broken::Sink),
        _ => Ok(()),
    }
}
