//! Targets of requests of HTTP/1 with bytes that no URI has: servers get them as their clients sent
//! them. Everything in between, rules and logs too, sees those bytes percent-encoded.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Uri};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_http_guard::encode_target;

use crate::sync::lock;

/// Path and query of a request as its client sent them.
#[derive(Clone, Debug)]
pub(crate) struct OriginalTarget {
    /// The same percent-encoded, as the request has them here.
    encoded: PathAndQuery,
    bytes: Bytes,
}

impl OriginalTarget {
    /// Keeps it with a request that was read, where its target had bytes that no URI has.
    pub(super) fn keep<B>(request: &mut Request<B>, target: Option<Box<[u8]>>) {
        let original = target.and_then(|target| Self::new(&target, request.uri()));
        if let Some(original) = original {
            request.extensions_mut().insert(original);
        }
    }

    /// Path and query of a target that was read as that URI; `None` where they are not at its end.
    fn new(target: &[u8], uri: &Uri) -> Option<Self> {
        let encoded = uri.path_and_query()?;
        let whole = encode_target(target);
        // A scheme and a host have none of these bytes.
        let start = whole.strip_suffix(encoded.as_str().as_bytes())?.len();
        let bytes = target.get(start..)?;
        // What is sent is what was looked at, whatever stands before it.
        (encode_target(bytes) == encoded.as_str().as_bytes()).then(|| Self {
            encoded: encoded.clone(),
            bytes: Bytes::copy_from_slice(bytes),
        })
    }

    /// Its text, where it is one.
    pub(crate) fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }

    /// That of a request, unless somebody has changed path or query since.
    fn of<B>(request: &Request<B>) -> Option<&Self> {
        let original = request.extensions().get::<Self>()?;
        (request.uri().path_and_query() == Some(&original.encoded)).then_some(original)
    }
}

/// Says what is written in place of a request's target.
#[derive(Clone, Debug, Default)]
pub(super) struct SentTarget(Arc<Mutex<Option<OriginalTarget>>>);

impl SentTarget {
    /// A request is about to be written.
    pub(super) fn begin_request<B>(&self, request: &Request<B>) {
        *lock(&self.0) = OriginalTarget::of(request).cloned();
    }
}

/// A connection to a server, on which requests have their original targets.
#[derive(Debug)]
pub(super) struct TargetStream<S> {
    stream: S,
    sent: SentTarget,
    exchange: Option<Exchange>,
}

/// The beginning of a head that is written in place of another one.
#[derive(Debug)]
struct Exchange {
    rest: Bytes,
    /// Bytes that it stands for.
    stands_for: usize,
}

impl Exchange {
    /// For a head that begins with those bytes.
    fn new(head: &[u8], target: &OriginalTarget) -> Option<Self> {
        let line = head.split(|byte| *byte == b'\n').next()?;
        let end = line.iter().rposition(|byte| *byte == b' ')?;
        let encoded = target.encoded.as_str().as_bytes();
        let before = head.get(..end)?.strip_suffix(encoded)?;
        Some(Self {
            rest: [before, &target.bytes].concat().into(),
            stands_for: end,
        })
    }
}

impl<S> TargetStream<S> {
    pub(super) fn new(stream: S) -> (Self, SentTarget) {
        let sent = SentTarget::default();
        let with_targets = Self {
            stream,
            sent: sent.clone(),
            exchange: None,
        };
        (with_targets, sent)
    }
}

impl<S: AsyncWrite + Unpin> TargetStream<S> {
    /// Writes what stands for the first of these bytes, where something does; for how many.
    fn poll_exchange(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<Option<usize>>> {
        if self.exchange.is_none() {
            let target = lock(&self.sent.0).take();
            self.exchange = target.and_then(|target| Exchange::new(bytes, &target));
        }
        let Some(exchange) = &mut self.exchange else {
            return Poll::Ready(Ok(None));
        };
        while !exchange.rest.is_empty() {
            let stream = Pin::new(&mut self.stream);
            match ready!(stream.poll_write(context, &exchange.rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => drop(exchange.rest.split_to(written)),
            }
        }
        let written = exchange.stands_for;
        self.exchange = None;
        Poll::Ready(Ok(Some(written)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TargetStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TargetStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match ready!(self.poll_exchange(context, bytes))? {
            Some(written) => Poll::Ready(Ok(written)),
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty());
        let first = first.map_or(&[][..], |slice| slice);
        match ready!(self.poll_exchange(context, first))? {
            Some(written) => Poll::Ready(Ok(written)),
            None => Pin::new(&mut self.stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// The head that arrives when a request with that target, read as that URI, is written.
    async fn sent(target: &str, uri: &str, written_uri: &str, head: &str) -> String {
        let uri: Uri = uri.parse().unwrap();
        let original = OriginalTarget::new(target.as_bytes(), &uri).unwrap();
        let mut request = Request::get(written_uri).body(()).unwrap();
        request.extensions_mut().insert(original);
        let (near, mut far) = tokio::io::duplex(5);
        let (mut stream, sent) = TargetStream::new(near);
        sent.begin_request(&request);
        let writing = async {
            stream.write_all(head.as_bytes()).await.unwrap();
            drop(stream);
        };
        let mut received = String::new();
        let ((), read) = tokio::join!(writing, far.read_to_string(&mut received));
        read.unwrap();
        received
    }

    #[tokio::test]
    async fn a_target_is_written_as_it_came_whatever_its_form() {
        let head = "GET /a%3Cb?q=%22 HTTP/1.1\r\nx: /a%3Cb?q=%22 \r\n\r\n";
        let uri = "/a%3Cb?q=%22";
        let received = sent("/a<b?q=\"", uri, uri, head).await;
        let expected = "GET /a<b?q=\" HTTP/1.1\r\nx: /a%3Cb?q=%22 \r\n\r\n";
        assert_eq!(received, expected);
        let url = "http://web/a%60";
        let received = sent(
            "http://web/a`",
            url,
            url,
            "GET http://web/a%60 HTTP/1.1\r\n\r\n",
        );
        assert_eq!(received.await, "GET http://web/a` HTTP/1.1\r\n\r\n");
    }

    #[tokio::test]
    async fn a_path_that_a_rule_has_changed_is_written_encoded() {
        let head = "GET /b%3C HTTP/1.1\r\n\r\n";
        let received = sent("/a<", "/a%3C", "/b%3C", head).await;
        assert_eq!(received, head);
    }
}
