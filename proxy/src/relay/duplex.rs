//! Between a TCP connection and any other stream of bytes, such as TLS.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::plain::{both, reset_on_close};
use super::{Broken, DirectionProgress, End, IdleTimeouts, Progress, SMALLEST_BUFFER, next_buffer};

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
        let sent = carry(from_downstream, to_upstream, progress.sending());
        let received = carry(from_upstream, to_downstream, progress.receiving());
        tokio::select! {
            end = both(sent, received) => end,
            () = progress.idle(timeouts) => End::IdleTimeout,
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
    progress: DirectionProgress<'_>,
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
        progress.add(read);
        let next = next_buffer(size, read);
        if next < size {
            buffer = Vec::new();
        }
        size = next;
    }
    progress.end();
    // Whoever is there may have closed already, after it sent all it had.
    let _ = sink.shutdown().await;
    Ok(())
}
