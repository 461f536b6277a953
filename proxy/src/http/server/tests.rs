use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use hyper::client::conn::http2;

use super::*;

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
    assert!(of_own > 3 * of_any, "{of_own} and {of_any} bytes");
}
