//! A client's connection whose requests are looked at.

use std::convert::Infallible;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::application::ApplicationConnection;
use super::exchange::exchange;
use super::pending_heads::PendingHeads;
use super::probe_requests::ProbeRequests;
use super::requests::InboundRequests;
use crate::detect::PrefixedStream;
use crate::http::recorded_stream::{RecordHandle, RecordedStream};
use crate::http::server::{Buffers, ServeError, serve_http1, serve_http2};
use crate::http::upgrade::Upgrades;
use crate::http::version::HttpVersion;
use crate::inbound::application::Admitted;
use crate::inbound::arrival::Arrival;
use crate::telemetry::{CloseReason, ConnectionRecord, ResponseFlag};

/// Serves an admitted connection of HTTP to its end, whose requests are those.
pub(in crate::inbound) async fn serve(
    arrival: Arrival,
    admitted: Admitted,
    version: HttpVersion,
    requests: Arc<InboundRequests>,
    downstream: PrefixedStream,
    record: ConnectionRecord,
    draining: CancellationToken,
) {
    let (cut, progress) = (record.cut_signal(), Arc::clone(record.progress()));
    let (stream, record) = RecordedStream::downstream(downstream, record);
    let idle = arrival.idle_timeouts();
    let upgrades = Upgrades::new(idle);
    let (application, _admission) = (admitted.application, admitted.admission);
    let application = match ApplicationConnection::begin(&arrival, version, application).await {
        Ok(application) => Arc::new(application),
        Err(error) => return record.fail(ResponseFlag::UpstreamReset, &error),
    };
    let options = application.client_options(&arrival.pod.node.settings, idle.open);
    let memory = Arc::clone(&arrival.pod.memory);
    // A connection of an hour keeps no snapshot alive.
    drop(arrival);
    let (ended, last_stream) = (options.ended.clone(), draining.child_token());
    let pending = PendingHeads::default();
    let handle = |request| {
        let (requests, application) = (Arc::clone(&requests), Arc::clone(&application));
        let (upgrades, pending) = (upgrades.tasks(), pending.begin());
        async move {
            let _pending = pending;
            exchange(&requests, &application, &upgrades, request).await
        }
    };
    let serving = async {
        let served = match version {
            HttpVersion::Http1 => {
                serve_http1(stream, options, memory, draining.clone(), handle).await
            }
            HttpVersion::Http2 => {
                let most_streams = application.stream_limit().await;
                let (buffers, heads) = (Buffers::ANY_CLIENT, options.heads);
                serve_http2(
                    stream,
                    buffers,
                    heads,
                    most_streams,
                    memory,
                    last_stream.clone(),
                    handle,
                )
                .await
            }
        };
        // Another protocol is as much a connection of the pod's as HTTP is.
        upgrades.finished().await;
        served
    };
    let served = tokio::select! {
        served = serving => served,
        never = drain_with(&application, &pending, [&ended, &last_stream]) => match never {},
        () = progress.idle(idle) => {
            upgrades.end(ResponseFlag::IdleTimeout);
            return record.close(CloseReason::IdleTimeout);
        }
        reason = cut => {
            upgrades.end(reason.flag());
            return record.cut_off(reason);
        }
    };
    record_end(served, &requests, &record);
}

/// Takes no further requests once the application has ended its connection.
async fn drain_with(
    application: &ApplicationConnection,
    pending: &PendingHeads,
    ends: [&CancellationToken; 2],
) -> Infallible {
    application.ended().await;
    // hyper adds to a response that it is the connection's last; the application, which may end
    // with each of its own, has said no such thing.
    pending.none().await;
    for end in ends {
        end.cancel();
    }
    std::future::pending().await
}

fn record_end(served: Result<(), ServeError>, requests: &InboundRequests, record: &RecordHandle) {
    if let Some(refusal) = requests.probes.as_ref().and_then(ProbeRequests::refusal) {
        return record.fail(ResponseFlag::Deny, refusal);
    }
    match served {
        Ok(()) => {}
        Err(ServeError::Refused(refusal)) => record.fail(ResponseFlag::from(refusal), &refusal),
        Err(error @ ServeError::HeadTimeout) => record.fail(ResponseFlag::RequestTimeout, &error),
        Err(error @ ServeError::MemoryExceeded) => record.fail(ResponseFlag::MemoryLimit, &error),
        Err(error) => {
            tracing::debug!(%error, "an inbound connection of HTTP ended");
        }
    }
}
