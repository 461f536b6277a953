//! One end of a connection that is carried: a TCP connection, TLS that begins or ends
//! here, or a stream of a tunnel.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::sockets::{self, TcpStatistics};
use crate::telemetry::TcpReport;
use crate::tunnel::{TunnelHealth, TunnelStream};

/// One end of a connection.
#[derive(Debug)]
pub(crate) enum Stream {
    /// As the application or the network speaks it.
    Tcp(TcpStream),
    /// Inside TLS that this proxy speaks itself.
    Tls(Box<TlsStream<TcpStream>>),
    /// Inside a tunnel to another proxy.
    Tunnel(TunnelStream),
}

impl Stream {
    /// What is known of what it runs on, for whoever gives the stream away.
    pub(crate) fn health(&self) -> StreamHealth {
        match self {
            Self::Tcp(_) | Self::Tls(_) => StreamHealth::Unknown,
            Self::Tunnel(stream) => StreamHealth::Tunnel(stream.health()),
        }
    }

    /// Closes it so that the peer learns that it broke.
    pub(crate) fn reset(mut self) {
        self.reset_on_close();
    }

    /// Makes its end tell the peer that it broke, not that it finished: RST for TCP when
    /// it is closed, RST_STREAM for a tunnel at once.
    pub(crate) fn reset_on_close(&mut self) {
        match self {
            Self::Tcp(stream) => sockets::reset_on_close(stream),
            Self::Tls(stream) => sockets::reset_on_close(stream.get_ref().0),
            Self::Tunnel(stream) => stream.reset(),
        }
    }

    /// What the kernel knows of the TCP connection that it runs on, asked now.
    pub(crate) fn tcp_report(&self) -> Option<TcpReport> {
        match self {
            Self::Tcp(stream) => TcpStatistics::of(stream).map(TcpReport::whole),
            Self::Tls(stream) => TcpStatistics::of(stream.get_ref().0).map(TcpReport::whole),
            Self::Tunnel(stream) => stream.tcp_report(),
        }
    }

    /// Ready once the peer has cut the stream, though nothing is read from it. Only a
    /// tunnel tells; elsewhere the next read or write does.
    pub(crate) fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        match self {
            Self::Tcp(_) | Self::Tls(_) => Poll::Pending,
            Self::Tunnel(stream) => stream.poll_reset(context),
        }
    }
}

/// What is known of bytes that were sent on a stream whose other end has ended it.
pub(crate) trait SendQueue {
    /// Whether some of them certainly didn't reach whoever reads at the other end, now that
    /// the stream has ended in order.
    fn is_undelivered(&self) -> bool;

    /// Whether a reset says that the other end has not read all of them.
    fn resets_when_unread(&self) -> bool;

    /// Whether certainly none of them was ever received, of those on the whole stream.
    fn is_untouched(&self) -> bool;

    /// Whether the other end says that it has ended although something may have been read that
    /// it hasn't answered.
    fn ends_unanswered(&self) -> bool;
}

/// A stream that can be broken off behind what was sent on it.
pub(crate) trait BreakOff {
    /// Breaks it off. Ready once nothing that was sent is lost when the stream is dropped.
    fn poll_break_off(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Whether the peer's kernel has not received all that was sent, as far as breaking it off
    /// doesn't wait for that.
    fn is_on_its_way(&self) -> bool;

    /// Makes its end tell the peer that it broke, whenever it is dropped; a tunnel that hasn't
    /// finished tells so by itself.
    fn break_on_close(&mut self);

    /// Tells a proxy at the other end, where there is one, that the end that follows is not one
    /// between two requests.
    fn announce_unanswered(&mut self);
}

impl BreakOff for TcpStream {
    /// The kernel sends what it has, and then an end.
    fn poll_break_off(&mut self, _context: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn is_on_its_way(&self) -> bool {
        sockets::is_on_its_way(self)
    }

    fn break_on_close(&mut self) {
        sockets::reset_on_close(self);
    }

    fn announce_unanswered(&mut self) {}
}

impl BreakOff for Stream {
    fn poll_break_off(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tcp(stream) => stream.poll_break_off(context),
            Self::Tls(stream) => stream.get_mut().0.poll_break_off(context),
            Self::Tunnel(stream) => stream.poll_break_off(context),
        }
    }

    fn is_on_its_way(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_on_its_way(),
            Self::Tls(stream) => stream.get_ref().0.is_on_its_way(),
            Self::Tunnel(_) => false,
        }
    }

    fn break_on_close(&mut self) {
        match self {
            Self::Tcp(stream) => stream.break_on_close(),
            Self::Tls(stream) => stream.get_mut().0.break_on_close(),
            Self::Tunnel(_) => {}
        }
    }

    fn announce_unanswered(&mut self) {
        match self {
            Self::Tcp(_) | Self::Tls(_) => {}
            Self::Tunnel(stream) => stream.announce_unanswered(),
        }
    }
}

impl SendQueue for TcpStream {
    fn is_undelivered(&self) -> bool {
        sockets::has_unacknowledged(self)
    }

    fn resets_when_unread(&self) -> bool {
        true
    }

    fn is_untouched(&self) -> bool {
        sockets::is_unread(self)
    }

    fn ends_unanswered(&self) -> bool {
        false
    }
}

impl SendQueue for Stream {
    fn is_undelivered(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_undelivered(),
            Self::Tls(stream) => stream.get_ref().0.is_undelivered(),
            // Of the way behind the other proxy nothing is known.
            Self::Tunnel(_) => false,
        }
    }

    fn resets_when_unread(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Tls(_) => true,
            Self::Tunnel(_) => false,
        }
    }

    fn is_untouched(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_untouched(),
            // The handshake was received, or somebody's request for the tunnel.
            Self::Tls(_) | Self::Tunnel(_) => false,
        }
    }

    fn ends_unanswered(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Tls(_) => false,
            Self::Tunnel(stream) => stream.ends_unanswered(),
        }
    }
}

/// What is known of a stream that somebody else reads and writes.
#[derive(Clone, Debug)]
pub(crate) enum StreamHealth {
    /// Only reading and writing tell.
    Unknown,
    /// What its tunnel connection knows.
    Tunnel(TunnelHealth),
}

impl StreamHealth {
    /// Whether what the stream runs on takes nothing new, so that it should go once it is
    /// idle.
    pub(crate) fn is_draining(&self) -> bool {
        match self {
            Self::Unknown => false,
            Self::Tunnel(health) => health.is_draining(),
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<TunnelStream> for Stream {
    fn from(stream: TunnelStream) -> Self {
        Self::Tunnel(stream)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tunnel(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tunnel(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tunnel(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Tunnel(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Tunnel(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tunnel(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
