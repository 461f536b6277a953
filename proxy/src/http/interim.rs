//! Interim responses (RFC 9110 section 15.2) between a server and a client that speak HTTP/1.1:
//! the server's are passed on, and none is made up. A client that expects a response of 100 gets
//! its server's, or the final one, and a body that nobody wants isn't read from it.

use std::sync::{Arc, Mutex, OnceLock};

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, Request, StatusCode};
use hyper::body::Body;
use hyper::ext::on_informational;
use weft_http_guard::GuardHandle;

use super::body::{BodyGate, GateHolder, RequestBody};
use crate::sync::lock;

/// Fields that an interim response has no use for.
const NOT_INTERIM: [http::HeaderName; 3] = [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];

/// Where a client's connection takes interim responses.
#[derive(Clone, Debug, Default)]
pub(crate) struct InterimResponses(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Writes them; none before the connection is served.
    guard: OnceLock<GuardHandle>,
    /// Held by the body of the request that is under way.
    gate: Mutex<Option<BodyGate>>,
}

/// Whether a request of HTTP/1.1 waits for a response of 100 before it sends its body.
pub(crate) fn expects_continue(headers: &HeaderMap) -> bool {
    let value = headers.get(EXPECT).map(http::HeaderValue::as_bytes);
    value.is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
}

impl InterimResponses {
    /// Serves the connection behind that guard.
    pub(super) fn set_guard(&self, guard: GuardHandle) {
        // A connection is served once.
        let _ = self.0.guard.set(guard);
    }

    /// The client sends its body without having been asked.
    pub(super) fn open_gate(&self) {
        if let Some(gate) = lock(&self.0.gate).take() {
            gate.open();
        }
    }

    /// Has the server's interim responses passed on to the client, and the body wait for that
    /// of 100 where the request expects it.
    pub(crate) fn pass_on(
        &self,
        mut request: Request<RequestBody>,
    ) -> (Request<RequestBody>, Option<GateHolder>) {
        let mut gate = None;
        if expects_continue(request.headers()) && !request.body().is_end_stream() {
            let (own, waiting) = BodyGate::closed();
            request = request.map(|body| RequestBody::Gated(waiting, Box::new(body)));
            *lock(&self.0.gate) = Some(own.clone());
            // It may have come before there was a connection to the server.
            if self
                .0
                .guard
                .get()
                .is_some_and(GuardHandle::has_unasked_body)
            {
                own.open();
            }
            gate = Some(own);
        }
        let (client, of_request) = (self.clone(), gate.clone());
        on_informational(&mut request, move |response| {
            match (response.status(), &of_request) {
                // It is sent to the client when its body is read.
                (StatusCode::CONTINUE, Some(gate)) => gate.open(),
                (StatusCode::CONTINUE, None) => {}
                (status, _) => client.write(status, response.headers()),
            }
        });
        (request, gate.map(GateHolder::new))
    }

    fn write(&self, status: StatusCode, headers: &HeaderMap) {
        if let Some(guard) = self.0.guard.get() {
            guard.send_interim(&head(status, headers));
        }
    }
}

/// An interim response as HTTP/1.1 has it.
fn head(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    for (name, value) in headers {
        if NOT_INTERIM.contains(name) {
            continue;
        }
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interim_response_is_a_head_of_its_own() {
        let mut headers = HeaderMap::new();
        headers.insert("link", "</a.css>; rel=preload".parse().unwrap());
        headers.insert(CONNECTION, "close".parse().unwrap());
        let head = head(StatusCode::EARLY_HINTS, &headers);
        assert_eq!(
            String::from_utf8(head).unwrap(),
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"
        );
    }
}
