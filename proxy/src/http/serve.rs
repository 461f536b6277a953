//! A client's connection: served as HTTP/1 or HTTP/2 until it ends or the proxy goes.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use weft_http_guard::{GuardedStream, Limits};

use super::Downstream;
use super::exchange::exchange;
use crate::net::Net;

/// How large the parts of a request may be.
const LIMITS: Limits = Limits::DEFAULT;
/// Requests that a client may have under way on one connection.
const STREAMS: u32 = 1000;
/// Windows of HTTP/2 in bytes: what one request, and all of a connection, may have
/// buffered here.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes of a response that wait for HTTP/2's windows.
const SEND_BUFFER: usize = 256 * 1024;

/// Serves a connection of HTTP/1. `draining` turns true when it shall end once no
/// request is under way.
pub(super) async fn http1<N: Net>(
    downstream: Arc<Downstream<N>>,
    stream: TcpStream,
    mut draining: watch::Receiver<bool>,
) {
    let idle = downstream.shared.settings.idle.open;
    let (stream, guard) = GuardedStream::new(stream, LIMITS);
    let service = service_fn(|request| {
        let (downstream, guard) = (Arc::clone(&downstream), guard.clone());
        async move {
            let response = exchange(&downstream, request).await;
            guard.response_decided(response.status());
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Counts from the end of the last response: how long a client may be silent.
        .header_read_timeout(idle)
        .max_headers(LIMITS.fields)
        .max_header_size(LIMITS.head_bytes)
        .half_close(true)
        // The application says when it answered.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = told(&mut draining) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Some(refusal) = guard.refusal() {
        downstream.refused(refusal);
    } else if let Err(error) = result {
        tracing::debug!(%error, client = %downstream.client, "a client's connection of HTTP/1 ended");
    }
}

/// Serves a connection of HTTP/2. `draining` turns true when it shall take no further
/// requests.
pub(super) async fn http2<N: Net>(
    downstream: Arc<Downstream<N>>,
    stream: TcpStream,
    mut draining: watch::Receiver<bool>,
) {
    let service = service_fn(|request| {
        let downstream = Arc::clone(&downstream);
        async move { Ok::<_, Infallible>(exchange(&downstream, request).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(LIMITS.head_bytes).unwrap_or(u32::MAX))
        .enable_connect_protocol()
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = told(&mut draining) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, client = %downstream.client, "a client's connection of HTTP/2 ended");
    }
}

/// Resolves when the proxy is to take nothing new; never when it is gone, which ends
/// the connection itself.
async fn told(draining: &mut watch::Receiver<bool>) {
    if draining.wait_for(|draining| *draining).await.is_err() {
        std::future::pending::<()>().await;
    }
}
