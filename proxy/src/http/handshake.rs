//! Beginning HTTP, as a client, on a connection that is there.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument;

use super::half_closing_stream::HalfClosingStream;
use super::http1_sender::Http1Sender;
use super::http2_sender::Http2Sender;
use super::original_target::TargetStream;
use crate::memory::{AwaitedHead, ConnectionMemory, MeteredStream, PodMemory};
use crate::settings::HeadLimits;
use crate::stream::BreakOff;
use crate::windows::Windows;

/// Requests that we put on one connection of HTTP/2 at once.
pub(crate) const STREAMS_PER_CONNECTION: u32 = 100;
/// What a connection that the requests of a pod share may have buffered of their responses.
pub(crate) const SHARED: Windows = Windows {
    stream: 256 * 1024,
    most_streams: STREAMS_PER_CONNECTION,
};
/// Bytes of a request that wait for HTTP/2's windows.
const SEND_BUFFER: usize = 256 * 1024;
/// Streams that we have reset and whose late frames are still expected, and for how long. The
/// pool resets fewer on one connection before it takes no more requests
/// (`pool::shared::RESETS_PER_CONNECTION`): none is forgotten whose server may still be sending.
const REMEMBERED_RESETS: usize = 4096;
const RESETS_REMEMBERED_FOR: Duration = Duration::from_secs(10);
/// Frames for streams that nobody knows any more, after which the server is taken for broken.
/// Each costs an answer, which waits here while the server doesn't read.
const MOST_STREAM_ERRORS: usize = 16 * 1024;
/// Streams that may be opened before the server has said how many: a number that none is
/// likely to say.
const STREAMS_BEFORE_SETTINGS: usize = 97;
/// How long a server may take to say it, before it is taken to mean as many as we like, and how
/// often we look.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(1);
const SETTINGS_INTERVAL: Duration = Duration::from_millis(1);

/// Begins HTTP/1.1; the connection is driven by a task of its own until it ends. Fields' names
/// keep their letters, both ways, and targets their bytes.
pub(crate) async fn handshake_http1<S>(
    stream: S,
    heads: HeadLimits,
    memory: &Arc<PodMemory>,
) -> Result<Http1Sender, hyper::Error>
where
    S: AsyncRead + AsyncWrite + BreakOff + Send + Unpin + 'static,
{
    let (stream, half_close) = HalfClosingStream::new(stream);
    let (stream, target) = TargetStream::new(stream);
    let memory = memory.connection();
    let head = AwaitedHead::new(&memory);
    let stream = MeteredStream::of_http1(stream, memory, head.clone(), heads.time);
    let (sender, connection) = http1::Builder::new()
        .max_headers(heads.fields)
        .max_header_size(heads.bytes)
        .max_buf_size(heads.http1_buffer())
        .preserve_header_case(true)
        // What a proxy passes on without them (RFC 9112 sections 5.1 and 5.2).
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .handshake(TokioIo::new(stream))
        .await?;
    let driven = async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection of HTTP/1 ended");
        }
    };
    tokio::spawn(driven.in_current_span());
    Ok(Http1Sender::new(sender, half_close, head, target))
}

/// The streams that a server lets us have open at the same time
/// (`SETTINGS_MAX_CONCURRENT_STREAMS`, RFC 9113 section 6.5.2).
#[derive(Clone, Debug)]
pub(crate) struct StreamLimit(watch::Receiver<Option<usize>>);

impl StreamLimit {
    /// The limit as it was last heard of, `None` while the server has said nothing.
    pub(crate) fn current(&self) -> Option<usize> {
        *self.0.borrow()
    }

    /// The limit, once the server has said it or had the time to.
    pub(crate) async fn known(&mut self) -> usize {
        let known = self.0.wait_for(Option::is_some).await;
        // The connection has ended when there is nobody left to say it.
        known.ok().and_then(|known| *known).unwrap_or(0)
    }
}

/// A connection of HTTP/2 to a server, on which a request is sent.
#[derive(Clone, Debug)]
pub(crate) struct Http2Client {
    pub(crate) sender: Http2Sender,
    pub(crate) limit: StreamLimit,
    /// What it holds, as long as a request's response may be read.
    pub(crate) memory: Arc<ConnectionMemory>,
}

