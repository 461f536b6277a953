//! A request's body as it comes from its connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::frame::BodyError;
use crate::http::unprocessed::reset_without_error;

/// A body whose end is that of the request, and not of its stream alone.
#[derive(Debug)]
pub(crate) struct IncomingBody {
    source: Incoming,
    http2: bool,
}

impl IncomingBody {
    /// The body of a request that came by HTTP/2, or by HTTP/1.
    pub(super) fn new(source: Incoming, http2: bool) -> Self {
        Self { source, http2 }
    }
}

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match ready!(Pin::new(&mut self.source).poll_frame(context)) {
            Some(frame) => Poll::Ready(Some(frame.map_err(Into::into))),
            None if self.http2 && !self.source.is_end_stream() => {
                Poll::Ready(Some(Err(reset_without_error())))
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use h2::Reason;
    use http::{Request, Response};
    use http_body_util::{BodyExt, Empty};
    use hyper::server::conn::http2;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::sync::mpsc;
    use weft_testing::wait::in_time;

    use super::*;

    /// The end of a request's body, which its client makes so behind a part of it.
    async fn end_of(finish: impl FnOnce(&mut h2::SendStream<Bytes>)) -> Option<bool> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (sender, mut bodies) = mpsc::unbounded_channel();
        let service = service_fn(move |request: Request<Incoming>| {
            let _ = sender.send(IncomingBody::new(request.into_body(), true));
            async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) }
        });
        let server = http2::Builder::new(TokioExecutor::new());
        tokio::spawn(server.serve_connection(TokioIo::new(far), service));
        let (client, connection) = h2::client::handshake(near).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let request = Request::post("http://web/").body(()).unwrap();
        let (_response, mut sending) = client.send_request(request, false).unwrap();
        sending.send_data("part".into(), false).unwrap();
        let mut body = in_time(bodies.recv()).await.unwrap();
        assert!(in_time(body.frame()).await.unwrap().is_ok());
        finish(&mut sending);
        loop {
            match in_time(body.frame()).await {
                Some(Ok(_)) => {}
                end => return end.map(|frame| frame.is_ok()),
            }
        }
    }

    #[tokio::test]
    async fn a_body_whose_stream_is_reset_without_an_error_is_not_whole() {
        let whole = |stream: &mut h2::SendStream<Bytes>| {
            stream.send_data(Bytes::new(), true).unwrap();
        };
        assert_eq!(end_of(whole).await, None);
        for reason in [Reason::NO_ERROR, Reason::CANCEL] {
            let reset = end_of(|stream| stream.send_reset(reason)).await;
            assert_eq!(reset, Some(false), "{reason:?}");
        }
    }
}
