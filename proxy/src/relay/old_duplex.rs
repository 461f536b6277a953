//! Between a TCP connection and any other stream of bytes, such as TLS.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::plain::both;
use super::{Broken, End, IdleTimeouts, Progress, SMALLEST_BUFFER, next_buffer};
use crate::sockets::reset_on_close;

/// Carries bytes between `downstream` and `upstream` until both directions ended. A
/// stream that ends without having said so (RFC 8446 section 6.1) was cut, and so is the
/// other side.
pub(crate) async fn relay_duplex<S: AsyncRead + AsyncWrite + Unpin>(
    mut downstream: TcpStream,
    upstream: S,
    progress: &Progress,
    timeouts: IdleTimeouts,
) -> End {
    let end = {
        let (from_downstream, to_downstream) = downstream.split();
        let (from_upstream, to_upstream) = tokio::io::split(upstream);
        let ended = &progress.ended;
        let sent = carry(from_downstream, to_upstream, &progress.sent, ended);
        let received = carry(from_upstream, to_downstream, &progress.received, ended);
        tokio::select! {
            end = both(sent, received) => end,
            () = progress.idle(timeouts) => End::Idle,
        }
    };
    if end != End::Finished {
        reset_on_close(&downstream);
    }
    end
}

async fn carry(
    mut source: impl AsyncRead + Unpin,
    mut sink: impl AsyncWrite + Unpin,
    counter: &AtomicU64,
    ended: &AtomicU64,
) -> Result<(), Broken> {
    let (mut size, mut buffer) = (SMALLEST_BUFFER, Vec::new());
    loop {
        buffer.clear();
        buffer.reserve_exact(size);
        let mut limited = (&mut source).take(size as u64);
        let read = limited
            .read_buf(&mut buffer)
            .await
            .map_err(|_| Broken::Source)?;
        if read == 0 {
            break;
        }
        sink.write_all(&buffer).await.map_err(|_| Broken::Sink)?;
        // Streams with buffers of their own would keep the rest until more comes.
        sink.flush().await.map_err(|_| Broken::Sink)?;
        counter.fetch_add(read as u64, Ordering::Relaxed);
        let next = next_buffer(size, read);
        if next < size {
            buffer = Vec::new();
        }
        size = next;
    }
    ended.fetch_add(1, Ordering::Relaxed);
    // Whoever is there may have closed already, after it sent all it had.
    let _ = sink.shutdown().await;
    Ok(())
}
