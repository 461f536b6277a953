//! Bodies of responses that a connection takes back when it is ended for its memory: HTTP/2 keeps
//! what came of each until its body is dropped, and nobody polls a body whose reader takes nothing.

use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Frame, SizeHint};

use super::exceeded::MemoryExceeded;
use crate::sync::lock;

type Slot<B> = Mutex<Option<B>>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a response, as long as its connection leaves it.
#[derive(Debug)]
pub(crate) struct RevocableBody<B>(Arc<Slot<B>>);

/// The bodies of one connection; none any more once they were revoked.
#[derive(Debug)]
pub(super) struct Bodies<B>(Mutex<Option<Vec<Weak<Slot<B>>>>>);

impl<B> RevocableBody<B> {
    /// A body that nobody takes back.
    pub(crate) fn new(body: B) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }
}

impl<B> Default for Bodies<B> {
    fn default() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }
}

impl<B> Bodies<B> {
    /// One more body.
    pub(super) fn add(&self, body: B) -> RevocableBody<B> {
        let body = RevocableBody::new(body);
        let mut bodies = lock(&self.0);
        if let Some(bodies) = bodies.as_mut() {
            // As seldom as the list has doubled.
            if bodies.len() == bodies.capacity() {
                bodies.retain(|body| body.strong_count() > 0);
            }
            bodies.push(Arc::downgrade(&body.0));
        } else {
            drop(lock(&body.0).take());
        }
        body
    }

    /// Drops them, and what they hold. Not to be called while the connection is polled: it may
    /// hold locks that they take.
    pub(super) fn revoke(&self) {
        let bodies = lock(&self.0).take();
        for body in bodies.into_iter().flatten() {
            let body = body.upgrade().and_then(|body| lock(&body).take());
            drop(body);
        }
    }
}

impl<B> Body for RevocableBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut body = lock(&self.0);
        let Some(body) = body.as_mut() else {
            return Poll::Ready(Some(Err(MemoryExceeded.into())));
        };
        let frame = ready!(Pin::new(body).poll_frame(context));
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0)
            .as_ref()
            .map_or_else(SizeHint::default, Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[tokio::test]
    async fn what_bodies_hold_goes_when_they_are_revoked_though_nobody_reads_them() {
        let bodies = Bodies::default();
        let held: Arc<[u8]> = Arc::from([1, 2, 3]);
        let of_held = || Full::new(Bytes::from_owner(Arc::clone(&held)));
        let read = bodies.add(of_held()).collect().await.unwrap().to_bytes();
        assert_eq!(read, [1, 2, 3][..]);
        drop(read);
        let unread = bodies.add(of_held());
        assert_eq!(Arc::strong_count(&held), 2);
        bodies.revoke();
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(!unread.is_end_stream(), "it has broken off");
        assert!(unread.collect().await.unwrap_err().is::<MemoryExceeded>());
        let late = bodies.add(of_held());
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(late.collect().await.is_err());
    }
}
