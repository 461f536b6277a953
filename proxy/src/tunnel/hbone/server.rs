//! One accepted HBONE connection, and the requests for tunnels that arrive on it.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};
use http::{Request, Response, StatusCode};
use tokio::time::Sleep;

use super::batch::BatchedTls;
use super::keepalive::until_unanswered;
use super::limits::{
    FRAME_SIZE, HEADER_LIST, MAX_STREAMS, MOST_STREAM_ERRORS, REMEMBERED_RESETS,
    RESETS_REMEMBERED_FOR, SEND_BUFFER, WINDOWS, server_age,
};
use super::request::{self, InvalidTunnelRequest};
use super::stream::{HboneReceiver, HboneSender, HboneSlot, StreamPermit, Streams};
use crate::memory::{MeteredData, MeteredStream, PodMemory};
use crate::tls::handshake::ServerTls;
use crate::tunnel::error::TunnelError;
use crate::tunnel::stream::TunnelStream;

/// An accepted connection. It moves only while [`HboneServer::accept`] is awaited, its
/// streams too; dropped, it cuts them.
pub(crate) struct HboneServer {
    connection: Connection<MeteredStream<BatchedTls>, MeteredData>,
    tls: BatchedTls,
    /// Resolves when the connection is too old for new streams.
    aged: Pin<Box<Sleep>>,
    /// Resolves when the peer does not answer pings any more.
    unanswered: Pin<Box<dyn Future<Output = ()> + Send>>,
    streams: Arc<Streams>,
    is_shutting_down: bool,
    has_ended: bool,
}

/// A request for a tunnel. Dropped without an answer, its stream is reset.
#[derive(Debug)]
pub(crate) struct TunnelRequest {
    request: Request<RecvStream>,
    respond: SendResponse<MeteredData>,
    permit: StreamPermit,
}

impl HboneServer {
    /// Begins HTTP/2 on a connection whose TLS is there. What it holds counts in `memory`; a head
    /// on it may take `head_time`.
    ///
    /// # Errors
    /// When the client doesn't speak HTTP/2.
    pub(crate) async fn handshake(
        tls: ServerTls,
        memory: &Arc<PodMemory>,
        head_time: Option<Duration>,
    ) -> Result<Self, TunnelError> {
        let tls = BatchedTls::new(tls.into());
        let (windows, memory) = (memory.windows(WINDOWS), memory.connection());
        let counted = Arc::clone(&memory);
        let metered = MeteredStream::of_tunnels(tls.clone(), counted, windows.stream, head_time);
        let mut handshake = Builder::new();
        let handshake = handshake
            .initial_window_size(windows.stream)
            .initial_connection_window_size(windows.connection())
            .max_frame_size(FRAME_SIZE)
            .max_header_list_size(HEADER_LIST)
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .reset_stream_duration(RESETS_REMEMBERED_FOR)
            .max_local_error_reset_streams(Some(MOST_STREAM_ERRORS))
            .max_pending_accept_reset_streams(MAX_STREAMS as usize)
            .handshake(metered);
        let mut connection = tls.drive(handshake).await?;
        let tcp = tls.downgrade();
        let unanswered = Box::pin(until_unanswered(connection.ping_pong()));
        Ok(Self {
            connection,
            tls,
            aged: Box::pin(tokio::time::sleep(server_age(fastrand::f64()))),
            unanswered,
            streams: Arc::new(Streams::new(memory, tcp)),
            is_shutting_down: false,
            has_ended: false,
        })
    }

    /// The next request for a tunnel; drives the connection meanwhile. `None` once the
    /// connection has ended, or its client answers no pings any more. An old one ends after the
    /// last stream of its own. Cancel-safe.
    ///
    /// # Errors
    /// When the client broke the protocol or the connection; nothing follows.
    pub(crate) async fn accept(&mut self) -> Option<Result<TunnelRequest, TunnelError>> {
        if self.has_ended {
            return None;
        }
        if self.streams.is_closed() && !self.is_shutting_down {
            self.graceful_shutdown();
        }
        let accepted = loop {
            let accepted = tokio::select! {
                accepted = self.tls.drive(self.connection.accept()) => Some(accepted),
                () = &mut self.unanswered => Some(None),
                () = &mut self.aged, if !self.is_shutting_down => None,
            };
            match accepted {
                Some(accepted) => break accepted,
                None => self.graceful_shutdown(),
            }
        };
        self.has_ended = !matches!(accepted, Some(Ok(_)));
        Some(accepted?.map_err(TunnelError::from).map(|accepted| {
            let (request, respond) = accepted;
            TunnelRequest {
                request,
                respond,
                permit: self.streams.add(),
            }
        }))
    }

    /// Closes the connection once it has ended: what the client still sends is read, within bounds,
    /// so that it gets all that it was sent.
    pub(crate) async fn close(self) {
        let Self {
            connection, tls, ..
        } = self;
        drop(connection);
        tls.close().await;
    }

    /// Tells the client to open no further streams (GOAWAY; RFC 9113 section 6.8). Those
    /// that are open go on, and [`HboneServer::accept`] returns `None` after the last.
    pub(crate) fn graceful_shutdown(&mut self) {
        self.streams.close();
        self.is_shutting_down = true;
        self.connection.graceful_shutdown();
    }
}

impl TunnelRequest {
    /// The destination that the client wants to be connected to.
    ///
    /// # Errors
    /// When the request opens no tunnel.
    pub(crate) fn destination(&self) -> Result<SocketAddr, InvalidTunnelRequest> {
        request::destination(self.request.method(), self.request.uri())
    }

    /// The application's end of the connection, as far as the proxy at `peer` can vouch
    /// for it.
    pub(crate) fn forwarded_client(&self, peer: IpAddr) -> Option<SocketAddr> {
        request::forwarded_client(self.request.headers(), peer)
    }

    /// Answers that the destination is connected; the bytes that follow are the
    /// application's.
    ///
    /// # Errors
    /// When the client has gone.
    pub(crate) fn accept(mut self) -> Result<TunnelStream, TunnelError> {
        let send = self.respond.send_response(Response::new(()), false)?;
        let receiver = HboneReceiver::new(self.request.into_body());
        let sender = HboneSender::new(send, self.permit.memory());
        let slot = HboneSlot {
            permit: self.permit,
            requests: None,
        };
        Ok(TunnelStream::hbone(receiver, sender, slot))
    }

    /// Answers that the tunnel is not opened.
    pub(crate) fn refuse(mut self, status: StatusCode) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        if let Err(error) = self.respond.send_response(response, true) {
            tracing::debug!(%error, "a client was gone before its tunnel was refused");
        }
    }
}

#[cfg(test)]
mod tests;
