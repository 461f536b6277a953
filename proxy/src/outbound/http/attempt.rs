//! One attempt of a request: a connection to the endpoint, the request on it, and the head
//! of the response.

use std::pin::pin;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use weft_model::detect::protocol::DeclaredProtocol;
use weft_model::mesh::{Candidate, Transport};

use super::exchange::Exchange;
use super::plan::PlannedRequest;
use super::retry::AttemptError;
use crate::http::body::{GateHolder, RequestBody, RequestBodySource};
use crate::http::half_close::ClientEnd;
use crate::http::has_unknown_coding;
use crate::http::local_reply::LocalReply;
use crate::http::pool::{BrokenConnection, Lease, PoolTarget, Reuse, SendError};
use crate::http::request_info::host_without_port;
use crate::telemetry::{RequestDescription, RequestRecord, ResponseFlag};
use crate::upstream::{Passage, ReceivedRequest, RequestHead, RequestUnderWay};

/// A response that began.
#[derive(Debug)]
pub(super) struct Attempted {
    pub(super) response: Response<Incoming>,
    pub(super) lease: Lease,
    /// The receiving pod's record, where this process serves that pod, too.
    pub(super) receiving: Option<RequestRecord>,
    /// The request, which that pod's policies may revoke.
    pub(super) under_way: Option<Arc<RequestUnderWay>>,
    /// Keeps the request's body with the client, as long as the server hasn't asked for it.
    pub(super) gate: Option<GateHolder>,
}

impl Attempted {
    /// The response, once its head can be passed on.
    ///
    /// # Errors
    /// When it can't.
    fn begin(mut self) -> Result<Self, AttemptError> {
        if has_unknown_coding(&self.response) {
            let flag = ResponseFlag::ResponseSyntax;
            if let Some(record) = &mut self.receiving {
                record.fail(flag);
            }
            return Err(AttemptError::BadResponse(flag));
        }
        if let Some(record) = &mut self.receiving {
            record.response_started(self.response.status(), self.response.headers());
        }
        Ok(self)
    }

    /// Lets the response go, as another attempt follows. A connection that is done with it
    /// is kept for another request.
    pub(super) fn discard(self) {
        if !self.response.body().is_end_stream() {
            return;
        }
        if let Some(mut record) = self.receiving {
            record.finish();
        }
        self.lease.give_back();
    }
}

/// Sends a request to an endpoint and waits for the head of its response.
///
/// # Errors
/// When there is no connection, or it breaks first.
pub(super) async fn attempt(
    exchange: &Exchange,
    request: &PlannedRequest<'_>,
    candidate: &Candidate,
    body: &mut RequestBodySource,
    reuse: Reuse,
) -> Result<Attempted, AttemptError> {
    let mut lease = lease(exchange, request, candidate, reuse).await?;
    let mut message = message(exchange, request, body)?;
    // Without a name of its own, it is not kept beside its parts.
    let (mut receiving, under_way) = match receive(exchange, request, &lease, &mut message) {
        Ok(received) => received,
        Err(refused) => {
            body.put_back(message.into_body());
            lease.give_back();
            return Err(refused);
        }
    };
    let mut gate = None;
    if let Some(interim) = exchange.interim().filter(|_| !request.destination.http2) {
        (message, gate) = interim.pass_on(message);
    }
    let message = message.map(|body| body.of_request(under_way.as_ref()));
    let sent = {
        let sending = pin!(lease.send(message, exchange.client_end()));
        RequestUnderWay::unless_revoked(under_way.as_ref(), sending).await
    };
    let Some(sent) = sent else {
        if let (Some(record), Some(request)) = (&mut receiving, under_way) {
            request.note_revocation(record);
            deny_under_way(record, exchange.info.grpc);
        }
        return Err(AttemptError::Denied);
    };
    match sent {
        Ok(response) => {
            let attempted = Attempted {
                response,
                lease,
                receiving,
                under_way,
                gate,
            };
            attempted.begin()
        }
        Err(SendError::Unsent(unsent)) => {
            if let Some(record) = receiving {
                record.discard();
            }
            body.put_back(unsent.into_body().without_gate());
            Err(AttemptError::Unsent)
        }
        Err(SendError::Unprocessed) => {
            if let Some(record) = &mut receiving {
                record.fail(ResponseFlag::UpstreamReset);
            }
            Err(AttemptError::Unprocessed)
        }
        Err(SendError::Broken(broken)) => Err(broken_attempt(
            exchange,
            candidate,
            broken,
            receiving.as_mut(),
        )),
    }
}

/// The request as the endpoint's version of HTTP has it.
///
/// # Errors
/// When its body is lost, or it has no host.
fn message(
    exchange: &Exchange,
    request: &PlannedRequest<'_>,
    body: &mut RequestBodySource,
) -> Result<Request<RequestBody>, AttemptError> {
    let lost = || AttemptError::Reset { was_idle: false };
    let (http2, attempt_body) = (request.destination.http2, body.next_attempt());
    let attempt_body = attempt_body.ok_or_else(lost)?;
    let outgoing = request.outgoing;
    let message = outgoing.to_request(&exchange.info, http2, attempt_body);
    message.map_err(|_| lost())
}

