//! The rule for a request, and the backend that it chooses.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;
use weft_model::NamespacedName;
use weft_model::detect::protocol::DeclaredProtocol;
use weft_model::mesh::{Candidate, Mesh};
use weft_model::route::matching::{PathMatch, RequestHead};
use weft_model::route::table::CompiledRule;
use weft_model::route::{Backend, BackendTarget, Filter};

use super::connection::ClientConnection;
use super::exchange::Exchange;
use super::session;
use crate::http::filter::{self, ClientRequest};
use crate::http::local_reply::LocalReply;
use crate::http::outgoing::OutgoingRequest;
use crate::traffic::RuleSequences;

/// The rule for a request, and the path because of which it matched.
#[derive(Debug)]
pub(super) struct MatchedRoute {
    /// `None` where no route for requests is attached to the service.
    pub(super) rule: Option<Arc<CompiledRule>>,
    matched_path: PathMatch,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) service: NamespacedName,
    pub(super) port: u16,
    pub(super) candidates: Arc<[Candidate]>,
    /// The endpoint that the request's session is bound to.
    pub(super) session_endpoint: Option<SocketAddr>,
    /// Whether HTTP/2 is spoken there.
    pub(super) http2: bool,
}

impl MatchedRoute {
    /// The filters of the rule.
    pub(super) fn filters(&self) -> &[Filter] {
        self.rule.as_ref().map_or(&[], |rule| &rule.rule.filters)
    }

    /// The next number of the rule's sequence, from 0 up to 1.
    pub(super) fn draw(&self, sequences: &RuleSequences) -> f64 {
        let rule = self.rule.as_ref();
        rule.map_or(1.0, |rule| sequences.next_number(rule.id))
    }
}

/// The rule for a request, whose path is put into the form that is compared.
///
/// # Errors
/// The reply when there are rules and none matches, or which one does is not certain.
pub(super) fn match_route<B>(
    connection: &ClientConnection,
    mesh: &Mesh,
    request: &mut Request<B>,
) -> Result<MatchedRoute, LocalReply> {
    let namespace = connection.pod.started_as.namespace();
    let table = mesh.route_table(&connection.service.key, connection.port, namespace);
    let Some(table) = table.filter(|table| table.kind().routes_requests()) else {
        return Ok(MatchedRoute {
            rule: None,
            matched_path: PathMatch::Prefix("/".into()),
        });
    };
    let normalization = connection.pod.workload(mesh).path_normalization;
    let forwarded = normalization.forwarded_path(request.uri().path());
    if let Cow::Owned(path) = forwarded.map_err(LocalReply::UnnormalizablePath)? {
        let target = filter::with_path(request.uri().clone(), path);
        *request.uri_mut() = target?;
    }
    let head = RequestHead {
        method: request.method(),
        path: request.uri().path(),
        query: request.uri().query(),
        headers: request.headers(),
    };
    let matched = table.match_normalized(&head, normalization);
    let matched = matched.map_err(LocalReply::AmbiguousPath)?;
    let (rule, matched) = matched.ok_or(LocalReply::NoRoute)?;
    Ok(MatchedRoute {
        rule: Some(Arc::clone(rule)),
        matched_path: matched.path.clone(),
    })
}

/// Applies the filters of the rule and of the backend that it chooses, and finds the
/// backend's endpoints.
///
/// # Errors
/// The reply to the client, where a filter replies or there is nowhere to go.
pub(super) fn choose_backend<'a>(
    exchange: &Exchange,
    route: &'a MatchedRoute,
    outgoing: &mut OutgoingRequest,
) -> Result<(Destination, Option<&'a Backend>), LocalReply> {
    let connection = &exchange.connection;
    let client = ClientRequest {
        host: exchange.info.host(),
        port: connection.original.address().port(),
        matched: &route.matched_path,
    };
    let Some(rule) = &route.rule else {
        let destination = destination(exchange, &connection.service.key, connection.port)?;
        return Ok((destination, None));
    };
    let session = rule.rule.session.as_ref();
    let token = session.and_then(|session| session::token(session, &outgoing.headers));
    filter::apply_to_request(&rule.rule.filters, client, outgoing)?;
    let bound = token.and_then(|token| session_backend(exchange, rule, &token));
    let (destination, backend) = match bound {
        Some(bound) => bound,
        None => {
            let sequences = &exchange.connection.pod.node.sequences;
            let backend = rule.backend(|| sequences.next_number(rule.id));
            let backend = backend.ok_or(LocalReply::NoBackend)?;
            (backend_destination(exchange, backend)?, backend)
        }
    };
    filter::apply_to_request(&backend.filters, client, outgoing)?;
    Ok((destination, Some(backend)))
}

/// The backend with the endpoint of a session, which stays with it whatever the backends'
/// shares are (GEP-1619).
fn session_backend<'a>(
    exchange: &Exchange,
    rule: &'a CompiledRule,
    token: &str,
) -> Option<(Destination, &'a Backend)> {
    let backends = rule.rule.backends.iter();
    let mut weighted = backends.filter(|backend| backend.weight > 0);
    weighted.find_map(|backend| {
        let mut destination = backend_destination(exchange, backend).ok()?;
        let endpoint = session::endpoint(token, &destination.candidates)?;
        destination.session_endpoint = Some(endpoint);
        Some((destination, backend))
    })
}

fn backend_destination(exchange: &Exchange, backend: &Backend) -> Result<Destination, LocalReply> {
    match &backend.target {
        BackendTarget::Service { service, port } => destination(exchange, service, *port),
        BackendTarget::Invalid { .. } => Err(LocalReply::InvalidBackend),
    }
}

/// The endpoints of a port of a service, and what they speak: what is declared, else what
/// the client speaks.
///
/// # Errors
/// When there is no such port, or no endpoint for it.
pub(super) fn destination(
    exchange: &Exchange,
    service: &NamespacedName,
    port: u16,
) -> Result<Destination, LocalReply> {
    let (connection, mesh) = (&exchange.connection, &exchange.mesh);
    let is_ipv4 = connection.original.address().is_ipv4();
    let candidates = connection.pod.candidates(mesh, (service, port), is_ipv4);
    let declared = mesh.service(service).and_then(|known| known.port(port));
    let declared = declared.map_or(DeclaredProtocol::Unknown, DeclaredProtocol::from_port);
    let info = &exchange.info;
    Ok(Destination {
        service: service.clone(),
        port,
        candidates: candidates.map_err(LocalReply::Unroutable)?,
        session_endpoint: None,
        // Only HTTP/1 changes its protocol by Upgrade (RFC 9113 section 8.6).
        http2: info.upgrade.is_none() && (info.http2 || declared == DeclaredProtocol::Http2),
    })
}
