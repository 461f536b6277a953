//! Copies of requests, whose answers are thrown away. They never slow down, fail or
//! outweigh what they are copies of.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use weft_model::Mesh;
use weft_model::route::BackendTarget;

use super::Downstream;
use super::body::{OutgoingBody, RequestBody};
use super::exchange::{Destination, Patience, destination};
use super::filters::Outgoing;
use super::forward::{self, Forwarded};
use super::message::Asked;
use super::policy::Policies;
use super::recorder::{Described, Recorder};
use crate::net::Net;
use crate::telemetry::flag::ResponseFlag;

/// How long a copy may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Sends a copy of a request, as far as the pod has room for one more.
pub(super) fn send<N: Net>(
    downstream: &Arc<Downstream<N>>,
    mesh: &Arc<Mesh>,
    target: &BackendTarget,
    asked: &Asked,
    outgoing: &Outgoing,
    body: &mut OutgoingBody,
) {
    let BackendTarget::Service { service, port } = target else {
        return;
    };
    let places = Arc::clone(&downstream.pod.http.mirrors);
    let (Ok(place), Ok(destination)) = (
        places.try_acquire_owned(),
        destination(downstream, mesh, asked, service, *port),
    ) else {
        return;
    };
    let body = match body {
        OutgoingBody::Kept(kept) => kept.copy(),
        _ => RequestBody::Empty,
    };
    let (downstream, outgoing) = (Arc::clone(downstream), outgoing.clone());
    let asked = Asked {
        upgrade: None,
        ..asked.clone()
    };
    tokio::spawn(async move {
        let copied = copy(&downstream, &asked, &outgoing, &destination, body);
        if tokio::time::timeout(LIMIT, copied).await.is_err() {
            tracing::debug!(to = %destination.service, "a copy of a request took too long");
        }
        drop(place);
    });
}

async fn copy<N: Net>(
    downstream: &Arc<Downstream<N>>,
    asked: &Asked,
    outgoing: &Outgoing,
    destination: &Destination,
    body: RequestBody,
) {
    let request = Described {
        method: outgoing.method.clone(),
        path: outgoing.target.path().to_owned(),
        authority: outgoing.authority.clone(),
        grpc: asked.grpc,
        rule: None,
    };
    let connection = downstream.describe(None, &destination.service);
    let metrics = Arc::clone(&downstream.shared.metrics);
    let pod = downstream.pod.started_as.uid.clone();
    let mut recorder = Recorder::new(metrics, pod, connection, request);
    let mesh = downstream.shared.store.snapshot();
    let policies = Policies::new(downstream, &mesh, destination);
    let permits = match policies.admit() {
        Ok(permits) => permits,
        Err(answer) => return recorder.fail(answer.flag()),
    };
    let patience = Patience {
        deadline: None,
        attempt: None,
        retry: None,
    };
    let mut body = OutgoingBody::Once(Some(body));
    let forwarded = forward::forward(
        downstream,
        asked,
        outgoing,
        destination,
        &patience,
        &policies,
        &mut body,
        permits,
        &mut recorder,
    );
    match forwarded.await {
        Ok(Forwarded {
            response,
            lease,
            outcome: _outcome,
            ..
        }) => {
            recorder.answered(response.status(), response.headers());
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else {
                    recorder.fail(ResponseFlag::UpstreamReset);
                    return;
                };
                recorder.received(frame.data_ref().map_or(0, bytes::Bytes::len));
            }
            recorder.finish();
            lease.give_back();
        }
        Err(answer) => recorder.fail(answer.flag()),
    }
}
