//! What HTTP to a destination runs on: a TCP connection, or a stream of a tunnel.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::hbone::client::{Place, Tunnel};
use crate::inbound::same_node::{Carried, HandedOver};
use crate::net::Net;
use crate::shared::Shared;

/// Bytes that one write hands to a tunnel at the most.
const LARGEST_WRITE: usize = 64 * 1024;

/// A connected destination.
#[derive(Debug)]
pub(crate) struct UpstreamStream {
    transport: Transport,
    held: Held,
}

#[derive(Debug)]
enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Tunnel(TunnelStream),
}

/// What lasts as long as the stream.
#[derive(Debug)]
enum Held {
    Nothing,
    /// Its place on the tunnel's connection.
    Place(#[allow(dead_code, reason = "held for its drop")] Place),
    /// The record of the pod of this node that took it.
    SameNode(Box<Carried>),
}

impl UpstreamStream {
    /// Over TCP.
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        Self {
            transport: Transport::Tcp(stream),
            held: Held::Nothing,
        }
    }

    /// By TLS that begins here.
    pub(crate) fn tls(stream: Box<TlsStream<TcpStream>>) -> Self {
        Self {
            transport: Transport::Tls(stream),
            held: Held::Nothing,
        }
    }

    /// Through a tunnel.
    pub(crate) fn tunnel(tunnel: Tunnel) -> Self {
        let (send, receive) = tunnel.streams;
        let unread = Bytes::new();
        Self {
            transport: Transport::Tunnel(TunnelStream {
                send,
                receive,
                unread,
            }),
            held: Held::Place(tunnel.place),
        }
    }

    /// To the application of a pod of this node.
    pub(crate) fn same_node<N: Net>(handed: HandedOver<N>, shared: &Arc<Shared<N>>) -> Self {
        let (application, carried) = handed.into_parts(shared);
        Self {
            transport: Transport::Tcp(application),
            held: Held::SameNode(Box::new(carried)),
        }
    }

    fn wrote(&self, written: &io::Result<usize>) {
        if let (Held::SameNode(carried), Ok(written)) = (&self.held, written) {
            carried.progress().add_sent(*written);
        }
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Held::SameNode(carried) = &mut self.held
            && carried.poll_cut(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let before = buffer.filled().len();
        ready!(match &mut self.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tunnel(stream) => stream.poll_read(context, buffer),
        })?;
        let read = buffer.filled().len() - before;
        if let Held::SameNode(carried) = &self.held {
            carried.progress().add_received(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(match &mut self.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tunnel(stream) => stream.poll_write(context, &[IoSlice::new(bytes)]),
        });
        self.wrote(&written);
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(match &mut self.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Transport::Tunnel(stream) => stream.poll_write(context, slices),
        });
        self.wrote(&written);
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
            // The connection's own task sends.
            Transport::Tunnel(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tunnel(stream) => {
                Poll::Ready(stream.send.send_data(Bytes::new(), true).map_err(broken))
            }
        }
    }
}

/// A stream of a tunnel as a stream of bytes.
#[derive(Debug)]
struct TunnelStream {
    send: SendStream<Bytes>,
    receive: RecvStream,
    /// Of the frame that was received last.
    unread: Bytes,
}

impl TunnelStream {
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(self.receive.poll_data(context)) {
                Some(Ok(data)) => self.unread = data,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let part = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..part]);
        self.unread.advance(part);
        // The window opens as far as was read: back-pressure.
        let released = self.receive.flow_control().release_capacity(part);
        Poll::Ready(released.map_err(broken))
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        self.send.reserve_capacity(wanted.min(LARGEST_WRITE));
        while self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let mut left = wanted.min(LARGEST_WRITE).min(self.send.capacity());
        let mut data = BytesMut::with_capacity(left);
        for slice in slices {
            let part = left.min(slice.len());
            data.extend_from_slice(&slice[..part]);
            left -= part;
        }
        let written = data.len();
        let sent = self.send.send_data(data.freeze(), false);
        Poll::Ready(sent.map(|()| written).map_err(broken))
    }
}

fn broken(error: h2::Error) -> io::Error {
    match error.get_io() {
        Some(cause) => io::Error::new(cause.kind(), error),
        None => io::Error::new(io::ErrorKind::ConnectionReset, error),
    }
}
