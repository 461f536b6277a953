//! Beginning HTTP, as a client, on a connection that is there.

use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::Instrument;

use super::body::RequestBody;
use super::half_close::HalfClosingStream;
use super::http1_sender::Http1Sender;
use crate::settings::HeadLimits;

/// Windows of HTTP/2 in bytes: what one response, and all of a connection, may have
/// buffered here.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of a request that wait for HTTP/2's windows.
const SEND_BUFFER: usize = 256 * 1024;
/// Silence after which a connection of HTTP/2 with requests under way is asked whether
/// it is still there, and how long the answer may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(20));

/// Begins HTTP/1.1; the connection is driven by a task of its own until it ends. Fields' names
/// keep their letters, both ways.
pub(crate) async fn handshake_http1<S>(
    stream: S,
    heads: HeadLimits,
) -> Result<Http1Sender, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (stream, half_close) = HalfClosingStream::new(stream);
    let (sender, connection) = http1::Builder::new()
        .max_headers(heads.fields)
        .max_header_size(heads.bytes)
        .max_buf_size(heads.http1_buffer())
        .preserve_header_case(true)
        .handshake(TokioIo::new(stream))
        .await?;
    let driven = async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection of HTTP/1 ended");
        }
    };
    tokio::spawn(driven.in_current_span());
    Ok(Http1Sender::new(sender, half_close))
}

/// Begins HTTP/2 with prior knowledge; the connection is driven by a task of its own.
pub(crate) async fn handshake_http2<S>(
    stream: S,
    heads: HeadLimits,
) -> Result<http2::SendRequest<RequestBody>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(heads.http2_list_size())
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
