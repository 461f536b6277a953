//! One outgoing HBONE connection, shared by many tunnels.

use std::sync::Arc;
use std::time::Duration;

use h2::client::{Connection, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Request, Response, StatusCode};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use super::batch::BatchedTls;
use super::keepalive::until_unanswered;
use super::limits::{
    FRAME_SIZE, HEADER_LIST, MOST_STREAM_ERRORS, REMEMBERED_RESETS, RESETS_REMEMBERED_FOR,
    SEND_BUFFER, STREAMS_PER_CONNECTION, WINDOWS,
};
use super::stream::{HboneReceiver, HboneSender, HboneSlot, StreamPermit, Streams};
use crate::admission::DescriptorShare;
use crate::memory::{MeteredData, MeteredStream, PodMemory};
use crate::tls::handshake;
use crate::tls::revocation::{Revocations, ShownCertificates};
use crate::tunnel::error::TunnelError;
use crate::tunnel::stream::TunnelStream;

/// A live connection to a peer's proxy. Dropped, it ends once its last stream has.
#[derive(Debug)]
pub(crate) struct HboneClient {
    requests: SendRequest<MeteredData>,
    streams: Arc<Streams>,
}

/// A permit for one more stream on a connection.
#[derive(Debug)]
pub(crate) struct ReservedStream {
    requests: SendRequest<MeteredData>,
    permit: StreamPermit,
}

/// How long a connection may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionTimes {
    /// How long it lives without a stream.
    pub(crate) idle: Duration,
    /// How long a head on it may take; any time if `None`.
    pub(crate) head: Option<Duration>,
}

impl HboneClient {
    /// Handshakes over a TCP connection and starts driving it. What it holds counts in `memory`.
    /// It ends when a certificate of the peer's is revoked, and is among the tasks of
    /// `driven_by` until it is closed.
    ///
    /// # Errors
    /// When the peer is not who it should be, or breaks the protocol.
    pub(crate) async fn handshake(
        tcp: TcpStream,
        config: Arc<rustls::ClientConfig>,
        times: ConnectionTimes,
        memory: &Arc<PodMemory>,
        descriptor: DescriptorShare,
        revocations: Revocations,
        driven_by: &TaskTracker,
    ) -> Result<Self, TunnelError> {
        let tls = handshake::connect(tcp, config).await;
        let tls = tls.map_err(TunnelError::Tls)?;
        let shown = ShownCertificates::of(tls.get_ref().1.peer_certificates())?;
        shown.verify(&revocations)?;
        let tls = BatchedTls::new(tls.into());
        let (windows, memory) = (memory.windows(WINDOWS), memory.connection());
        let counted = Arc::clone(&memory);
        let metered = MeteredStream::of_tunnels(tls.clone(), counted, windows.stream, times.head);
        let handshake = h2::client::Builder::new()
            .initial_window_size(windows.stream)
            .initial_connection_window_size(windows.connection())
            .max_frame_size(FRAME_SIZE)
            .max_header_list_size(HEADER_LIST)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .reset_stream_duration(RESETS_REMEMBERED_FOR)
            .max_local_error_reset_streams(Some(MOST_STREAM_ERRORS))
            .enable_push(false)
            .handshake(metered);
        let (requests, connection) = tls.drive(handshake).await?;
        let streams = Arc::new(Streams::new(memory, tls.downgrade()));
        let driven = Arc::clone(&streams);
        driven_by.spawn(async move {
            let is_answered = tokio::select! {
                is_answered = drive(connection, &tls, &driven, times.idle) => is_answered,
                reason = shown.until_revoked(revocations) => {
                    tracing::warn!(%reason, "ended the tunnels to a server");
                    false
                }
            };
            driven.close();
            if is_answered {
                tls.close().await;
            }
            drop(descriptor);
        });
        Ok(Self { requests, streams })
    }

    /// Whether it can't take streams any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.streams.is_closed()
    }

    /// A permit for one more stream, unless the connection is full or closed.
    pub(crate) fn reserve(&self) -> Option<ReservedStream> {
        if self.is_closed() {
            return None;
        }
        let allowed = self.requests.current_max_send_streams();
        let permit = self.streams.reserve(allowed.min(STREAMS_PER_CONNECTION))?;
        Some(ReservedStream {
            requests: self.requests.clone(),
            permit,
        })
    }
}

impl ReservedStream {
    /// Opens the stream. The answer 200 means that the destination is connected.
    ///
    /// # Errors
    /// When the peer refuses, or the connection breaks.
    pub(crate) async fn open(self, request: Request<()>) -> Result<TunnelStream, TunnelError> {
        let Self { requests, permit } = self;
        match exchange(requests.clone(), request).await {
            Ok((response, send)) if response.status() == StatusCode::OK => {
                let receiver = HboneReceiver::new(response.into_body());
                let sender = HboneSender::new(send, permit.memory());
                let slot = HboneSlot {
                    permit,
                    requests: Some(requests),
                };
                Ok(TunnelStream::hbone(receiver, sender, slot))
            }
            Ok((response, _)) => Err(TunnelError::Refused(response.status())),
            Err(error) => {
                permit.streams().close();
                Err(error.into())
            }
        }
    }
}

async fn exchange(
    requests: SendRequest<MeteredData>,
    request: Request<()>,
) -> Result<(Response<RecvStream>, SendStream<MeteredData>), h2::Error> {
    let mut requests = requests.ready().await?;
    let (response, send) = requests.send_request(request, false)?;
    Ok((response.await?, send))
}

/// Runs the connection until the peer ends it, stops answering, or nobody uses it. False when
/// it doesn't answer.
async fn drive(
    mut connection: Connection<MeteredStream<BatchedTls>, MeteredData>,
    tls: &BatchedTls,
    streams: &Streams,
    idle: Duration,
) -> bool {
    let unanswered = until_unanswered(connection.ping_pong());
    tokio::select! {
        result = tls.drive(connection) => {
            if let Err(error) = result {
                tracing::debug!(%error, "tunnel connection ended");
            }
            true
        }
        () = unanswered => {
            tracing::info!("a peer's proxy stopped answering; its connection is given up");
            false
        }
        () = until_unused(streams, idle) => true,
    }
}

/// Resolves once no stream was open for at least half of `idle`, and at most all of it.
async fn until_unused(streams: &Streams, idle: Duration) {
    let mut was_unused = false;
    loop {
        tokio::time::sleep(idle / 2).await;
        let is_unused = streams.open() == 0;
        if is_unused && was_unused {
            return;
        }
        was_unused = is_unused;
    }
}
