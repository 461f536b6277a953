//! A client's connection whose requests are looked at.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::application::ApplicationConnection;
use super::exchange::exchange;
use super::requests::InboundRequests;
use crate::detect::PrefixedStream;
use crate::http::recorded_stream::RecordedStream;
use crate::http::server::{ServeError, serve_http1, serve_http2};
use crate::http::version::HttpVersion;
use crate::inbound::application::Admitted;
use crate::inbound::arrival::Arrival;
use crate::telemetry::{ConnectionRecord, ResponseFlag};

/// Serves an admitted connection of HTTP to its end.
pub(in crate::inbound) async fn serve(
    arrival: Arrival,
    admitted: Admitted,
    version: HttpVersion,
    downstream: PrefixedStream,
    record: ConnectionRecord,
    draining: CancellationToken,
) {
    let cut = record.cut_signal();
    let (stream, record) = RecordedStream::downstream(downstream, record);
    let idle = arrival.pod.node.settings.idle.open;
    let requests = Arc::new(InboundRequests::new(&arrival));
    let Admitted {
        application,
        admission: _admission,
        ..
    } = admitted;
    let application = match ApplicationConnection::begin(&arrival, version, application).await {
        Ok(application) => Arc::new(application),
        Err(error) => return record.fail(ResponseFlag::UpstreamReset, &error),
    };
    // A connection of an hour keeps no snapshot alive.
    drop(arrival);
    let handle = |request| {
        let (requests, application) = (Arc::clone(&requests), Arc::clone(&application));
        async move { exchange(&requests, &application, request).await }
    };
    let serving = async {
        match version {
            HttpVersion::Http1 => serve_http1(stream, idle, draining, handle).await,
            HttpVersion::Http2 => serve_http2(stream, draining, handle).await,
        }
    };
    let served = tokio::select! {
        served = serving => served,
        reason = cut => return record.cut_off(reason),
    };
    match served {
        Ok(()) => {}
        Err(ServeError::Refused(refusal)) => record.fail(ResponseFlag::from(refusal), &refusal),
        Err(ServeError::Broken(error)) => {
            tracing::debug!(%error, "an inbound connection of HTTP ended");
        }
    }
}
