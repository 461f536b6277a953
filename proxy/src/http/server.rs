//! Serving HTTP on a connection, until it ends or the proxy takes nothing new.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use weft_http_guard::{ClientEnd as GuardedEnd, GuardedStream, Limits, Refusal};

use super::body::{BodyError, ResponseBody};
use super::broken_response::{BreakableStream, ResponseBreak, ServerEnd};
use super::half_close::ClientEnd;
use super::headers::FieldNames;
use super::interim::InterimResponses;
use super::original_target::OriginalTarget;
use super::unchanged_protocol::UnchangedProtocol;
use crate::memory::{MeteredBody, MeteredStream, PodMemory};
use crate::settings::{HeadLimits, Settings};
use crate::stream::BreakOff;
use crate::windows::Windows;

/// Requests that a client may have under way on one connection of HTTP/2.
pub(crate) const MOST_STREAMS: u32 = 1000;
/// Frames for streams that nobody knows any more, after which a client is taken for broken: those
/// of uploads that were refused come late. Each costs an answer, which waits here while the
/// client doesn't read (RUSTSEC-2024-0003).
const MOST_STREAM_ERRORS: usize = 16 * 1024;

/// How long a client of HTTP/1 may keep a connection that drains without asking anything: only a
/// response tells it that the connection is its last, and what it sends while that is closed is lost.
const DRAIN_IDLE: Duration = Duration::from_secs(3);
/// At most so much is added to it, so that not all clients come back in the same moment.
const DRAIN_STAGGER_MILLISECONDS: u64 = 1000;

/// Bytes that a connection of HTTP/2 may have buffered here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffers {
    /// Of one request's body (RFC 9113 section 6.9).
    stream_window: u32,
    /// Of one response's body, as long as the client's windows are full.
    send_buffer: usize,
    /// Requests that were given up before they were looked at (CVE-2023-44487): a client that
    /// cancels many at once sends them in one piece.
    given_up: usize,
}

impl Buffers {
    /// For the pod's own application as the client.
    pub(crate) const OWN_CLIENT: Self = Self {
        stream_window: 128 * 1024,
        send_buffer: 256 * 1024,
        given_up: MOST_STREAMS as usize,
    };
    /// For whoever connects to the pod: strangers fill no memory that all pods share.
    pub(crate) const ANY_CLIENT: Self = Self {
        stream_window: 64 * 1024,
        send_buffer: 32 * 1024,
        given_up: 200,
    };
}

/// How a connection of HTTP/1 is served.
#[derive(Clone, Debug)]
pub(crate) struct Http1Options {
    /// How long a client may be silent between requests, where there is a limit.
    pub(crate) idle: Option<Duration>,
    /// How large the heads of its requests may be.
    pub(crate) heads: HeadLimits,
    /// Whether somebody may ask for the letters of its fields' names.
    pub(crate) names: FieldNames,
    /// Told when the client ends while a request is under way.
    pub(crate) client: ClientEnd,
    /// What is told the client while a request is under way.
    pub(crate) interim: InterimResponses,
    /// Told when the response to it breaks off.
    pub(crate) response_break: ResponseBreak,
    /// Cancelled when nothing more can be asked: the connection then ends at once where no request
    /// is under way.
    pub(crate) ended: CancellationToken,
}

impl Http1Options {
    /// As the settings have it.
    pub(crate) fn new(
        settings: &Settings,
        idle: Option<Duration>,
        names: FieldNames,
        client: ClientEnd,
        interim: InterimResponses,
        response_break: ResponseBreak,
    ) -> Self {
        Self {
            idle,
            heads: settings.heads,
            names,
            client,
            interim,
            response_break,
            ended: CancellationToken::new(),
        }
    }
}

/// Numbers of a connection's requests, the first being 1.
#[derive(Debug, Default)]
struct RequestNumbers(AtomicU64);

impl RequestNumbers {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The guard lets through what hyper reads, no less.
fn guard_limits(heads: HeadLimits) -> Limits {
    Limits {
        request_line_bytes: Limits::DEFAULT.request_line_bytes.min(heads.bytes),
        head_bytes: heads.bytes,
        fields: heads.fields,
        head_time: heads.time,
        ..Limits::DEFAULT
    }
}

/// Why a connection of HTTP was not served to an orderly end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The client sent what two servers may read differently.
    #[error(transparent)]
    Refused(Refusal),
    /// The connection broke, or a response on it did.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// The client broke it off while a request was under way.
    #[error("the client broke the connection off")]
    BrokenOff,
    /// A frame of HTTP/2 has begun that was to begin a request, or its preface, and didn't end in
    /// time: nothing can be answered on such a connection.
    #[error("the head of a request has begun and did not come to its end in time")]
    HeadTimeout,
    /// It held too much.
    #[error("the connection held more memory than there is for it")]
    MemoryExceeded,
}