/// The failure of an attempt whose connection broke, which the receiving pod's record says, too.
fn broken_attempt(
    exchange: &Exchange,
    candidate: &Candidate,
    broken: BrokenConnection,
    receiving: Option<&mut RequestRecord>,
) -> AttemptError {
    let client_left = exchange.client_end().is_some_and(ClientEnd::has_ended);
    let flag = match client_left {
        true => ResponseFlag::DownstreamReset,
        false => broken.flag,
    };
    if let Some(record) = receiving {
        record.fail(flag);
    }
    match flag {
        ResponseFlag::DownstreamReset => AttemptError::ClientLeft,
        ResponseFlag::UpstreamReset if is_unprocessed(exchange, candidate, broken) => {
            AttemptError::Unprocessed
        }
        ResponseFlag::UpstreamReset => AttemptError::Reset {
            was_idle: broken.was_idle,
        },
        flag => AttemptError::BadResponse(flag),
    }
}

/// Whether the end of a connection says that the request on it was not read: a peer's proxy
/// that looks at requests ends a tunnel in order between two of them only, also ahead of the
/// first; of one that the application may have read it says so, or breaks the tunnel off.
fn is_unprocessed(exchange: &Exchange, candidate: &Candidate, broken: BrokenConnection) -> bool {
    let Transport::Tunnel { workload, .. } = &candidate.transport else {
        return false;
    };
    let port = candidate.address.port();
    let declared = exchange.mesh.declared_protocol(&workload.uid, port);
    let is_looked_at = matches!(declared, DeclaredProtocol::Http | DeclaredProtocol::Http2);
    broken.between_requests && is_looked_at
}

/// An idle connection to the endpoint, or a new one.
async fn lease(
    exchange: &Exchange,
    request: &PlannedRequest<'_>,
    candidate: &Candidate,
    reuse: Reuse,
) -> Result<Lease, AttemptError> {
    let connection = &exchange.connection;
    let (pod, client) = (&connection.pod, connection.client);
    let target = PoolTarget {
        service: &request.destination.service,
        port: request.destination.port,
        candidate,
        http2: request.destination.http2,
        source: connection.bound_source.towards(candidate),
    };
    let mut own = exchange.bound().into_iter();
    if let Some(lease) = own.find_map(|bound| pod.http_pool.reuse_bound(target, bound)) {
        return Ok(lease);
    }
    if let Some(lease) = pod.http_pool.reuse(target, reuse).await {
        return Ok(lease);
    }
    let pending = request.policies.endpoints().admit_pending();
    let _pending = pending.map_err(AttemptError::Refused)?;
    let (pod, source) = (Arc::clone(pod), pod.workload(&exchange.mesh));
    let bound = target.source;
    let connect =
        |candidate| async move { pod.dialer.dial(&candidate, &source, client, bound).await };
    // Boxed: it is rare, and its size would be part of every request's.
    let leased = Box::pin(connection.pod.http_pool.lease(target, connect));
    leased.await.map_err(AttemptError::Connect)
}

/// Records that the receiving pod's policies deny a request, or that it refuses its token.
fn deny(record: &mut RequestRecord, grpc: bool, reply: &LocalReply, flag: ResponseFlag) {
    let grpc_status = reply.carried_grpc_status(grpc);
    record.replied_locally(reply.response_status(grpc), grpc_status, flag);
}

/// Records that the receiving pod's policies have revoked a request.
fn deny_under_way(record: &mut RequestRecord, grpc: bool) {
    let reply = LocalReply::AuthorizationDenied;
    deny(record, grpc, &reply, ResponseFlag::PolicyChanged);
}

/// The receiving pod's own record of a request where this process serves that pod, too; and the
/// request, for as long as it is under way. It becomes the one that the application gets.
///
/// # Errors
/// When that pod's policies deny it, or it refuses its token.
fn receive(
    exchange: &Exchange,
    request: &PlannedRequest<'_>,
    lease: &Lease,
    message: &mut Request<RequestBody>,
) -> Result<(Option<RequestRecord>, Option<Arc<RequestUnderWay>>), AttemptError> {
    let Some(receiver) = lease.receiver() else {
        return Ok((None, None));
    };
    let (outgoing, grpc) = (request.outgoing, exchange.info.grpc);
    let description = RequestDescription {
        method: outgoing.method.clone(),
        path: outgoing.target.path().to_owned(),
        authority: outgoing.authority.clone(),
        grpc,
        rule: None,
    };
    let head = request_head(request, message);
    let ReceivedRequest {
        mut record,
        passage,
        under_way,
    } = receiver.receive(description, &head);
    record.share_request_bytes(exchange.record.request_bytes());
    let (reply, refused) = match passage {
        Passage::Allowed(rewritten) => {
            if let Some(rewritten) = rewritten {
                let mut uri = std::mem::take(message.uri_mut());
                rewritten.apply(message.headers_mut(), &mut uri);
                *message.uri_mut() = uri;
            }
            return Ok((Some(record), under_way));
        }
        Passage::Denied => (LocalReply::AuthorizationDenied, AttemptError::Denied),
        Passage::InvalidToken(refusal) => (
            LocalReply::InvalidToken(refusal),
            AttemptError::InvalidToken(refusal),
        ),
        Passage::Refused(refusal) => (refusal.into(), AttemptError::Refused(refusal)),
    };
    deny(&mut record, grpc, &reply, reply.flag());
    Err(refused)
}

/// The request as the application would get it.
fn request_head<'a>(
    request: &'a PlannedRequest<'_>,
    message: &'a Request<RequestBody>,
) -> RequestHead<'a> {
    RequestHead {
        method: message.method(),
        path: message.uri().path(),
        query: message.uri().query(),
        host: host_without_port(&request.outgoing.authority),
        headers: message.headers(),
    }
}

#[cfg(test)]
mod tests;
