//! Beginning HTTP, as a client, on a connection that is there.

use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::Instrument;

use super::body::RequestBody;
use super::headers::FieldNames;

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
const LARGEST_HEAD: usize = 64 * 1024;
/// Fields of a response.
const MOST_FIELDS: usize = 256;

/// Begins HTTP/1.1; the connection is driven by a task of its own until it ends.
pub(crate) async fn handshake_http1<S>(
    stream: S,
    names: FieldNames,
) -> Result<http1::SendRequest<RequestBody>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_headers(MOST_FIELDS)
        .max_header_size(LARGEST_HEAD)
        .preserve_header_case(names == FieldNames::AsSent)
        .handshake(TokioIo::new(stream))
        .await?;
    let driven = async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection of HTTP/1 ended");
        }
    };
    tokio::spawn(driven.in_current_span());
    Ok(sender)
}

/// Begins HTTP/2 with prior knowledge; the connection is driven by a task of its own.
pub(crate) async fn handshake_http2<S>(
    stream: S,
) -> Result<http2::SendRequest<RequestBody>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(LARGEST_HEAD).unwrap_or(u32::MAX))
        .keep_alive_interval(KEEPALIVE.0)
        .keep_alive_timeout(KEEPALIVE.1)
        .handshake(TokioIo::new(stream))
        .await?;
    let driven = async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of HTTP/2 ended");
        }
    };
    tokio::spawn(driven.in_current_span());
    Ok(sender)
}
