//! One outgoing HBONE connection: dialled, then shared by many tunnels.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection as H2Connection, SendRequest};
use h2::{RecvStream, SendStream};
use http::Request;
use http::StatusCode;
use tokio::net::TcpStream;

use super::{
    CONNECTION_WINDOW, FRAME_SIZE, HEADER_LIST, SEND_BUFFER, STREAM_WINDOW, STREAMS_PER_CONNECTION,
    keepalive,
};
use crate::tls::handshake::{self, ClientTls};

/// How long TCP, TLS and HTTP/2 may take to be ready.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a tunnel could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// No TCP connection to the peer's proxy.
    #[error("connecting to the peer's proxy: {0}")]
    Connect(io::Error),
    /// The handshake failed, or the peer is not who it should be.
    #[error("TLS with the peer's proxy: {}", crate::tls::handshake_failure(.0))]
    Tls(io::Error),
    /// Our own certificate is not there yet.
    #[error(
        "no certificate for this workload yet; see the agent's log for why it could not be obtained"
    )]
    NoCertificate,
    /// Our own certificate can't be used.
    #[error("this workload's certificate can't be used: {0}")]
    Certificate(#[from] rustls::Error),
    /// The peer broke the protocol or the connection.
    #[error("HTTP/2 with the peer's proxy: {0}")]
    Http2(#[from] h2::Error),
    /// The request could not be built.
    #[error("the tunnel request: {0}")]
    Request(#[from] http::Error),
    /// The peer's proxy answered, but would not open the tunnel.
    #[error("the peer's proxy refused the tunnel with status {0}")]
    Refused(StatusCode),
    /// It took too long.
    #[error("the peer's proxy did not answer in time")]
    Timeout,
}

/// A live connection to a peer's proxy.
#[derive(Debug)]
pub(crate) struct Connection {
    requests: SendRequest<Bytes>,
    tunnels: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
}

/// An open tunnel: both halves of its stream, and its place on the connection.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) streams: (SendStream<Bytes>, RecvStream),
    pub(crate) place: Place,
    /// Its connection, to see whether that is on its way out.
    pub(crate) requests: SendRequest<Bytes>,
}

/// One tunnel's place on a connection; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    tunnels: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
}

impl Place {
    /// No more tunnels on this connection.
    pub(crate) fn retire(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tunnels.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Connection {
    /// Handshakes over a TCP connection and starts driving it. `idle` is how long it
    /// lives without a tunnel.
    pub(crate) async fn establish(
        tcp: TcpStream,
        config: Arc<rustls::ClientConfig>,
        idle: Duration,
    ) -> Result<Self, TunnelError> {
        crate::sockets::set_data_path_options(&tcp);
        let tls = handshake::connect(tcp, config).await;
        let tls = tls.map_err(TunnelError::Tls)?;
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_SIZE)
            .max_header_list_size(HEADER_LIST)
            .max_send_buffer_size(SEND_BUFFER)
            .enable_push(false)
            .handshake(tls)
            .await?;
        let (tunnels, closed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let used = Arc::clone(&tunnels);
        let done = Arc::clone(&closed);
        tokio::spawn(async move {
            drive(connection, &used, idle).await;
            done.store(true, Ordering::Release);
        });
        Ok(Self {
            requests,
            tunnels,
            closed,
        })
    }

    /// Whether it can't take tunnels any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Takes a place for one more tunnel, unless it is full or closed.
    pub(crate) fn reserve(&self) -> Option<(SendRequest<Bytes>, Place)> {
        let limit = self
            .requests
            .current_max_send_streams()
            .min(STREAMS_PER_CONNECTION);
        if self.is_closed() {
            return None;
        }
        let taken = self
            .tunnels
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < limit).then_some(taken + 1)
            });
        let place = || Place {
            tunnels: Arc::clone(&self.tunnels),
            closed: Arc::clone(&self.closed),
        };
        taken.ok().map(|_| (self.requests.clone(), place()))
    }
}

/// Opens a tunnel on a reserved place. The answer 200 means that the destination is
/// connected.
pub(crate) async fn open(
    (requests, place): (SendRequest<Bytes>, Place),
    request: Request<()>,
) -> Result<Tunnel, TunnelError> {
    match exchange(requests.clone(), request).await {
        Ok((response, send)) if response.status() == StatusCode::OK => Ok(Tunnel {
            streams: (send, response.into_body()),
            place,
            requests,
        }),
        Ok((response, _)) => Err(TunnelError::Refused(response.status())),
        Err(error) => {
            place.retire();
            Err(error.into())
        }
    }
}

async fn exchange(
    requests: SendRequest<Bytes>,
    request: Request<()>,
) -> Result<(http::Response<RecvStream>, SendStream<Bytes>), h2::Error> {
    let mut requests = requests.ready().await?;
    let (response, send) = requests.send_request(request, false)?;
    Ok((response.await?, send))
}

impl TunnelError {
    /// Whether the peer certainly did nothing with the request, so that it may be sent
    /// again: the connection was on its way out (GOAWAY, REFUSED_STREAM; RFC 9113
    /// section 8.7) or broke before an answer.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Http2(error) => {
                error.is_go_away()
                    || error.is_io()
                    || error.reason() == Some(h2::Reason::REFUSED_STREAM)
            }
            _ => false,
        }
    }
}

/// Runs the connection until the peer ends it, stops answering, or nobody uses it.
async fn drive(
    mut connection: H2Connection<ClientTls, Bytes>,
    tunnels: &AtomicUsize,
    idle: Duration,
) {
    let ping = connection.ping_pong();
    let dead = async {
        match ping {
            Some(ping) => keepalive::watch(ping).await,
            None => std::future::pending().await,
        }
    };
    let unused = async {
        let mut seen_unused = false;
        loop {
            tokio::time::sleep(idle / 2).await;
            let now_unused = tunnels.load(Ordering::Acquire) == 0;
            if now_unused && seen_unused {
                return;
            }
            seen_unused = now_unused;
        }
    };
    tokio::select! {
        result = &mut connection => {
            if let Err(error) = result {
                tracing::debug!(%error, "tunnel connection ended");
            }
        }
        () = dead => tracing::info!("a peer's proxy stopped answering; its connection is given up"),
        () = unused => {}
    }
}