/// Begins HTTP/2 with prior knowledge; the connection is driven by a task of its own.
///
/// It sends no pings: servers of gRPC end a connection whose client asks more often than once
/// in five minutes (`GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS`). A server that is
/// gone is found by the keepalive of TCP, or by that of the tunnel.
pub(crate) async fn handshake_http2<S>(
    stream: S,
    heads: HeadLimits,
    windows: Windows,
    memory: &Arc<PodMemory>,
) -> Result<Http2Client, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (windows, memory) = (memory.windows(windows), memory.connection());
    let metered = Arc::clone(&memory);
    let stream = MeteredStream::of_http2(stream, metered, windows.stream, heads.time);
    let (sender, mut connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_max_send_streams(STREAMS_BEFORE_SETTINGS)
        .initial_stream_window_size(windows.stream)
        .initial_connection_window_size(windows.connection())
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(heads.http2_list_size())
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .reset_stream_duration(RESETS_REMEMBERED_FOR)
        .max_local_error_reset_streams(MOST_STREAM_ERRORS)
        .handshake(TokioIo::new(stream))
        .await?;
    let (limit, limits) = watch::channel(None);
    let ending = Arc::clone(&memory);
    let driven = async move {
        let began = Instant::now();
        // The connection isn't woken by SETTINGS.
        let mut looking = Box::pin(tokio::time::sleep(SETTINGS_INTERVAL));
        let mut has_waited = false;
        let ended = poll_fn(|context| {
            let ended = Pin::new(&mut connection).poll(context);
            let said = connection.current_max_send_streams();
            while !has_waited && looking.as_mut().poll(context).is_ready() {
                looking.as_mut().reset(Instant::now() + SETTINGS_INTERVAL);
                has_waited = said != STREAMS_BEFORE_SETTINGS || began.elapsed() >= SETTINGS_TIMEOUT;
            }
            if has_waited || said != STREAMS_BEFORE_SETTINGS {
                has_waited = true;
                limit.send_if_modified(|known| known.replace(said) != Some(said));
            }
            ended
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "a connection of HTTP/2 ended");
        }
        ending.has_ended();
    };
    tokio::spawn(driven.in_current_span());
    Ok(Http2Client {
        sender: Http2Sender::new(sender, &memory),
        limit: StreamLimit(limits),
        memory,
    })
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use http::Request;
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use prometheus_client::metrics::gauge::Gauge;

    use super::*;
    use crate::http::body::RequestBody;
    use crate::http::version::HttpVersion;
    use crate::memory::MemoryAccount;

    impl BreakOff for tokio::io::DuplexStream {
        fn poll_break_off(&mut self, _context: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }

        fn is_on_its_way(&self) -> bool {
            false
        }

        fn break_on_close(&mut self) {}

        fn announce_unanswered(&mut self) {}
    }

    /// RFC 9113 section 6.7.
    const PING: u8 = 6;
    /// The client's preface (RFC 9113 section 3.4).
    const PREFACE: usize = 24;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_silent_is_not_pinged() {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let memory = Arc::default();
        let client = handshake_http2(near, HeadLimits::default(), SHARED, &memory);
        let mut sender = client.await.unwrap().sender;
        // An empty SETTINGS frame, then its acknowledgement.
        far.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        far.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await.unwrap();
        far.read_exact(&mut [0; PREFACE]).await.unwrap();
        let request = Request::post("http://web/a.B/Watch");
        let watching = sender.send(request.body(RequestBody::Empty).unwrap());
        let frames = async {
            let mut types = Vec::new();
            loop {
                let mut head = [0; 9];
                far.read_exact(&mut head).await.unwrap();
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; usize::try_from(length).unwrap()];
                far.read_exact(&mut payload).await.unwrap();
                types.push(head[3]);
                assert_ne!(head[3], PING, "{types:?}");
            }
        };
        let an_hour = tokio::time::sleep(Duration::from_secs(3600));
        tokio::select! {
            _ = watching => panic!("nobody has answered"),
            () = frames => {}
            () = an_hour => {}
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_ended_for_its_memory_keeps_nothing_of_unread_responses() {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let pod = Arc::new(MemoryAccount::new(256 * 1024)).pod(&"pod".into(), Gauge::default());
        let client = handshake_http2(near, HeadLimits::default(), SHARED, &pod);
        let Http2Client {
            mut sender, memory, ..
        } = client.await.unwrap();
        far.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        // Fields that say 200, of stream 1.
        let head = [0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88];
        let request = Request::post("http://web/").body(RequestBody::Empty);
        let sent = sender.send(request.unwrap());
        let answered = async {
            let mut frames = vec![0; 1024];
            let mut read = 0;
            // The preface, SETTINGS, WINDOW_UPDATE, and at last the request's HEADERS.
            while !frames[..read]
                .windows(5)
                .any(|bytes| bytes == [5, 0, 0, 0, 1])
            {
                read += far.read(&mut frames[read..]).await.unwrap();
            }
            far.write_all(&head).await.unwrap();
        };
        let (response, ()) = tokio::join!(sent, answered);
        let stream = memory.open_stream();
        let mut body = stream.body(response.unwrap().into_body());
        let data = [&[0, 0x40, 0, 0, 0, 0, 0, 0, 1][..], &[0; 0x4000]].concat();
        // All that the limit lets it have, and more.
        while far.write_all(&data).await.is_ok() {}
        let ended = async {
            // The test has the connection's part, also with its sender, and the stream.
            while Arc::strong_count(&memory) > 3 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ended)
            .await
            .unwrap();
        assert!(memory.is_cut());
        assert!(body.frame().await.unwrap().is_err(), "what came is gone");
    }

    /// Whether a request fails whose server, when it has read it, sends these bytes and nothing
    /// more; and what its connection holds meanwhile.
    async fn fails_after(response: &[u8], version: HttpVersion) -> (bool, i64) {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let shown = Gauge::default();
        let pod = Arc::new(MemoryAccount::new(1 << 30)).pod(&"pod".into(), shown.clone());
        let request = Request::get("http://web/").header("host", "web");
        let request = request.body(RequestBody::Empty).unwrap();
        let heads = HeadLimits::default();
        let asking = async {
            match version {
                HttpVersion::Http1 => {
                    let mut sender = handshake_http1(near, heads, &pod).await.unwrap();
                    sender.send(request, None).await.is_err()
                }
                HttpVersion::Http2 => {
                    let client = handshake_http2(near, heads, SHARED, &pod).await.unwrap();
                    let mut sender = client.sender;
                    sender.send(request).await.is_err()
                }
            }
        };
        let answering = async {
            let mut read = [0; 4096];
            let _ = far.read(&mut read).await.unwrap();
            far.write_all(response).await.unwrap();
            tokio::time::sleep(Duration::from_secs(30)).await;
            let held = shown.get();
            // Whatever the client sends meanwhile.
            while far.read(&mut read).await.is_ok_and(|length| length > 0) {}
            held
        };
        let asked = async { tokio::join!(asking, answering) };
        let in_time = tokio::time::timeout(Duration::from_secs(3600), asked).await;
        in_time.unwrap_or((false, shown.get()))
    }

    #[tokio::test(start_paused = true)]
    async fn the_head_of_a_response_counts_and_has_its_time_once_it_has_begun() {
        let settings = &[0, 0, 0, 4, 0, 0, 0, 0, 0][..];
        let unfinished = [settings, &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x88]].concat();
        for (response, version) in [
            (&b"HTTP/1.1 200 OK\r\nname: value"[..], HttpVersion::Http1),
            (&unfinished[..], HttpVersion::Http2),
        ] {
            let (fails, held) = fails_after(response, version).await;
            assert!(fails && held > 0, "{version:?} {held}");
        }
        // A server may think as long as it likes.
        for (silent, version) in [
            (&b""[..], HttpVersion::Http1),
            (
                b"HTTP/1.1 100 Continue\r\n\r\n" as &[u8],
                HttpVersion::Http1,
            ),
            (settings, HttpVersion::Http2),
        ] {
            let (fails, held) = fails_after(silent, version).await;
            assert_eq!((fails, held), (false, 0), "{version:?}");
        }
    }
}
