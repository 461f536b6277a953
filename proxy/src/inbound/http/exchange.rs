//! The walk of a request into a pod: decide, record, forward to the application, pass the
//! response back.

use std::pin::pin;
use std::sync::Arc;

use http::header::{CONNECTION, HOST};
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tracing::Instrument;

use super::application::{ApplicationConnection, ApplicationError};
use super::requests::InboundRequests;
use crate::http::body::{Completion, RequestBodySource, ResponseBody};
use crate::http::broken_response::UnreadRequest;
use crate::http::interim::expects_continue;
use crate::http::local_reply::LocalReply;
use crate::http::request_info::RequestInfo;
use crate::http::returning::to_client;
use crate::http::server::ResetRequest;
use crate::http::upgrade::{ProtocolChange, UpgradeTasks, pass_upgrade};
use crate::http::{
    head_bytes, keeps_connection, refusal, restore_upgrade, strip_hop_by_hop, strip_response,
};
use crate::telemetry::{RequestDescription, RequestRecord, ResponseFlag};
use crate::upstream::{Passage, ReceivedRequest, RequestHead, RequestReceiver, RequestUnderWay};

/// Answers a request with the application's response.
///
/// # Errors
/// When the application broke off before it responded: the client sees the same.
pub(super) async fn exchange(
    requests: &InboundRequests,
    application: &ApplicationConnection,
    upgrades: &UpgradeTasks,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, ResetRequest> {
    let info = RequestInfo::read(&request);
    if let Some(probes) = &requests.probes
        && let Err(reply) = probes.authorize(&request, &info)
    {
        let mut response = reply.into_response(info.grpc);
        if !info.http2 {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        return Ok(response);
    }
    // The application may read another host than the one that counts.
    if info.has_url || request.headers().contains_key(HOST) {
        info.set_host(request.headers_mut());
    }
    let _head = application.hold_memory(head_bytes(&request));
    let probed = requests.probes.as_ref().and_then(|probes| {
        let asked = request.uri().path_and_query()?;
        Some((probes, asked.as_str().to_owned()))
    });
    let mut request = IncomingRequest::new(&info, request);
    let ReceivedRequest {
        record,
        passage,
        under_way,
    } = requests.receive(request.description(&info), &request.head(&info));
    let rewritten = match passage {
        Passage::Allowed(rewritten) => rewritten,
        Passage::Denied => {
            let reply = LocalReply::AuthorizationDenied;
            return Ok(refuse(&info, record, request, reply));
        }
        Passage::InvalidToken(refusal) => {
            let reply = LocalReply::InvalidToken(refusal);
            return Ok(refuse(&info, record, request, reply));
        }
        Passage::Refused(refusal) => return Ok(refuse(&info, record, request, refusal.into())),
    };
    if let Some(rewritten) = rewritten {
        rewritten.apply(&mut request.head.headers, &mut request.head.uri);
    }
    let span = record.span().clone();
    // Pinned where it is made: it is large, and would be copied.
    let forwarding = pin!(forward(
        application,
        upgrades,
        info,
        record,
        request,
        under_way
    ));
    let response = forwarding.instrument(span).await?;
    if let Some((probes, asked)) = probed {
        probes.responded(&asked, &response);
    }
    Ok(response)
}

/// A request on its way to the application.
struct IncomingRequest {
    /// Without what is about the client's connection alone: policies see what the application
    /// will.
    head: Parts,
    body: RequestBodySource,
    upgrade: Option<OnUpgrade>,
}

impl IncomingRequest {
    fn new(info: &RequestInfo, mut request: Request<Incoming>) -> Self {
        let upgrade = info.wants_protocol_change();
        let upgrade = upgrade.then(|| hyper::upgrade::on(&mut request));
        let (mut head, body) = request.into_parts();
        prepare_head(info, &mut head);
        Self {
            head,
            body: RequestBodySource::Unread(body),
            upgrade,
        }
    }

    fn head<'a>(&'a self, info: &'a RequestInfo) -> RequestHead<'a> {
        RequestHead {
            method: &self.head.method,
            path: self.head.uri.path(),
            query: self.head.uri.query(),
            host: info.host(),
            headers: &self.head.headers,
        }
    }

    fn description(&self, info: &RequestInfo) -> RequestDescription {
        RequestDescription {
            method: self.head.method.clone(),
            path: self.head.uri.path().to_owned(),
            authority: info.authority.clone(),
            grpc: info.grpc,
            rule: None,
        }
    }

    /// It is answered without its body, which a client keeps that waits with it.
    fn discard(self, info: &RequestInfo) {
        match !info.http2 && expects_continue(&self.head.headers) {
            true => drop(self.body),
            false => self.body.discard(),
        }
    }
}

/// The client sees what it would see of the application: a broken connection. A response that
/// is there, but can't be passed on, is said to be one.
fn fail(
    info: &RequestInfo,
    mut record: RequestRecord,
    error: ApplicationError,
) -> Result<Response<ResponseBody>, ResetRequest> {
    tracing::debug!(%error, "the application did not respond");
    let flag = error.flag();
    if matches!(
        flag,
        ResponseFlag::UpstreamReset | ResponseFlag::DownstreamReset
    ) {
        record.fail(flag);
        let cause = match error {
            ApplicationError::Unprocessed(_) if info.http2 => refusal(),
            error @ ApplicationError::Unprocessed(_) => UnreadRequest(error.into()).into(),
            error => error.into(),
        };
        return Err(ResetRequest(cause));
    }
    Ok(reply_locally(info, record, LocalReply::BadResponse(flag)))
}

/// Policies have revoked a request that the application has not answered: its connection to the
/// application can't be used again, so that of a client of HTTP/1 ends.
fn deny_under_way(
    info: &RequestInfo,
    mut record: RequestRecord,
    body: RequestBodySource,
    request: Option<&Arc<RequestUnderWay>>,
) -> Response<ResponseBody> {
    body.discard();
    if let Some(request) = request {
        request.note_revocation(&mut record);
    }
    let reply = LocalReply::AuthorizationDenied;
    let grpc_status = reply.carried_grpc_status(info.grpc);
    let mut response = reply.into_response(info.grpc);
    if !info.http2 {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    record.replied_locally(response.status(), grpc_status, ResponseFlag::PolicyChanged);
    response
}

fn reply_locally(
    info: &RequestInfo,
    mut record: RequestRecord,
    reply: LocalReply,
) -> Response<ResponseBody> {
    let flag = reply.flag();
    let grpc_status = reply.carried_grpc_status(info.grpc);
    let response = reply.into_response(info.grpc);
    record.replied_locally(response.status(), grpc_status, flag);
    response
}

fn refuse(
    info: &RequestInfo,
    record: RequestRecord,
    request: IncomingRequest,
    reply: LocalReply,
) -> Response<ResponseBody> {
    request.discard(info);
    reply_locally(info, record, reply)
}

async fn forward(
    application: &ApplicationConnection,
    upgrades: &UpgradeTasks,
    info: RequestInfo,
    mut record: RequestRecord,
    request: IncomingRequest,
    under_way: Option<Arc<RequestUnderWay>>,
) -> Result<Response<ResponseBody>, ResetRequest> {
    if application.is_short_of_memory() {
        request.body.discard();
        return Ok(reply_locally(&info, record, LocalReply::MemoryShort));
    }
    if info.hides_requests {
        request.body.discard();
        return Ok(reply_locally(&info, record, LocalReply::HidesRequests));
    }
    let IncomingRequest {
        head: request,
        mut body,
        upgrade: client_upgrade,
    } = request;
    body.prepare(info.http2, false, record.request_bytes());
    let revocable = under_way.as_ref();
    let sent = {
        let sending = pin!(application.send(&info, request, &mut body, revocable));
        RequestUnderWay::unless_revoked(revocable, sending).await
    };
    let mut answered = match sent {
        Some(Ok(answered)) => answered,
        Some(Err(error)) => return fail(&info, record, error),
        None => return Ok(deny_under_way(&info, record, body, revocable)),
    };
    body.keep_no_longer();
    let response = &mut answered.response;
    record.response_started(response.status(), response.headers());
    let upgraded = info.protocol_changes_with(response.status());
    let upstream_upgrade = upgraded.then(|| hyper::upgrade::on(response));
    let (mut head, source) = answered.response.into_parts();
    let kept_by_application = keeps_connection(head.version, &head.headers);
    let keep_alive = head.headers.remove("keep-alive").filter(|_| !info.http2);
    strip_response(&mut head, info.http2);
    if let Some(keep_alive) = keep_alive {
        head.headers.insert("keep-alive", keep_alive);
    }
    let completion = Completion {
        client: Some(application.client_end.clone()),
        response_end: answered.end,
        response_break: application.response_break(),
        gate: answered.gate,
        memory: answered.memory,
        under_way: under_way.clone(),
        ..Completion::default()
    };
    if let (Some(client), Some(upstream)) = (client_upgrade, upstream_upgrade) {
        let change = ProtocolChange {
            client,
            upstream,
            // Its connection is one of its own, and is cut by its own record; the request is
            // the policies' to revoke.
            denied: async move { RequestUnderWay::revoked(under_way.as_ref()).await },
        };
        return Ok(pass_upgrade(
            upgrades, &info, head, change, record, completion,
        ));
    }
    let is_last = completion.has_unread_body() || !(info.http2 || kept_by_application);
    let body = ResponseBody::upstream(&info, (source, head.version), None, record, completion);
    Ok(to_client(&info, head, body, is_last))
}

/// Leaves out of a request what is about the client's connection alone. That has one of the
/// application's to itself: what either says of its own is meant for the other.
fn prepare_head(info: &RequestInfo, request: &mut Parts) {
    let kept_by_client = keeps_connection(request.version, &request.headers);
    strip_hop_by_hop(&mut request.headers);
    if let Some(option) = connection_option(info, kept_by_client) {
        request.headers.insert(CONNECTION, option);
    }
    if let Some(protocol) = &info.upgrade {
        restore_upgrade(&mut request.headers, protocol);
    }
}

/// What the application is told of the client's wish, where that isn't what its version means
/// by itself.
fn connection_option(info: &RequestInfo, is_kept: bool) -> Option<HeaderValue> {
    match (info.http10, is_kept) {
        _ if info.http2 => None,
        (true, true) => Some(HeaderValue::from_static("keep-alive")),
        (false, false) => Some(HeaderValue::from_static("close")),
        (true, false) | (false, true) => None,
    }
}
