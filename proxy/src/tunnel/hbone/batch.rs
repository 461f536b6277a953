//! Writes of one turn, gathered: HTTP/2 writes and flushes frame by frame, which for many
//! small messages would be a TLS record and a system call each.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use crate::sockets::TcpStatistics;

/// Bytes that are gathered at the most. Four TLS records, which one system call takes.
const LARGEST_BATCH: usize = 64 * 1024;
/// The time that the other end has to take what was sent, and to end its side.
const LINGER: Duration = match cfg!(test) {
    // Nothing depends on how busy a machine is.
    true => Duration::from_secs(5),
    false => Duration::from_secs(1),
};
/// Bytes of what it still sends that are read at the most.
const LINGER_BYTES: u64 = 4 << 20;
/// Slices of one write.
const SLICES: usize = 16;

/// The TLS of an HTTP/2 connection. It sends when it is flushed by
/// [`BatchedTls::drive`], not when HTTP/2 asks for that.
#[derive(Clone, Debug)]
pub(super) struct BatchedTls(Arc<Mutex<Batch>>);

/// The same connection, for whoever doesn't keep it open.
#[derive(Debug)]
pub(super) struct WeakTls(Weak<Mutex<Batch>>);

impl WeakTls {
    /// What the kernel knows of the connection, where it is still open.
    pub(super) fn tcp_statistics(&self) -> Option<TcpStatistics> {
        let batch = self.0.upgrade()?;
        let batch = batch.lock().unwrap_or_else(PoisonError::into_inner);
        TcpStatistics::of(batch.tls.get_ref().0)
    }
}

/// A connection, and what waits to be sent on it.
#[derive(Debug)]
struct Batch {
    tls: TlsStream<TcpStream>,
    waiting: BytesMut,
    /// The error of sending what waited, for HTTP/2's next call.
    error: Option<io::Error>,
}

impl BatchedTls {
    /// For a connection whose handshake is done.
    pub(super) fn new(tls: TlsStream<TcpStream>) -> Self {
        Self(Arc::new(Mutex::new(Batch {
            tls,
            waiting: BytesMut::new(),
            error: None,
        })))
    }

    /// The same connection, which that doesn't keep open.
    pub(super) fn downgrade(&self) -> WeakTls {
        WeakTls(Arc::downgrade(&self.0))
    }

    /// Runs a future that writes to this connection. Each time it waits, what it has
    /// written is sent.
    pub(super) async fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|context| {
            let output = future.as_mut().poll(context);
            let mut batch = self.lock();
            if let Poll::Ready(Err(error)) = batch.poll_send(context) {
                batch.error = Some(error);
                context.waker().wake_by_ref();
            }
            output
        })
        .await
    }

    /// Ends the connection behind all that was written, and reads what the other end still sends
    /// until that ends, within bounds. A connection that is closed with something unread is reset,
    /// and what is still on its way to the other end is lost.
    pub(super) async fn close(&self) {
        let mut stream = self.clone();
        let closing = async {
            self.drive(stream.shutdown()).await?;
            let mut rest = stream.take(LINGER_BYTES);
            tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
        };
        match timeout(LINGER, closing).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "closing a tunnel connection"),
            Err(_) => tracing::debug!("a peer's proxy doesn't end its side of a tunnel connection"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Batch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    /// Takes bytes to be sent later, or writes them with what waits, where that is much.
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(error));
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        if self.waiting.len() + offered <= LARGEST_BATCH {
            slices
                .iter()
                .for_each(|slice| self.waiting.extend_from_slice(slice));
            return Poll::Ready(Ok(offered));
        }
        // Without copies, and with what waits in the same records.
        while !self.waiting.is_empty() {
            let mut all = [IoSlice::new(&[]); SLICES];
            all[0] = IoSlice::new(&self.waiting);
            let count = slices.len().min(SLICES - 1);
            all[1..=count].copy_from_slice(&slices[..count]);
            let write = Pin::new(&mut self.tls).poll_write_vectored(context, &all[..=count]);
            let written = ready!(write)?;
            if written > self.waiting.len() {
                let written = written - self.waiting.len();
                self.waiting = BytesMut::new();
                return Poll::Ready(Ok(written));
            }
            self.waiting.advance(written);
        }
        Pin::new(&mut self.tls).poll_write_vectored(context, slices)
    }

    /// Sends what waits.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            match ready!(Pin::new(&mut self.tls).poll_write(context, &self.waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.waiting.advance(written),
            }
        }
        // Nothing is held while nothing is to be sent.
        self.waiting = BytesMut::new();
        Pin::new(&mut self.tls).poll_flush(context)
    }
}

impl AsyncRead for BatchedTls {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut batch = self.lock();
        match batch.error.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut batch.tls).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for BatchedTls {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.lock().poll_write(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.lock().poll_write(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The driver does.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut batch = self.lock();
        ready!(batch.poll_send(context))?;
        Pin::new(&mut batch.tls).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
