//! The walk of a request: find its rule, apply the rule's filters, choose where it goes, ask
//! the policies, send it, apply the filters to the response, record.

use std::pin::pin;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tracing::Instrument;
use weft_model::mesh::Candidate;
use weft_model::route::Filter;

use super::connection::ClientConnection;
use super::exchange::Exchange;
use super::forward::{Forwarded, NoResponse, forward};
use super::mirror::mirror;
use super::plan::PlannedRequest;
use super::policy::RequestPolicies;
use super::retry::AttemptPolicy;
use super::route::{Destination, MatchedRoute, choose_backend, match_route};
use super::session;
use crate::http::body::{Completion, RequestBodySource, ResponseBody};
use crate::http::head_bytes;
use crate::http::interim::expects_continue;
use crate::http::local_reply::LocalReply;
use crate::http::login::{concerns_login, logs_in};
use crate::http::outgoing::OutgoingRequest;
use crate::http::request_info::RequestInfo;
use crate::http::returning::to_client;
use crate::http::server::ResetRequest;
use crate::http::upgrade::{ProtocolChange, pass_upgrade};
use crate::http::{filter, strip_response};
use crate::pod::Pod;
use crate::telemetry::ResponseFlag;
use crate::upstream::RequestUnderWay;

/// The server of a request broke off, whose client had ended its side before.
#[derive(Debug, thiserror::Error)]
#[error("the client had ended its side")]
struct ClientLeft;

/// A response that began, with what is still to be done to it.
struct Answered<'a> {
    forwarded: Forwarded,
    /// The filters of the backend that answered.
    backend_filters: &'a [Filter],
    /// Headers that rate limit services asked us to add to the response.
    rate_limit_headers: HeaderMap,
    /// The destination that was decided on.
    destination: Destination,
}

