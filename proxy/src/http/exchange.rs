//! The way of a request: find its rule, take the rule's steps, choose where it goes,
//! send it, take the steps back, record.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::{Body, Incoming};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use weft_model::detect::protocol::DeclaredProtocol;
use weft_model::mesh::Candidate;
use weft_model::route::matching::{PathMatch, RequestHead};
use weft_model::route::table::CompiledRule;
use weft_model::route::{Backend, BackendTarget, Filter, Retry, Timeouts};
use weft_model::{Mesh, NamespacedName};

use super::Downstream;
use super::answer::Answer;
use super::body::{KEPT_BYTES, Kept, OutgoingBody, RequestBody};
use super::filters::{self, Original, Outgoing};
use super::forward::{self, Forwarded};
use super::message::{Asked, strip_hop_by_hop};
use super::policy::{Permits, Policies};
use super::recorder::{Described, Recorder};
use super::response::{ResponseBody, UpstreamBody};
use super::{mirror, session, upgrade};
use crate::net::Net;

/// The rule for a request, and the path because of which it is.
struct Found {
    rule: Option<Arc<CompiledRule>>,
    matched: PathMatch,
}

/// Where a request goes.
pub(super) struct Destination {
    pub(super) service: NamespacedName,
    pub(super) port: u16,
    pub(super) candidates: Arc<[Candidate]>,
    /// The endpoint that the request's session is bound to.
    pub(super) bound: Option<SocketAddr>,
    /// Whether it speaks HTTP/2.
    pub(super) http2: bool,
}

/// How long a request may take and when it is tried again.
pub(super) struct Patience<'a> {
    /// When the whole response has to be there.
    pub(super) deadline: Option<Instant>,
    /// How long one attempt may take.
    pub(super) attempt: Option<Duration>,
    pub(super) retry: Option<&'a Retry>,
}

/// A response that began, with what is still to be done to it.
struct Answered<'a> {
    forwarded: Forwarded,
    /// The steps of the backend that answered.
    backend_filters: &'a [Filter],
    /// What rate limit services want to be told.
    told: HeaderMap,
    /// The endpoint that the request's session was bound to.
    bound: Option<SocketAddr>,
}

/// Answers a request of a client.
pub(super) async fn exchange<N: Net>(
    downstream: &Arc<Downstream<N>>,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    let asked = Asked::of(&request);
    asked.show_host(request.headers_mut());
    let mesh = downstream.shared.store.snapshot();
    let found = find(downstream, &mesh, &request);
    let mut recorder = recorder(downstream, &request, &asked, found.as_ref());
    let Some(found) = found else {
        OutgoingBody::Unread(request.into_body()).discard();
        return answer(recorder, &asked, Answer::NoRule);
    };
    let client_upgrade = asked
        .changes_protocol()
        .then(|| hyper::upgrade::on(&mut request));
    let (outgoing, body) = outgoing(request, &asked);
    let mut body = OutgoingBody::Unread(body);
    let origin = filters::origin(found.filters(), &outgoing.headers);
    let sent = send(
        downstream,
        &mesh,
        &asked,
        &found,
        outgoing,
        &mut body,
        &mut recorder,
    );
    match sent.await {
        Ok(answered) => finish(&asked, &found, origin, answered, client_upgrade, recorder),
        Err(error) => {
            let mut response = answer(recorder, &asked, error);
            let headers = response.headers_mut();
            filters::apply_to_response(found.filters(), origin.as_ref(), headers);
            body.discard();
            response
        }
    }
}

/// Takes the rule's steps, asks the policies, sends the request and its copies.
async fn send<'a, N: Net>(
    downstream: &Arc<Downstream<N>>,
    mesh: &Arc<Mesh>,
    asked: &Asked,
    found: &'a Found,
    mut outgoing: Outgoing,
    body: &mut OutgoingBody,
    recorder: &mut Recorder,
) -> Result<Answered<'a>, Answer> {
    let (destination, backend) = prepare(downstream, mesh, asked, found, &mut outgoing)?;
    let backend_filters = backend.map_or(&[][..], |backend| &backend.filters);
    let policies = Policies::new(downstream, mesh, &destination);
    let (permits, told) = admit(downstream, mesh, &policies, &mut outgoing).await?;
    let rule = found.rule.as_ref();
    let patience = patience(recorder.began(), rule, &policies);
    let filters = [found.filters(), backend_filters];
    if let OutgoingBody::Unread(source) = std::mem::take(body) {
        *body = outgoing_body(asked, source, &patience, filters, recorder);
    }
    let sequences = &downstream.shared.rule_sequences;
    for copied in filters.into_iter().flat_map(filters::mirrors) {
        let draw = rule.map_or(1.0, |rule| sequences.next_number(rule.id));
        // What follows a change of protocol is no request that could be copied.
        if copied.selects(draw) && !asked.changes_protocol() {
            let to = &copied.target;
            mirror::send(downstream, mesh, to, asked, &outgoing, body);
        }
    }
    recorder.connection = downstream.describe(None, &destination.service);
    let forwarded = forward::forward(
        downstream,
        asked,
        &outgoing,
        &destination,
        &patience,
        &policies,
        body,
        permits,
        recorder,
    );
    Ok(Answered {
        forwarded: forwarded.await?,
        backend_filters,
        told,
        bound: destination.bound,
    })
}

