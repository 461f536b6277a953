//! Between a TCP connection and a stream of an HTTP/2 tunnel.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::IoSlice;
use std::task::Poll;

use bytes::{Buf, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::plain::reset_on_close;
use super::{
    Broken, DirectionProgress, End, IdleTimeouts, Progress, SMALLEST_BUFFER, next_buffer,
    would_block,
};

/// Bytes taken from the tunnel before they are written to the socket, at most. One
/// system call then serves several frames.
const GATHER: usize = 256 * 1024;
/// Slices that one vectored write takes.
const SLICES: usize = 64;

/// Which end of the relay the TCP connection is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TcpSide {
    /// It was accepted; the tunnel leads to the destination.
    Downstream,
    /// It was dialled; the tunnel brought the connection here.
    Upstream,
}

/// Carries bytes between a TCP connection and a tunnel stream until both directions
/// ended. RST becomes RST_STREAM and back (RFC 9113 section 8.5).
pub(crate) async fn relay_stream(
    mut tcp: TcpStream,
    side: TcpSide,
    (mut send, mut receive): (SendStream<Bytes>, RecvStream),
    progress: &Progress,
    timeouts: IdleTimeouts,
) -> End {
    let (into_tunnel, out_of_tunnel) = match side {
        TcpSide::Downstream => (progress.sending(), progress.receiving()),
        TcpSide::Upstream => (progress.receiving(), progress.sending()),
    };
    let (tcp_reset, tunnel_reset) = match side {
        TcpSide::Downstream => (End::DownstreamReset, End::UpstreamReset),
        TcpSide::Upstream => (End::UpstreamReset, End::DownstreamReset),
    };
    let end = {
        let (source, sink) = tcp.split();
        let up = async {
            let result = to_tunnel(source, &mut send, into_tunnel).await;
            result.map_err(|broken| match broken {
                Broken::Source => tcp_reset,
                Broken::Sink => tunnel_reset,
            })
        };
        let down = async {
            let result = from_tunnel(&mut receive, sink, out_of_tunnel).await;
            result.map_err(|broken| match broken {
                Broken::Source => tunnel_reset,
                Broken::Sink => tcp_reset,
            })
        };
        tokio::select! {
            result = async { tokio::try_join!(up, down) } => match result {
                Ok(_) => End::Finished,
                Err(end) => end,
            },
            () = progress.idle(timeouts) => End::IdleTimeout,
        }
    };
    if end != End::Finished {
        send.send_reset(Reason::CANCEL);
        reset_on_close(&tcp);
    }
    end
}

async fn to_tunnel(
    source: ReadHalf<'_>,
    tunnel: &mut SendStream<Bytes>,
    progress: DirectionProgress<'_>,
) -> Result<(), Broken> {
    let mut size = SMALLEST_BUFFER;
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(size);
        let read = match source.try_read_buf(&mut buffer) {
            Ok(read) => read,
            Err(error) if would_block(&error) => {
                buffer = BytesMut::new();
                tokio::select! {
                    ready = source.readable() => ready.map_err(|_| Broken::Source)?,
                    // The peer may cut the stream while the application is silent.
                    _ = poll_fn(|context| tunnel.poll_reset(context)) => return Err(Broken::Sink),
                }
                continue;
            }
            Err(_) => return Err(Broken::Source),
        };
        if read == 0 {
            break;
        }
        send_all(tunnel, buffer.split().freeze()).await?;
        progress.add(read);
        size = next_buffer(size, read);
    }
    progress.end();
    tunnel
        .send_data(Bytes::new(), true)
        .map_err(|_| Broken::Sink)
}

/// Hands data to the tunnel as its windows allow; waits while they are closed.
async fn send_all(tunnel: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), Broken> {
    while !data.is_empty() {
        tunnel.reserve_capacity(data.len());
        while tunnel.capacity() == 0 {
            match poll_fn(|context| tunnel.poll_capacity(context)).await {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Broken::Sink),
            }
        }
        let part = data.split_to(tunnel.capacity().min(data.len()));
        tunnel.send_data(part, false).map_err(|_| Broken::Sink)?;
    }
    Ok(())
}

async fn from_tunnel(
    tunnel: &mut RecvStream,
    mut sink: WriteHalf<'_>,
    progress: DirectionProgress<'_>,
) -> Result<(), Broken> {
    let mut queue = VecDeque::new();
    loop {
        let more = gather(tunnel, &mut queue).await?;
        let gathered: usize = queue.iter().map(Bytes::len).sum();
        write_all(&mut sink, &mut queue).await?;
        progress.add(gathered);
        // The window opens only as far as the application has read: back-pressure.
        if gathered > 0 && tunnel.flow_control().release_capacity(gathered).is_err() {
            return Err(Broken::Source);
        }
        if !more {
            break;
        }
    }
    progress.end();
    // The application may have closed already, after it sent all it had.
    let _ = sink.shutdown().await;
    Ok(())
}

/// Waits for data, then takes what else is there. False when the tunnel has ended.
async fn gather(tunnel: &mut RecvStream, queue: &mut VecDeque<Bytes>) -> Result<bool, Broken> {
    let mut gathered = 0;
    poll_fn(|context| {
        loop {
            match tunnel.poll_data(context) {
                Poll::Ready(Some(Ok(data))) => {
                    gathered += data.len();
                    queue.push_back(data);
                    if gathered >= GATHER || queue.len() >= SLICES {
                        return Poll::Ready(Ok(true));
                    }
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Broken::Source)),
                Poll::Ready(None) => return Poll::Ready(Ok(false)),
                Poll::Pending if gathered == 0 => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Ok(true)),
            }
        }
    })
    .await
}

async fn write_all(sink: &mut WriteHalf<'_>, queue: &mut VecDeque<Bytes>) -> Result<(), Broken> {
    while let Some(first) = queue.front() {
        if first.is_empty() {
            queue.pop_front();
            continue;
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        for (slice, data) in slices.iter_mut().zip(queue.iter()) {
            *slice = IoSlice::new(data);
        }
        let count = queue.len().min(SLICES);
        let mut written = sink
            .write_vectored(&slices[..count])
            .await
            .map_err(|_| Broken::Sink)?;
        if written == 0 {
            return Err(Broken::Sink);
        }
        while let Some(front) = queue.front_mut().filter(|_| written > 0) {
            let part = written.min(front.len());
            front.advance(part);
            written -= part;
            if front.is_empty() {
                queue.pop_front();
            }
        }
    }
    Ok(())
}
