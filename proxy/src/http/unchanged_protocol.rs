//! Requests for another protocol that got an answer of HTTP. When such a connection ends, hyper
//! gives its stream away for the other protocol all the same, and doesn't end it: that is left to
//! us, or the client would see a connection that broke.

use std::sync::Mutex;

use http::{Method, Request, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use crate::sync::lock;

/// The latest such request of a client's connection.
#[derive(Debug, Default)]
pub(super) struct UnchangedProtocol(Mutex<Option<Requested>>);

#[derive(Debug)]
struct Requested {
    stream: OnUpgrade,
    is_connect: bool,
}

impl UnchangedProtocol {
    /// A request begins.
    pub(super) fn requested<B>(&self, request: &Request<B>) {
        // Where it asks for none, what an earlier one has asked for is still there.
        if let Some(stream) = request.extensions().get::<OnUpgrade>() {
            *lock(&self.0) = Some(Requested {
                stream: stream.clone(),
                is_connect: request.method() == Method::CONNECT,
            });
        }
    }

    /// The latest request got its final response.
    pub(super) fn responded(&self, status: StatusCode) {
        let mut requested = lock(&self.0);
        if requested.as_ref().is_some_and(|requested| {
            status == StatusCode::SWITCHING_PROTOCOLS
                || (requested.is_connect && status.is_success())
        }) {
            *requested = None;
        }
    }

    /// HTTP is over on the connection: ends it in order, where nobody else does.
    pub(super) async fn end(&self) {
        let requested = lock(&self.0).take();
        if let Some(requested) = requested
            && let Ok(stream) = requested.stream.await
        {
            let _ = TokioIo::new(stream).shutdown().await;
        }
    }
}
