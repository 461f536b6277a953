//! The walk of a request into a pod: record, forward to the application, pass the response
//! back.

use std::pin::pin;

use http::{Request, Response};
use hyper::body::Incoming;
use tracing::Instrument;

use super::application::ApplicationConnection;
use super::requests::InboundRequests;
use crate::http::body::{Completion, RequestBodySource, ResponseBody};
use crate::http::request_info::RequestInfo;
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
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, ResetRequest> {
    let info = RequestInfo::read(&request);
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
    let mut response = application
        .send(request, &mut body)
        .await
        .map_err(|error| {
            tracing::debug!(%error, "the application did not respond");
            record.fail(ResponseFlag::UpstreamReset);
            ResetRequest(error.into())
        })?;
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
    // The version is the client's connection's business.
    head.version = http::Version::default();
    let completion = Completion::default();
    if let (Some(client), Some(upstream)) = (client_upgrade, upstream_upgrade) {
        return Ok(pass_upgrade(
            upgrades, &info, head, client, upstream, record, completion,
        ));
    }
    let body = ResponseBody::upstream(source, None, record, completion);
    Ok(Response::from_parts(head, body))
}