/// A request whose client is to see a broken connection instead of a response, because
/// that is what the server did. With HTTP/2 on both sides the client gets the server's
/// error code (RFC 9113 section 7), which hyper finds among the causes.
#[derive(Debug, thiserror::Error)]
#[error("the server broke the connection off before it responded")]
pub(crate) struct ResetRequest(#[source] pub(crate) BodyError);

/// Serves HTTP/1; once `draining` is cancelled the next response is the connection's last and says so
/// (`Connection: close`, RFC 9112 section 9.6). A client that asks nothing for some seconds more, is
/// told nothing.
///
/// # Errors
/// When a request is refused, or the connection breaks.
pub(crate) async fn serve_http1<S, H, F>(
    stream: S,
    options: Http1Options,
    memory: Arc<PodMemory>,
    draining: CancellationToken,
    handle: H,
) -> Result<(), ServeError>
where
    S: AsyncRead + AsyncWrite + BreakOff + Send + Unpin + 'static,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Result<Response<ResponseBody>, ResetRequest>>,
{
    let stream = BreakableStream::new(stream, options.response_break.clone());
    let (stream, guard) = GuardedStream::new(stream, guard_limits(options.heads));
    options.interim.set_guard(guard.clone());
    let memory = memory.connection();
    let stream = MeteredStream::of_requests(stream, Arc::clone(&memory), guard.clone());
    let requests = RequestNumbers::default();
    let unchanged = UnchangedProtocol::default();
    let service = service_fn(|mut request: Request<Incoming>| {
        OriginalTarget::keep(&mut request, guard.original_target(requests.next()));
        let (handle, guard) = (&handle, guard.clone());
        let (response_break, unchanged) = (&options.response_break, &unchanged);
        let draining = &draining;
        async move {
            let is_connect = request.method() == Method::CONNECT;
            unchanged.requested(&request);
            // Called in here: a future that is moved in would be here twice, and is large.
            let mut response = match handle(request).await {
                Ok(response) => response,
                Err(error) => {
                    wait_for_earlier_responses(response_break, &error).await;
                    return Err(error);
                }
            };
            guard.response_decided(response.status());
            unchanged.responded(response.status());
            say_last_when(draining, &mut response, is_connect);
            Ok::<_, ResetRequest>(response)
        }
    });
    let connection = http1_builder(&options)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut ending = pin!(end_of_requests(&draining, &options.ended));
    let (mut is_ending, mut has_client) = (false, true);
    let result = loop {
        tokio::select! {
            result = connection.as_mut() => break result,
            () = ending.as_mut(), if !is_ending => {
                is_ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = guard.body_came_unasked() => options.interim.open_gate(),
            end = guard.client_ended(), if has_client => {
                has_client = false;
                match end {
                    GuardedEnd::Finished => options.client.end(),
                    GuardedEnd::Broken => return Err(ServeError::BrokenOff),
                }
            }
        }
    };
    how_it_ended(guard.refusal(), memory.is_cut(), result)?;
    unchanged.end().await;
    Ok(())
}

/// What a connection of HTTP/1 ended with, for one that hyper has ended.
fn how_it_ended(
    refusal: Option<Refusal>,
    is_cut: bool,
    result: hyper::Result<()>,
) -> Result<(), ServeError> {
    match refusal {
        Some(refusal) => Err(ServeError::Refused(refusal)),
        None if is_cut => Err(ServeError::MemoryExceeded),
        None => Ok(result?),
    }
}

/// Waits until no request is to be taken that hasn't begun.
async fn end_of_requests(draining: &CancellationToken, ended: &CancellationToken) {
    let drained = async {
        draining.cancelled().await;
        let stagger = Duration::from_millis(fastrand::u64(..=DRAIN_STAGGER_MILLISECONDS));
        tokio::time::sleep(DRAIN_IDLE + stagger).await;
    };
    tokio::select! {
        () = drained => {}
        () = ended.cancelled() => {}
    }
}

/// While it drains, has hyper end the connection after the response, which says so; not where it
/// becomes one of another protocol.
fn say_last_when(
    draining: &CancellationToken,
    response: &mut Response<ResponseBody>,
    is_connect: bool,
) {
    let status = response.status();
    let changes_protocol =
        status == StatusCode::SWITCHING_PROTOCOLS || (is_connect && status.is_success());
    if draining.is_cancelled() && !changes_protocol {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
}

fn http1_builder(options: &Http1Options) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Counts from the end of the last response.
        .header_read_timeout(options.idle)
        .max_headers(options.heads.fields)
        .max_header_size(options.heads.bytes)
        .max_buf_size(options.heads.http1_buffer())
        .half_close(true)
        .preserve_header_case(options.names == FieldNames::AsSent)
        // The application says when it answered.
        .auto_date_header(false);
    builder
}

/// Responses to earlier requests of a connection may wait still when it is to be broken.
async fn wait_for_earlier_responses(response_break: &ResponseBreak, error: &ResetRequest) {
    let end = ServerEnd::of(error);
    poll_fn(|_| response_break.poll_passed_on(end)).await;
}

/// Serves HTTP/2 with prior knowledge, `most_streams` requests at the same time; once `draining`
/// is cancelled the connection takes no further ones (GOAWAY).
///
/// # Errors
/// When the connection breaks.
pub(crate) async fn serve_http2<S, H, F>(
    stream: S,
    buffers: Buffers,
    heads: HeadLimits,
    most_streams: u32,
    memory: Arc<PodMemory>,
    draining: CancellationToken,
    handle: H,
) -> Result<(), ServeError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Result<Response<ResponseBody>, ResetRequest>> + Send + 'static,
{
    let windows = memory.windows(Windows {
        stream: buffers.stream_window,
        most_streams,
    });
    let memory = memory.connection();
    let stream = MeteredStream::of_http2(stream, Arc::clone(&memory), windows.stream, heads.time);
    let metered = |request| {
        let (response, memory) = (handle(request), Arc::clone(&memory));
        async move { Ok::<_, ResetRequest>(response.await?.map(|body| MeteredBody::new(body, &memory))) }
    };
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(windows.most_streams)
        .max_pending_accept_reset_streams(buffers.given_up)
        .max_local_error_reset_streams(MOST_STREAM_ERRORS)
        .initial_stream_window_size(windows.stream)
        .initial_connection_window_size(windows.connection())
        .max_send_buf_size(buffers.send_buffer)
        .max_header_list_size(heads.http2_list_size())
        .enable_connect_protocol()
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service_fn(metered));
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match result {
        _ if memory.is_cut() => Err(ServeError::MemoryExceeded),
        Err(_) if memory.is_head_late() => Err(ServeError::HeadTimeout),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests;
