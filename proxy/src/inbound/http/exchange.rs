//! The walk of a request into a pod: record, forward to the application, pass the response
//! back.

use std::pin::pin;

use http::{Request, Response};
use hyper::body::Incoming;
use tracing::Instrument;

use super::application::{ApplicationConnection, ApplicationError};
use super::requests::InboundRequests;
use crate::http::body::{Completion, RequestBodySource, ResponseBody};
use crate::http::local_reply::LocalReply;
use crate::http::request_info::RequestInfo;
use crate::http::returning::to_client;
use crate::http::server::ResetRequest;
use crate::http::upgrade::{UpgradeTasks, pass_upgrade};
use crate::http::{restore_upgrade, strip_hop_by_hop};
use crate::telemetry::{RequestDescription, RequestRecord, ResponseFlag};
use crate::upstream::RequestReceiver;

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
    if info.has_url {
        info.set_host(request.headers_mut());
    }
    let record = requests.receive(RequestDescription {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        authority: info.authority.clone(),
        grpc: info.grpc,
        rule: None,
    });
    let span = record.span().clone();
    // Pinned where it is made: it is large, and would be copied.
    let forwarding = pin!(forward(application, upgrades, info, record, request));
    forwarding.instrument(span).await
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
        return Err(ResetRequest(error.into()));
    }
    let reply = LocalReply::BadResponse(flag);
    let grpc_status = reply.carried_grpc_status(info.grpc);
    let response = reply.into_response(info.grpc);
    record.replied_locally(response.status(), grpc_status, flag);
    Ok(response)
}

async fn forward(
    application: &ApplicationConnection,
    upgrades: &UpgradeTasks,
    info: RequestInfo,
    mut record: RequestRecord,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, ResetRequest> {
    let client_upgrade = info
        .wants_protocol_change()
        .then(|| hyper::upgrade::on(&mut request));
    let sent = record.request_bytes();
    let (mut request, body) = request.into_parts();
    strip_hop_by_hop(&mut request.headers);
    if let Some(protocol) = &info.upgrade {
        restore_upgrade(&mut request.headers, protocol);
    }
    let mut body = RequestBodySource::Unread(body);
    body.prepare(false, sent);
    let (mut response, gate) = match application.send(&info, request, &mut body).await {
        Ok(response) => response,
        Err(error) => return fail(&info, record, error),
    };
    body.keep_no_longer();
    record.response_started(response.status(), response.headers());
    let upgraded = info.protocol_changes_with(response.status());
    let upstream_upgrade = upgraded.then(|| hyper::upgrade::on(&mut response));
    let (mut head, source) = response.into_parts();
    // The client's connection has one of the application's to itself, and may wait as long.
    let keep_alive = head.headers.remove("keep-alive").filter(|_| !info.http2);
    strip_hop_by_hop(&mut head.headers);
    if let Some(keep_alive) = keep_alive {
        head.headers.insert("keep-alive", keep_alive);
    }
    let completion = Completion {
        client: Some(application.client_end.clone()),
        gate,
        ..Completion::default()
    };
    if let (Some(client), Some(upstream)) = (client_upgrade, upstream_upgrade) {
        return Ok(pass_upgrade(
            upgrades, &info, head, client, upstream, record, completion,
        ));
    }
    let is_last = completion.has_unread_body();
    let body = ResponseBody::upstream(source, None, record, completion);
    Ok(to_client(&info, head, body, is_last))
}