/// Answers a request of a client.
///
/// # Errors
/// When the client's side has ended, and the server broke off.
pub(super) async fn answer(
    connection: &Arc<ClientConnection>,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, ResetRequest> {
    let info = RequestInfo::read(&request);
    info.set_host(request.headers_mut());
    let _head = connection.pod.memory.hold(head_bytes(&request));
    let mesh = connection.pod.node.store.snapshot();
    if !info.http2 && logs_in(request.headers()) {
        connection.bound.bind();
    }
    let matched = match_route(connection, &mesh, &mut request);
    let rule = matched
        .as_ref()
        .ok()
        .and_then(|matched| matched.rule.clone());
    let exchange = Exchange::begin(connection, mesh, &request, info, rule);
    let span = exchange.record.span().clone();
    // Pinned where it is made: it is large, and would be copied.
    let answering = pin!(exchange.answer(matched, request));
    answering.instrument(span).await
}

impl Exchange {
    async fn answer(
        mut self,
        matched: Result<MatchedRoute, LocalReply>,
        mut request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, ResetRequest> {
        if self.connection.pod.memory.is_short() {
            RequestBodySource::Unread(request.into_body()).discard();
            return Ok(self.reply(LocalReply::MemoryShort));
        }
        if self.info.hides_requests {
            RequestBodySource::Unread(request.into_body()).discard();
            return Ok(self.reply(LocalReply::HidesRequests));
        }
        let route = match matched {
            Ok(route) => route,
            Err(reply) => {
                RequestBodySource::Unread(request.into_body()).discard();
                return Ok(self.reply(reply));
            }
        };
        let client_upgrade = self
            .info
            .wants_protocol_change()
            .then(|| hyper::upgrade::on(&mut request));
        let dialled = self.connection.original.address();
        let (outgoing, body) = OutgoingRequest::from_request(request, &self.info, dialled);
        let mut body = RequestBodySource::Unread(body);
        let origin = filter::origin(route.filters(), &outgoing.headers);
        let expects_continue = !self.info.http2 && expects_continue(&outgoing.headers);
        match self.send(&route, outgoing, &mut body).await {
            Ok(answered) => Ok(self.respond(&route, origin, answered, client_upgrade)),
            Err(NoResponse::ClientLeft) => {
                self.record.fail(ResponseFlag::DownstreamReset);
                Err(ResetRequest(ClientLeft.into()))
            }
            Err(NoResponse::Reply(reply)) => {
                let mut response = self.reply(reply);
                let headers = response.headers_mut();
                filter::apply_to_response(route.filters(), origin.as_ref(), headers);
                // A client that waits with its body keeps it.
                match expects_continue {
                    true => drop(body),
                    false => body.discard(),
                }
                Ok(response)
            }
        }
    }

    /// Applies the rule's filters, asks the policies, sends the request and its copies.
    async fn send<'a>(
        &mut self,
        route: &'a MatchedRoute,
        mut outgoing: OutgoingRequest,
        body: &mut RequestBodySource,
    ) -> Result<Answered<'a>, NoResponse> {
        let (destination, backend) = choose_backend(self, route, &mut outgoing)?;
        let backend_filters = backend.map_or(&[][..], |backend| &backend.filters);
        let policies = RequestPolicies::new(self, &destination);
        let permits = policies.admit()?;
        let rate_limit_headers = policies.check_rate_limits(self, &mut outgoing).await?;
        policies.inject_faults().await?;
        let rule = route.rule.as_ref().map(|rule| &rule.rule);
        let attempts = AttemptPolicy::decide(self.record.began(), rule, &policies);
        self.prepare_body(body, [route.filters(), backend_filters]);
        self.send_mirrors(route, backend_filters, &outgoing, body);
        let about = self.connection.info(&self.mesh, None, &destination.service);
        self.record.set_info(about);
        let request = PlannedRequest {
            outgoing: &outgoing,
            destination: &destination,
            policies: &policies,
            attempts: &attempts,
        };
        let forwarded = forward(self, &request, body, permits).await?;
        body.keep_no_longer();
        Ok(Answered {
            forwarded,
            backend_filters,
            rate_limit_headers,
            destination,
        })
    }

    /// Keeps of the body what another attempt or a copy may need.
    fn prepare_body(&self, body: &mut RequestBodySource, filters: [&[Filter]; 2]) {
        if self.info.connect {
            // What follows the head belongs to the tunnel.
            *body = RequestBodySource::Empty;
            return;
        }
        let mirrored = filters
            .into_iter()
            .flat_map(filter::mirrors)
            .next()
            .is_some();
        body.prepare(self.info.http2, mirrored, self.record.request_bytes());
    }

    fn send_mirrors(
        &self,
        route: &MatchedRoute,
        backend_filters: &[Filter],
        outgoing: &OutgoingRequest,
        body: &RequestBodySource,
    ) {
        // What follows a change of protocol is no request that could be copied.
        if self.info.wants_protocol_change() {
            return;
        }
        let filters = route.filters().iter().chain(backend_filters);
        for filter in filters {
            if let Filter::Mirror(to) = filter
                && to.selects(route.draw(&self.connection.pod.node.sequences))
            {
                mirror(self, &to.target, outgoing, body);
            }
        }
    }

    /// Keeps the connection for this client, where it has logged in on it or is asked to.
    fn bind_connection(&self, response: &Response<Incoming>, completion: &mut Completion) {
        if !self.info.http2 && concerns_login(response.status(), response.headers()) {
            self.connection.bound.bind();
        }
        if let (Some(bound), Some(lease)) = (self.bound(), &mut completion.lease) {
            lease.bind(bound);
        }
    }

    /// Applies the filters to the response, and passes it on.
    fn respond(
        mut self,
        route: &MatchedRoute,
        origin: Option<HeaderValue>,
        answered: Answered<'_>,
        client_upgrade: Option<OnUpgrade>,
    ) -> Response<ResponseBody> {
        let Forwarded {
            mut response,
            candidate,
            cookie,
            deadline,
            mut completion,
        } = answered.forwarded;
        self.bind_connection(&response, &mut completion);
        self.record
            .response_started(response.status(), response.headers());
        let upgraded = self.info.protocol_changes_with(response.status());
        let upstream_upgrade = upgraded.then(|| hyper::upgrade::on(&mut response));
        let (mut head, source) = response.into_parts();
        strip_response(&mut head, self.info.http2);
        filter::apply_to_response(answered.backend_filters, None, &mut head.headers);
        filter::apply_to_response(route.filters(), origin.as_ref(), &mut head.headers);
        head.headers.extend(answered.rate_limit_headers);
        if let Some(cookie) = cookie {
            cookie.set(&mut head.headers);
        }
        let rule = route.rule.as_ref();
        if let Some(session) = rule.and_then(|rule| rule.rule.session.as_ref()) {
            let bound = answered.destination.session_endpoint;
            session::remember(session, &candidate, bound, &mut head.headers);
        }
        if let (Some(client), Some(upstream)) = (client_upgrade, upstream_upgrade) {
            let (upgrades, record) = (&self.connection.upgrades, self.record);
            let change = ProtocolChange {
                client,
                upstream,
                denied: until_denied(
                    Arc::clone(&self.connection.pod),
                    candidate,
                    completion.under_way.clone(),
                ),
            };
            return pass_upgrade(upgrades, &self.info, head, change, record, completion);
        }
        let is_last = completion.has_unread_body();
        let Self { info, record, .. } = self;
        let body =
            ResponseBody::upstream(&info, (source, head.version), deadline, record, completion);
        to_client(&info, head, body, is_last)
    }
}

/// Resolves when the pod may not be connected to an endpoint any more, or the endpoint's policies
/// revoke the request: each is decided about for itself, but one that has changed the protocol may
/// last.
async fn until_denied(pod: Arc<Pod>, candidate: Candidate, request: Option<Arc<RequestUnderWay>>) {
    tokio::select! {
        () = until_egress_denied(pod, candidate) => {}
        () = RequestUnderWay::revoked(request.as_ref()) => {}
    }
}

/// Resolves when egress rules don't admit the endpoint any more.
async fn until_egress_denied(pod: Arc<Pod>, candidate: Candidate) {
    let mut changes = pod.node.store.subscribe();
    loop {
        let mesh = pod.node.store.snapshot();
        let allowed = mesh.authorize_egress(&pod.workload(&mesh), &candidate);
        if allowed.is_err_and(|denied| denied.ends_connections()) {
            return;
        }
        drop(mesh);
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests;