/// Takes the steps back, and passes the response on.
fn finish(
    asked: &Asked,
    found: &Found,
    origin: Option<HeaderValue>,
    answered: Answered<'_>,
    client_upgrade: Option<OnUpgrade>,
    mut recorder: Recorder,
) -> Response<ResponseBody> {
    let Forwarded {
        mut response,
        candidate,
        lease,
        deadline,
        cookie,
        outcome,
    } = answered.forwarded;
    recorder.answered(response.status(), response.headers());
    let changed = asked.is_changed_by(response.status());
    let upstream_upgrade = changed.then(|| hyper::upgrade::on(&mut response));
    let (mut head, source) = response.into_parts();
    strip_hop_by_hop(&mut head.headers);
    filters::apply_to_response(answered.backend_filters, None, &mut head.headers);
    filters::apply_to_response(found.filters(), origin.as_ref(), &mut head.headers);
    head.headers.extend(answered.told);
    if let Some(cookie) = cookie {
        cookie.set(&mut head.headers);
    }
    let session = found
        .rule
        .as_ref()
        .and_then(|rule| rule.rule.session.as_ref());
    if let Some(session) = session {
        session::remember(session, &candidate, answered.bound, &mut head.headers);
    }
    // The version is the client's connection's business.
    head.version = http::Version::default();
    if let (Some(client), Some(upstream)) = (client_upgrade, upstream_upgrade) {
        return upgrade::carry(asked, head, client, upstream, (recorder, outcome));
    }
    let body = UpstreamBody {
        source,
        lease: Some(lease),
        deadline: deadline.map(|at| Box::pin(tokio::time::sleep_until(at.into()))),
        recorder,
        outcome,
    };
    Response::from_parts(head, ResponseBody::upstream(body))
}

impl Found {
    /// The steps of the rule, where there is one.
    fn filters(&self) -> &[Filter] {
        self.rule.as_ref().map_or(&[], |rule| &rule.rule.filters)
    }
}

/// The rule for a request; `None` when there are rules and none is for it.
fn find<N>(downstream: &Downstream<N>, mesh: &Mesh, request: &Request<Incoming>) -> Option<Found> {
    let everything = PathMatch::Prefix("/".into());
    let (service, port) = (
        &downstream.service.key,
        downstream.original.address().port(),
    );
    let namespace = downstream.pod.started_as.namespace();
    let table = mesh.route_table(service, port, namespace);
    let Some(table) = table.filter(|table| table.kind().routes_requests()) else {
        return Some(Found {
            rule: None,
            matched: everything,
        });
    };
    let head = RequestHead {
        method: request.method(),
        path: request.uri().path(),
        query: request.uri().query(),
        headers: request.headers(),
    };
    let (rule, matching) = table.match_request(&head)?;
    Some(Found {
        rule: Some(Arc::clone(rule)),
        matched: matching.path.clone(),
    })
}

fn recorder<N: Net>(
    downstream: &Downstream<N>,
    request: &Request<Incoming>,
    asked: &Asked,
    found: Option<&Found>,
) -> Recorder {
    let rule = found.and_then(|found| found.rule.as_ref());
    let described = Described {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        authority: asked.authority.clone(),
        grpc: asked.grpc,
        rule: rule.cloned(),
    };
    let connection = downstream.describe(None, &downstream.service.key);
    let metrics = Arc::clone(&downstream.shared.metrics);
    let pod = downstream.pod.started_as.uid.clone();
    Recorder::new(metrics, pod, connection, described)
}

/// A response of the proxy itself.
fn answer(mut recorder: Recorder, asked: &Asked, answer: Answer) -> Response<ResponseBody> {
    let (flag, grpc_status) = (answer.flag(), answer.carried_grpc_status(asked.grpc));
    let response = answer.into_response(asked.grpc);
    recorder.answered_here(response.status(), grpc_status, flag);
    response
}

fn outgoing(request: Request<Incoming>, asked: &Asked) -> (Outgoing, Incoming) {
    let (mut parts, body) = request.into_parts();
    strip_hop_by_hop(&mut parts.headers);
    let outgoing = Outgoing {
        method: parts.method,
        target: parts.uri,
        authority: asked.authority.clone(),
        headers: parts.headers,
        protocol: parts.extensions.remove::<Protocol>(),
    };
    (outgoing, body)
}

