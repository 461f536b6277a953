//! Requests out of a pod: each is matched, changed, sent and recorded on its own, as the
//! routes of the Gateway API say.
//!
//! The way of a request, in [`exchange`]: find its rule, take the rule's steps, choose a
//! backend and an endpoint, send it, try again where that is wanted, take the steps back,
//! record once.
//!
//! * [`detect`]: what a connection speaks
//! * [`serve`]: the client's connection, HTTP/1 behind the guard of `weft-http-guard`
//! * [`exchange`], [`forward`]: a request, and one attempt of it
//! * [`filters`], [`answer`], [`message`]: what is done to messages; pure
//! * [`policy`]: what TrafficPolicies say of a request
//! * [`mirror`], [`upgrade`], [`session`]: copies, other protocols, sticky endpoints
//! * [`pool`], [`connect`], [`stream`], [`endpoints`]: the connections to endpoints
//! * [`body`], [`response`], [`recorder`]: bodies on their way, and the record at the end

mod answer;
mod body;
mod connect;
mod detect;
mod endpoints;
mod exchange;
mod filters;
mod forward;
mod message;
mod mirror;
mod policy;
mod pool;
mod recorder;
mod response;
mod serve;
pub mod session;
mod stream;
mod upgrade;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use weft_http_guard::{Refusal, RefusalKind};
use weft_model::detect::protocol::{DeclaredProtocol, DetectedProtocol};
use weft_model::mesh::Candidate;
use weft_model::service::Service;
use weft_model::{NamespacedName, OriginalDestination};

use self::endpoints::EndpointCache;
use self::pool::HttpPool;
use crate::config::control_plane::ControlPlane;
use crate::net::Net;
use crate::outbound::describe;
use crate::rate_limit::RateLimits;
use crate::record::{self, Connection, Outcome};
use crate::relay::Progress;
use crate::shared::{LocalPod, Shared};

/// Copies of requests that a pod may have under way.
const MIRRORS: usize = 256;
/// Descriptions of connections that are kept for a client's connection.
const DESCRIPTIONS: usize = 64;

/// What one pod has for its requests.
#[derive(Debug)]
pub(crate) struct PodHttp {
    /// Its connections.
    pub(crate) pool: HttpPool,
    endpoints: EndpointCache,
    mirrors: Arc<Semaphore>,
    pub(crate) rate_limits: RateLimits,
}

impl PodHttp {
    /// Nothing yet. Rate limits of policies without a server are asked of the control
    /// plane, where there is one.
    pub(crate) fn new(control_plane: Option<ControlPlane>) -> Self {
        Self {
            pool: HttpPool::default(),
            endpoints: EndpointCache::default(),
            mirrors: Arc::new(Semaphore::new(MIRRORS)),
            rate_limits: RateLimits::new(control_plane),
        }
    }
}

/// A client's connection that carries requests.
#[derive(Debug)]
pub(crate) struct Downstream<N> {
    shared: Arc<Shared<N>>,
    pod: Arc<LocalPod<N>>,
    /// The application's end, with the pod's address.
    client: SocketAddr,
    /// What it dialled.
    original: OriginalDestination,
    /// The service of that address.
    service: Arc<Service>,
    descriptions: Mutex<Vec<Description>>,
}

/// An endpoint of a service, and a connection to it for the record.
type Description = (Option<Candidate>, NamespacedName, Arc<Connection>);

/// Whether a connection to that destination may carry requests that the mesh looks at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Expected {
    /// It is HTTP, as it was declared.
    Http(Arc<Service>),
    /// It may be: its first bytes tell.
    Perhaps(Arc<Service>),
    /// It is carried as it is.
    Opaque,
}

