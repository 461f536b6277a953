//! Sending requests on one connection of HTTP/2.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2;

use super::body::RequestBody;
use super::http1_sender::NoResponse;
use crate::memory::{ConnectionMemory, MeteredBody};

/// A connection of HTTP/2 to a server, as whoever sends requests on it has it.
#[derive(Clone, Debug)]
pub(crate) struct Http2Sender {
    sender: http2::SendRequest<MeteredBody<RequestBody>>,
    /// Counts what waits to be sent.
    memory: Arc<ConnectionMemory>,
}

impl Http2Sender {
    pub(super) fn new(
        sender: http2::SendRequest<MeteredBody<RequestBody>>,
        memory: &Arc<ConnectionMemory>,
    ) -> Self {
        let memory = Arc::clone(memory);
        Self { sender, memory }
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// # Errors
    /// When the connection broke.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, NoResponse> {
        let request = request.map(|body| MeteredBody::new(body, &self.memory));
        let sent = self.sender.try_send_request(request).await;
        sent.map_err(|mut error| {
            let unsent = error.take_message();
            NoResponse {
                unsent: unsent.map(|request| request.map(MeteredBody::into_inner)),
                error: error.into_error(),
            }
        })
    }

    /// Resolves when a request can be sent.
    ///
    /// # Errors
    /// When the connection has ended.
    pub(crate) async fn ready(&mut self) -> Result<(), hyper::Error> {
        self.sender.ready().await
    }

    /// Whether it takes no request any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}