/// Takes the steps before a request is sent, and chooses where it goes.
fn prepare<'a, N: Net>(
    downstream: &Downstream<N>,
    mesh: &Arc<Mesh>,
    asked: &Asked,
    found: &'a Found,
    outgoing: &mut Outgoing,
) -> Result<(Destination, Option<&'a Backend>), Answer> {
    let original = Original {
        host: asked.host(),
        port: downstream.original.address().port(),
        matched: &found.matched,
    };
    let Some(rule) = &found.rule else {
        let (service, port) = (&downstream.service.key, original.port);
        let destination = destination(downstream, mesh, asked, service, port)?;
        return Ok((destination, None));
    };
    let asked_session = rule.rule.session.as_ref();
    let token = asked_session.and_then(|session| session::token(session, &outgoing.headers));
    filters::apply(&rule.rule.filters, original, outgoing)?;
    let look_up = |backend: &Backend| match &backend.target {
        BackendTarget::Service { service, port } => {
            destination(downstream, mesh, asked, service, *port)
        }
        BackendTarget::Invalid { .. } => Err(Answer::InvalidBackend),
    };
    // A session stays with its endpoint, whatever the backends' shares are (GEP-1619).
    let bound = token.and_then(|token| {
        let weighted = rule
            .rule
            .backends
            .iter()
            .filter(|backend| backend.weight > 0);
        let mut destinations = weighted.filter_map(|backend| {
            let mut destination = look_up(backend).ok()?;
            destination.bound = Some(session::endpoint(&token, &destination.candidates)?);
            Some((destination, backend))
        });
        destinations.next()
    });
    let (destination, backend) = match bound {
        Some(bound) => bound,
        None => {
            let draw = || downstream.shared.rule_sequences.next_number(rule.id);
            let backend = rule.backend(draw).ok_or(Answer::NoBackend)?;
            (look_up(backend)?, backend)
        }
    };
    filters::apply(&backend.filters, original, outgoing)?;
    Ok((destination, Some(backend)))
}

/// The endpoints of a port of a service, and what they speak: what is declared, else what
/// the client speaks.
pub(super) fn destination<N: Net>(
    downstream: &Downstream<N>,
    mesh: &Arc<Mesh>,
    asked: &Asked,
    service: &NamespacedName,
    port: u16,
) -> Result<Destination, Answer> {
    let is_ipv4 = downstream.original.address().is_ipv4();
    let (endpoints, node) = (&downstream.pod.http.endpoints, &downstream.shared.node);
    let candidates = endpoints
        .candidates(mesh, node, (service, port), is_ipv4)
        .map_err(Answer::Unroutable)?;
    let declared = mesh.service(service).and_then(|known| known.port(port));
    let declared = declared.map_or(DeclaredProtocol::Unknown, DeclaredProtocol::from_port);
    Ok(Destination {
        service: service.clone(),
        port,
        candidates,
        bound: None,
        // Only HTTP/1 changes its protocol by Upgrade (RFC 9113 section 8.6).
        http2: asked.upgrade.is_none() && (asked.http2 || declared == DeclaredProtocol::Http2),
    })
}

/// What the policies say before a request is sent: what fails on purpose, what is too
/// much.
async fn admit<N: Net>(
    downstream: &Arc<Downstream<N>>,
    mesh: &Arc<Mesh>,
    policies: &Policies,
    outgoing: &mut Outgoing,
) -> Result<(Permits, HeaderMap), Answer> {
    let permits = policies.admit()?;
    let told = policies.limit_rate(downstream, mesh, outgoing).await?;
    policies.inject_faults().await?;
    Ok((permits, told))
}

/// What the route says counts, then what the policies say.
fn patience<'a>(
    began: Instant,
    rule: Option<&'a Arc<CompiledRule>>,
    policies: &'a Policies,
) -> Patience<'a> {
    let routed = rule.map(|rule| rule.rule.timeouts).unwrap_or_default();
    let Timeouts {
        request,
        backend_request,
    } = match routed == Timeouts::default() {
        true => policies.timeouts(),
        false => routed,
    };
    let retry = rule.and_then(|rule| rule.rule.retry.as_ref());
    Patience {
        deadline: request.map(|limit| began + limit),
        attempt: backend_request,
        retry: retry.or_else(|| policies.retry()),
    }
}

/// The body as it is sent: kept where another attempt or a copy may need it.
fn outgoing_body(
    asked: &Asked,
    source: Incoming,
    patience: &Patience<'_>,
    filters: [&[Filter]; 2],
    recorder: &Recorder,
) -> OutgoingBody {
    if asked.changes_protocol() || source.is_end_stream() {
        return OutgoingBody::Empty;
    }
    let sent = Arc::clone(&recorder.sent);
    let mut copies = filters.into_iter().flat_map(filters::mirrors);
    let copied = copies.next().is_some();
    match (patience.retry.is_some(), copied) {
        (false, false) => OutgoingBody::Once(Some(RequestBody::Stream { source, sent })),
        (retried, _) => {
            let bound = if retried { KEPT_BYTES } else { 0 };
            OutgoingBody::Kept(Kept::new(source, bound, sent))
        }
    }
}