/// What is expected of a connection to that destination: HTTP where it was declared, or
/// where a route for requests is attached.
pub(crate) fn expected<N>(
    shared: &Shared<N>,
    pod: &LocalPod<N>,
    original: OriginalDestination,
) -> Expected {
    let address = original.address();
    let mesh = shared.store.snapshot();
    let Some(service) = mesh.service_by_address(address.ip()) else {
        return Expected::Opaque;
    };
    let Some(port) = service.port(address.port()) else {
        return Expected::Opaque;
    };
    let namespace = pod.started_as.namespace();
    let routes = mesh.route_table(&service.key, port.port, namespace);
    let routed = routes.map(|table| table.kind().routes_requests());
    // A TCPRoute or a TLSRoute is about connections, whatever is declared.
    if routed == Some(false) {
        return Expected::Opaque;
    }
    let routed = routed.is_some();
    match DeclaredProtocol::from_port(port) {
        DeclaredProtocol::Http | DeclaredProtocol::Http2 => Expected::Http(Arc::clone(service)),
        DeclaredProtocol::Unknown | DeclaredProtocol::Opaque if routed => {
            Expected::Perhaps(Arc::clone(service))
        }
        DeclaredProtocol::Unknown | DeclaredProtocol::Opaque | DeclaredProtocol::Tls => {
            Expected::Opaque
        }
    }
}

/// What a client speaks; waits for its first bytes.
///
/// # Errors
/// When the connection breaks.
pub(crate) async fn first_bytes(stream: &TcpStream) -> std::io::Result<DetectedProtocol> {
    detect::first_bytes(stream).await
}

pub(crate) use detect::SILENCE;

/// Serves a connection of HTTP to its end.
pub(crate) async fn serve<N: Net>(
    downstream: Downstream<N>,
    stream: TcpStream,
    is_http2: bool,
    draining: watch::Receiver<bool>,
) {
    let downstream = Arc::new(downstream);
    match is_http2 {
        true => serve::http2(downstream, stream, draining).await,
        false => serve::http1(downstream, stream, draining).await,
    }
}

/// The response flag of requests that the guard refused.
fn flag_of_refusal(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::Syntax => "REQUEST_SYNTAX",
        RefusalKind::Host => "REQUEST_HOST",
        RefusalKind::Framing => "REQUEST_FRAMING",
        RefusalKind::TooLarge => "REQUEST_TOO_LARGE",
    }
}

impl<N> Downstream<N> {
    /// A connection of `client` to a service.
    pub(crate) fn new(
        shared: Arc<Shared<N>>,
        pod: Arc<LocalPod<N>>,
        client: SocketAddr,
        original: OriginalDestination,
        service: Arc<Service>,
    ) -> Self {
        Self {
            shared,
            pod,
            client,
            original,
            service,
            descriptions: Mutex::default(),
        }
    }

    /// Records what the guard refused.
    fn refused(&self, refusal: Refusal) {
        let connection = self.describe(None, &self.service.key);
        let (shared, uid) = (&self.shared, &self.pod.started_as.uid);
        let (nothing, began) = (Progress::default(), Instant::now());
        let outcome = Outcome::failed(flag_of_refusal(refusal.kind()), &refusal);
        record::closed(&shared.metrics, uid, &connection, &nothing, &outcome, began);
    }

    /// What a request to an endpoint is, for its record.
    fn describe(&self, candidate: Option<&Candidate>, service: &NamespacedName) -> Arc<Connection> {
        let mut known = self
            .descriptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_it = |entry: &&Description| entry.0.as_ref() == candidate && entry.1 == *service;
        if let Some((_, _, description)) = known.iter().find(is_it) {
            return Arc::clone(description);
        }
        let workload = self.pod.workload(&self.shared);
        let mesh = self.shared.store.snapshot();
        let service_now = mesh.service(service).unwrap_or(&self.service);
        let (original, client) = (Some(self.original), self.client);
        let description = describe(&workload, client, original, candidate, Some(service_now));
        let description = Arc::new(description);
        if known.len() >= DESCRIPTIONS {
            known.clear();
        }
        known.push((
            candidate.cloned(),
            service.clone(),
            Arc::clone(&description),
        ));
        description
    }
}
