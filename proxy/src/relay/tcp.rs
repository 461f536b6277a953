//! From one TCP connection to another.

use std::future::poll_fn;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::buffer::ReadBuffer;
use super::error::RelayError;
use crate::detect::FirstBytes;
use crate::memory::RelayMemory;
use crate::telemetry::DirectionProgress;

/// Carries the first bytes and what `source` brings to `sink`, then the end.
///
/// # Errors
/// When either connection breaks.
pub(super) async fn tcp_to_tcp(
    first: FirstBytes,
    mut source: ReadHalf<'_>,
    mut sink: WriteHalf<'_>,
    progress: DirectionProgress<'_>,
    memory: &RelayMemory,
) -> Result<(), RelayError> {
    let mut buffer = ReadBuffer::new(first.bytes);
    let write = write_all(&mut sink, &buffer.bytes, progress);
    memory.while_it_waits(buffer.size(), write).await?;
    if let Some(error) = first.error {
        return Err(RelayError::Read(error));
    }
    loop {
        let read = poll_fn(|context| buffer.poll_fill(context, &mut source)).await;
        if read.map_err(RelayError::Read)? == 0 {
            break;
        }
        let write = write_all(&mut sink, &buffer.bytes, progress);
        memory.while_it_waits(buffer.size(), write).await?;
    }
    progress.end();
    finish(&mut sink).await;
    Ok(())
}

/// Writes and counts all of these bytes.
///
/// # Errors
/// When the connection breaks.
pub(super) async fn write_all(
    sink: &mut WriteHalf<'_>,
    bytes: &[u8],
    progress: DirectionProgress<'_>,
) -> Result<(), RelayError> {
    sink.write_all(bytes).await.map_err(RelayError::Write)?;
    progress.add(bytes.len());
    Ok(())
}

/// Passes the end on. Whoever is there may have closed already, after it sent all it had:
/// that is no break.
pub(super) async fn finish(sink: &mut WriteHalf<'_>) {
    if let Err(error) = sink.shutdown().await {
        tracing::debug!(%error, "passing on the end of a connection");
    }
}
