//! A client's connection whose requests are looked at.

use std::convert::Infallible;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::application::ApplicationConnection;
use super::exchange::exchange;
use super::requests::InboundRequests;
use crate::detect::PrefixedStream;
use crate::http::recorded_stream::{RecordHandle, RecordedStream};
use crate::http::server::{Buffers, MOST_STREAMS, ServeError, serve_http1, serve_http2};
use crate::http::upgrade::Upgrades;
use crate::http::version::HttpVersion;
use crate::inbound::application::Admitted;
use crate::inbound::arrival::Arrival;
use crate::telemetry::{CloseReason, ConnectionRecord, ResponseFlag};

/// Serves an admitted connection of HTTP to its end.
pub(in crate::inbound) async fn serve(
    arrival: Arrival,
    admitted: Admitted,
    version: HttpVersion,
    downstream: PrefixedStream,
    record: ConnectionRecord,
    draining: CancellationToken,
) {
    let (cut, progress) = (record.cut_signal(), Arc::clone(record.progress()));
    let (stream, record) = RecordedStream::downstream(downstream, record);
    let idle = arrival.idle_timeouts();
    let requests = Arc::new(InboundRequests::new(&arrival));
    let upgrades = Upgrades::default();
    let Admitted {
        application,
        admission: _admission,
        ..
    } = admitted;
    let application = match ApplicationConnection::begin(&arrival, version, application).await {
        Ok(application) => Arc::new(application),
        Err(error) => return record.fail(ResponseFlag::UpstreamReset, &error),
    };
    let options = application.client_options(&arrival.pod.node.settings, idle.open);
    // A connection of an hour keeps no snapshot alive.
    drop(arrival);
    let draining = draining.child_token();
    let handle = |request| {
        let (requests, application) = (Arc::clone(&requests), Arc::clone(&application));
        let upgrades = upgrades.tasks();
        async move { exchange(&requests, &application, &upgrades, request).await }
    };
    let drained = draining.clone();
    let serving = async {
        let served = match version {
            HttpVersion::Http1 => serve_http1(stream, options, drained, handle).await,
            HttpVersion::Http2 => {
                let most_streams = application.stream_limit().await.clamp(1, MOST_STREAMS);
                let (buffers, heads) = (Buffers::ANY_CLIENT, options.heads);
                serve_http2(stream, buffers, heads, most_streams, drained, handle).await
            }
        };
        // Another protocol is as much a connection of the pod's as HTTP is.
        upgrades.finished().await;
        served
    };
    let ends_with_application = async {
        application.ended().await;
        draining.cancel();
        std::future::pending::<Infallible>().await
    };
    let served = tokio::select! {
        served = serving => served,
        never = ends_with_application => match never {},
        () = progress.idle(idle) => {
            upgrades.end(ResponseFlag::IdleTimeout);
            return record.close(CloseReason::IdleTimeout);
        }
        reason = cut => {
            upgrades.end(reason.flag());
            return record.cut_off(reason);
        }
    };
    record_end(served, &record);
}

fn record_end(served: Result<(), ServeError>, record: &RecordHandle) {
    match served {
        Ok(()) => {}
        Err(ServeError::Refused(refusal)) => record.fail(ResponseFlag::from(refusal), &refusal),
        Err(error) => {
            tracing::debug!(%error, "an inbound connection of HTTP ended");
        }
    }
}
