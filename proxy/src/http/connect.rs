//! Opening connections to endpoints, and beginning HTTP on them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use weft_model::mesh::Candidate;

use super::body::RequestBody;
use super::stream::UpstreamStream;
use crate::error::OutboundError;
use crate::net::Net;
use crate::outbound::{self, Upstream};
use crate::shared::{LocalPod, Shared};

/// Windows of HTTP/2 in bytes: what one response, and all of a connection, may have
/// buffered here.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of a request that wait for HTTP/2's windows.
const SEND_BUFFER: usize = 256 * 1024;
/// Silence after which a connection of HTTP/2 with requests under way is asked whether
/// it is still there, and how long the answer may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(20));
/// Bytes of the head of a response.
const HEAD: usize = 64 * 1024;

/// A connection, with that of the tunnel that it is in.
type Connected = (UpstreamStream, Option<h2::client::SendRequest<Bytes>>);

/// Opens a connection to a candidate.
pub(super) async fn connect<N: Net>(
    shared: &Arc<Shared<N>>,
    pod: &Arc<LocalPod<N>>,
    candidate: &Candidate,
    client: SocketAddr,
) -> Result<Connected, OutboundError> {
    let upstream = outbound::dial(shared, pod, candidate, client).await?;
    Ok(match upstream {
        Upstream::Plain(stream) => (UpstreamStream::tcp(stream), None),
        Upstream::Tls(stream) => (UpstreamStream::tls(stream), None),
        Upstream::Tunnel(tunnel) => {
            let requests = tunnel.requests.clone();
            (UpstreamStream::tunnel(tunnel), Some(requests))
        }
        Upstream::SameNode(handed) => (UpstreamStream::same_node(handed, shared), None),
    })
}

pub(super) async fn handshake_http1(
    stream: UpstreamStream,
) -> Result<http1::SendRequest<RequestBody>, OutboundError> {
    let (sender, connection) = http1::Builder::new()
        .max_headers(256)
        .max_header_size(HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection of HTTP/1 ended");
        }
    });
    Ok(sender)
}

pub(super) async fn handshake_http2(
    stream: UpstreamStream,
) -> Result<http2::SendRequest<RequestBody>, OutboundError> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(HEAD).unwrap_or(u32::MAX))
        .keep_alive_interval(KEEPALIVE.0)
        .keep_alive_timeout(KEEPALIVE.1)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of HTTP/2 ended");
        }
    });
    Ok(sender)
}
