use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use hyper::client::conn::http2;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::memory::MemoryAccount;

const CHUNK: usize = 16 * 1024;

/// A body without an end; what was taken of it is counted.
struct Endless(Arc<AtomicUsize>);

impl Body for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.fetch_add(CHUNK, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; CHUNK])))))
    }
}

/// Bytes that a client of four requests gets rid of while nobody reads their bodies.
async fn taken_unread(buffers: Buffers) -> usize {
    let (client, server) = tokio::io::duplex(CHUNK);
    // A request that is never answered, and its body never read.
    let handle = |request: Request<Incoming>| async move {
        let _request = request;
        std::future::pending().await
    };
    let never = CancellationToken::new();
    let serving = tokio::spawn(serve_http2(
        server,
        buffers,
        HeadLimits::default(),
        MOST_STREAMS,
        Arc::default(),
        never,
        handle,
    ));
    let connected = http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await;
    let (mut sender, connection) = connected.unwrap();
    let connection = tokio::spawn(connection);
    let taken = Arc::new(AtomicUsize::new(0));
    let mut requests = Vec::new();
    for _ in 0..4 {
        sender.ready().await.unwrap();
        let body = Endless(Arc::clone(&taken));
        let request = Request::post("http://web/").body(body).unwrap();
        requests.push(tokio::spawn(sender.send_request(request)));
    }
    // The clock stands: it goes on when nobody has anything left to do.
    tokio::time::sleep(Duration::from_secs(1)).await;
    serving.abort();
    connection.abort();
    taken.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn strangers_fill_less_memory_than_the_pods_own_application() {
    let (own, any) = (Buffers::OWN_CLIENT, Buffers::ANY_CLIENT);
    let of_any = taken_unread(any).await;
    // What is under way in the client itself counts, too.
    assert!(of_any < 1024 * 1024, "{of_any} bytes");
    let of_own = taken_unread(own).await;
    assert!(of_own > of_any, "{of_own} and {of_any} bytes");
}

/// The frames of a client that cancels so many requests in the same breath, then sends one that
/// it wants an answer to.
fn cancelled_at_once(count: u32) -> Vec<u8> {
    let mut frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // GET, http, / by the static table (RFC 7541 appendix A), and the authority `web`.
    let head = b"\x82\x86\x84\x01\x03web";
    for number in 0..=count {
        let stream = (2 * number + 1).to_be_bytes();
        let length = u8::try_from(head.len()).unwrap();
        frames.extend([0, 0, length, 1, 5]);
        frames.extend(stream);
        frames.extend(head);
        if number < count {
            frames.extend([0, 0, 4, 3, 0]);
            frames.extend(stream);
            frames.extend(8_u32.to_be_bytes());
        }
    }
    frames
}

/// Whether the last request of such a client is answered.
async fn is_answered_after(count: u32, buffers: Buffers) -> bool {
    let (mut client, server) = tokio::io::duplex(1024 * 1024);
    client.write_all(&cancelled_at_once(count)).await.unwrap();
    let (answered, mut is_answered) = tokio::sync::mpsc::channel(MOST_STREAMS as usize);
    let handle = move |_: Request<Incoming>| {
        let answered = answered.clone();
        async move {
            // Those that were given up are dropped before.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let _ = answered.send(()).await;
            Ok(Response::new(ResponseBody::local(Bytes::new())))
        }
    };
    let never = CancellationToken::new();
    let serving = tokio::spawn(serve_http2(
        server,
        buffers,
        HeadLimits::default(),
        MOST_STREAMS,
        Arc::default(),
        never,
        handle,
    ));
    let is_answered = tokio::time::timeout(Duration::from_secs(60), is_answered.recv()).await;
    serving.abort();
    is_answered.is_ok_and(|answered| answered.is_some())
}

#[tokio::test(start_paused = true)]
async fn a_client_may_cancel_hundreds_of_requests_at_once_and_no_number_of_them() {
    assert!(is_answered_after(900, Buffers::OWN_CLIENT).await);
    assert!(is_answered_after(150, Buffers::ANY_CLIENT).await);
    assert!(!is_answered_after(5000, Buffers::OWN_CLIENT).await);
    assert!(!is_answered_after(1000, Buffers::ANY_CLIENT).await);
}

/// A client that opens its windows as far as the protocol lets it, asks so many times, and reads
/// nothing.
fn asked_at_once(count: u32) -> Vec<u8> {
    let mut frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS with the first window of each stream, and WINDOW_UPDATE of the connection.
    frames.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff]);
    frames.extend([0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0]);
    let head = b"\x82\x86\x84\x01\x03web";
    for number in 0..count {
        let length = u8::try_from(head.len()).unwrap();
        frames.extend([0, 0, length, 1, 5]);
        frames.extend((2 * number + 1).to_be_bytes());
        frames.extend(head);
    }
    frames
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_client_that_opens_its_windows_and_reads_nothing_counts() {
    const REQUESTS: u32 = 20;
    const BODY: usize = 30 * 1024;
    let (mut client, server) = tokio::io::duplex(CHUNK);
    let shown = Gauge::default();
    let pod = Arc::new(MemoryAccount::new(1 << 30)).pod(&"pod".into(), shown.clone());
    let handle = |_: Request<Incoming>| async {
        let body = Bytes::from_static(&[0; BODY]);
        Ok(Response::new(ResponseBody::local(body)))
    };
    let serving = tokio::spawn(serve_http2(
        server,
        Buffers::ANY_CLIENT,
        HeadLimits::default(),
        MOST_STREAMS,
        pod,
        CancellationToken::new(),
        handle,
    ));
    client.write_all(&asked_at_once(REQUESTS)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let held = usize::try_from(shown.get()).unwrap();
    // But what the pipe has taken.
    let all = REQUESTS as usize * BODY;
    assert!((all - 2 * BODY..=all).contains(&held), "{held} of {all}");
    serving.abort();
    assert!(serving.await.is_err());
    assert_eq!(shown.get(), 0);
}

/// Time after which a client that sends these bytes and nothing more is no longer served; `None`
/// where it still is after an hour.
async fn served_for(frames: &[&[u8]], heads: HeadLimits) -> Option<Duration> {
    const AN_HOUR: Duration = Duration::from_secs(3600);
    let (mut client, server) = tokio::io::duplex(CHUNK);
    client.write_all(&frames.concat()).await.unwrap();
    let handle = |_: Request<Incoming>| std::future::pending();
    let serving = serve_http2(
        server,
        Buffers::ANY_CLIENT,
        heads,
        MOST_STREAMS,
        Arc::default(),
        CancellationToken::new(),
        handle,
    );
    let began = tokio::time::Instant::now();
    let served = tokio::time::timeout(AN_HOUR, serving).await.ok()?;
    assert!(matches!(served, Err(ServeError::HeadTimeout)), "{served:?}");
    Some(began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_head_of_http2_that_never_ends_has_its_time_and_a_silence_between_frames_has_none() {
    let preface = &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..];
    let settings = &[0, 0, 0, 4, 0, 0, 0, 0, 0][..];
    let request = &[0, 0, 3, 1, 4, 0, 0, 0, 1, 0x83, 0x86, 0x84][..];
    let limits = HeadLimits::default();
    for unfinished in [
        &[preface][..],
        &[preface, &settings[..5]],
        // Without END_HEADERS.
        &[
            preface,
            settings,
            &[0, 0, 3, 1, 0, 0, 0, 0, 1, 0x83, 0x86, 0x84],
        ],
        &[
            preface,
            settings,
            request,
            &[0, 0, 3, 1, 4, 0, 0, 0, 3, 0x83],
        ],
        &[preface, settings, request, &[0, 0, 3]],
    ] {
        let served = served_for(unfinished, limits).await;
        let served = served.unwrap_or_else(|| panic!("{unfinished:?} is served for ever"));
        assert!(
            served.abs_diff(Duration::from_secs(60)) < Duration::from_secs(1),
            "{served:?}"
        );
        let limits = HeadLimits {
            time: None,
            ..limits
        };
        assert_eq!(served_for(unfinished, limits).await, None, "{unfinished:?}");
    }
    for waiting in [
        &[preface, settings][..],
        &[preface, settings, request],
        // A body may take its time, also within a frame.
        &[
            preface,
            settings,
            request,
            &[0, 0, 4, 0, 0, 0, 0, 0, 1, b'a'],
        ],
    ] {
        assert_eq!(served_for(waiting, limits).await, None, "{waiting:?}");
    }
}

/// What is served to a client of HTTP/1 when the proxy drains.
async fn drained_http1(requests: &[&str]) -> (Vec<String>, Duration) {
    let (mut client, server) = tokio::io::duplex(CHUNK);
    let draining = CancellationToken::new();
    let options = Http1Options::new(
        &Settings::default(),
        None,
        FieldNames::AsSent,
        ClientEnd::default(),
        InterimResponses::default(),
        ResponseBreak::default(),
    );
    let handle = |_: Request<Incoming>| async {
        Ok(Response::new(ResponseBody::local(Bytes::from_static(
            b"served",
        ))))
    };
    let token = draining.clone();
    let serving =
        tokio::spawn(
            async move { serve_http1(server, options, Arc::default(), token, handle).await },
        );
    let mut responses = Vec::new();
    let mut buffer = vec![0; CHUNK];
    for (index, request) in requests.iter().enumerate() {
        if index == 1 {
            draining.cancel();
            tokio::time::sleep(DRAIN_IDLE / 2).await;
        }
        client.write_all(request.as_bytes()).await.unwrap();
        let read = client.read(&mut buffer).await.unwrap();
        responses.push(String::from_utf8_lossy(&buffer[..read]).to_lowercase());
    }
    draining.cancel();
    let began = tokio::time::Instant::now();
    assert_eq!(client.read(&mut buffer).await.unwrap(), 0, "the end");
    serving.await.unwrap().unwrap();
    (responses, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_that_drains_ends_with_a_response_that_says_so() {
    const GET: &str = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";
    let (responses, after) = drained_http1(&[GET, GET]).await;
    assert!(responses[0].ends_with("served") && !responses[0].contains("connection: close"));
    assert!(responses[1].ends_with("served") && responses[1].contains("connection: close"));
    assert_eq!(after, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_that_nobody_uses_is_no_burden_to_a_drain() {
    const GET: &str = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";
    let most = DRAIN_IDLE + Duration::from_millis(DRAIN_STAGGER_MILLISECONDS);
    let (_, after) = drained_http1(&[GET]).await;
    assert!(
        (DRAIN_IDLE..=most + DRAIN_IDLE).contains(&after),
        "{after:?}"
    );
}
