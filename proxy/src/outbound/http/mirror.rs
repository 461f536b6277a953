//! Copies of requests, whose answers are thrown away. They never slow down, fail or
//! outweigh what they are copies of.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use tracing::Instrument;
use weft_model::route::BackendTarget;

use super::exchange::Exchange;
use super::forward::{Forwarded, NoResponse, forward};
use super::plan::PlannedRequest;
use super::policy::RequestPolicies;
use super::retry::AttemptPolicy;
use super::route::{Destination, destination};
use crate::http::body::{RequestBody, RequestBodySource};
use crate::http::local_reply::LocalReply;
use crate::http::outgoing::OutgoingRequest;
use crate::http::request_info::RequestInfo;
use crate::telemetry::{RequestDescription, RequestRecord, ResponseFlag};

/// How long a copy may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Sends a copy of a request, as far as the pod has room for one more.
pub(super) fn mirror(
    exchange: &Exchange,
    target: &BackendTarget,
    outgoing: &OutgoingRequest,
    body: &RequestBodySource,
) {
    let BackendTarget::Service { service, port } = target else {
        return;
    };
    let permits = Arc::clone(&exchange.connection.pod.mirrors);
    let (Ok(permit), Ok(destination)) = (
        permits.try_acquire_owned(),
        destination(exchange, service, *port),
    ) else {
        return;
    };
    let copy = begin(exchange, outgoing, &destination);
    let (outgoing, body) = (outgoing.clone(), body.mirror());
    let sent = async move {
        let sent = send(copy, &outgoing, &destination, body);
        if tokio::time::timeout(LIMIT, sent).await.is_err() {
            tracing::debug!(to = %destination.service, "a copy of a request took too long");
        }
        drop(permit);
    };
    tokio::spawn(sent.in_current_span());
}

/// The copy as a request of its own.
fn begin(exchange: &Exchange, outgoing: &OutgoingRequest, destination: &Destination) -> Exchange {
    let (connection, mesh) = (&exchange.connection, &exchange.mesh);
    let about = connection.info(mesh, None, &destination.service);
    let summary = RequestDescription {
        method: outgoing.method.clone(),
        path: outgoing.target.path().to_owned(),
        authority: outgoing.authority.clone(),
        grpc: exchange.info.grpc,
        rule: None,
    };
    Exchange {
        connection: Arc::clone(connection),
        mesh: Arc::clone(mesh),
        info: RequestInfo {
            upgrade: None,
            ..exchange.info.clone()
        },
        record: RequestRecord::start(&connection.pod.telemetry, about, summary),
        is_copy: true,
    }
}

async fn send(
    mut copy: Exchange,
    outgoing: &OutgoingRequest,
    destination: &Destination,
    body: RequestBody,
) {
    let policies = RequestPolicies::new(&copy, destination);
    let attempts = AttemptPolicy::default();
    let request = PlannedRequest {
        outgoing,
        destination,
        policies: &policies,
        attempts: &attempts,
    };
    let mut body = RequestBodySource::Once(Some(body));
    let forwarded = match policies.admit() {
        Ok(permits) => forward(&mut copy, &request, &mut body, permits).await,
        Err(refused) => Err(refused.into()),
    };
    match forwarded {
        Ok(forwarded) => read_to_end(copy.record, forwarded).await,
        Err(NoResponse::Reply(reply)) => fail(copy.record, &reply),
        // A copy has no client of its own.
        Err(NoResponse::ClientLeft) => {}
    }
}

/// Reads the answer to its end and throws it away.
async fn read_to_end(mut record: RequestRecord, forwarded: Forwarded) {
    let Forwarded {
        response,
        mut completion,
        ..
    } = forwarded;
    record.response_started(response.status(), response.headers());
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            record.fail(ResponseFlag::UpstreamReset);
            completion.fail(ResponseFlag::UpstreamReset);
            return;
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        record.response_bytes(bytes);
        completion.body_bytes(bytes);
    }
    record.finish();
    completion.complete();
}

fn fail(mut record: RequestRecord, reply: &LocalReply) {
    record.fail(reply.flag());
}

#[cfg(test)]
mod tests;
