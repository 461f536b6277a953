//! Requests that are let through only as kubelet's probes.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::header::{LOCATION, UPGRADE};
use http::{Request, Response};
use hyper::body::Body;
use tokio_util::sync::CancellationToken;
use weft_model::node_access::{NotAProbe, ProbePort, ProbeRequest};

use crate::http::local_reply::LocalReply;
use crate::http::original_target::OriginalTarget;
use crate::http::request_info::RequestInfo;
use crate::inbound::arrival::Arrival;
use crate::pod::Pod;
use crate::probe_redirects::redirected_target;

/// The requests of one connection, each compared with the probes of its port.
#[derive(Debug)]
pub(super) struct ProbeRequests {
    pod: Arc<Pod>,
    destination: SocketAddr,
    port: ProbePort,
    /// The first that was none.
    refusal: OnceLock<NotAProbe>,
    /// Cancelled with it: no other is taken.
    closing: CancellationToken,
}

impl ProbeRequests {
    pub(super) fn new(arrival: &Arrival, port: ProbePort, closing: CancellationToken) -> Self {
        Self {
            pod: Arc::clone(&arrival.pod),
            destination: arrival.destination,
            port,
            refusal: OnceLock::new(),
            closing,
        }
    }

    /// Whether a request may go on to the application.
    ///
    /// # Errors
    /// The reply to what is no probe; the connection ends with it.
    pub(super) fn authorize<B: Body>(
        &self,
        request: &Request<B>,
        info: &RequestInfo,
    ) -> Result<(), LocalReply> {
        if let Some(refusal) = self.refusal() {
            return Err(LocalReply::NotAProbe(refusal.clone()));
        }
        let target = request.uri().path_and_query();
        let original = request.extensions().get::<OriginalTarget>();
        let request = ProbeRequest {
            method: request.method().as_str(),
            // Probes are declared byte by byte.
            target: original
                .and_then(OriginalTarget::as_str)
                .unwrap_or(target.map_or("", http::uri::PathAndQuery::as_str)),
            is_http2: info.http2,
            has_body: !request.body().is_end_stream(),
            is_plain: !info.has_url && !info.connect && !request.headers().contains_key(UPGRADE),
        };
        let Err(refusal) = self.port.authorize_request(request) else {
            return Ok(());
        };
        if self.follows_redirect(request) {
            return Ok(());
        }
        self.closing.cancel();
        let reply = LocalReply::NotAProbe(refusal.clone());
        // The first is the one that is told.
        let _ = self.refusal.set(refusal);
        Err(reply)
    }

    /// Whether it is a GET of what the application has redirected kubelet to.
    fn follows_redirect(&self, request: ProbeRequest<'_>) -> bool {
        let port = self.destination.port();
        let redirects = &self.pod.probe_redirects;
        request.is_plain_get() && redirects.lead_to(port, request.target, Instant::now())
    }

    /// The application has responded to a GET of `asked`; kubelet will follow where that leads elsewhere.
    pub(super) fn responded<B>(&self, asked: &str, response: &Response<B>) {
        let location = response.headers().get(LOCATION);
        let location = location.filter(|_| response.status().is_redirection());
        let Some(location) = location.and_then(|location| location.to_str().ok()) else {
            return;
        };
        let (pod, port) = (self.destination.ip(), self.destination.port());
        if let Some((port, target)) = redirected_target(location, asked, pod, port) {
            let redirects = &self.pod.probe_redirects;
            redirects.remember(port, &target, Instant::now());
        }
    }

    /// The first request that was no probe.
    pub(super) fn refusal(&self) -> Option<&NotAProbe> {
        self.refusal.get()
    }
}
