//! The last phases of every way into a pod: find out whether requests arrive, carry to the
//! application, record.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use weft_model::detect::protocol::DetectedProtocol;

use super::application::Admitted;
use super::arrival::Arrival;
use super::http;
use crate::detect::{HTTP2_FRAME_HEADER, PrefixedStream, begins_http2, read_protocol};
use crate::http::version::HttpVersion;
use crate::relay::relay;
use crate::stream::Stream;
use crate::telemetry::{CloseReason, ConnectionRecord};

/// Carries an admitted connection to its end. Requests on ports that are declared as HTTP
/// are looked at; everything else is carried as it is.
pub(super) async fn deliver(
    arrival: Arrival,
    admitted: Admitted,
    downstream: Stream,
    mut record: ConnectionRecord,
    draining: CancellationToken,
) {
    let mut downstream = PrefixedStream::new(downstream);
    let still_allowed = Some(arrival.credentials.still_allowed(arrival.destination));
    if !arrival.carries_recorded_requests() {
        record.opened(admitted.connect_time, still_allowed);
        return carry(arrival, admitted, downstream, record).await;
    }
    record.connected(still_allowed);
    let detected = tokio::select! {
        biased;
        cut = record.cut() => return record.cut_off(cut),
        detected = read_protocol(&mut downstream) => detected,
        // Whoever greets its clients, or ends their silence, doesn't wait for a request.
        () = speaks_first(&admitted.application) => Ok(DetectedProtocol::Opaque),
        () = silence(arrival.idle_timeouts().open) => {
            record.opened_connected(admitted.connect_time);
            return record.close(CloseReason::IdleTimeout);
        }
    };
    match detected.map(HttpVersion::from_detected) {
        Ok(Some(version)) => {
            record.opened_connected_for_requests();
            http::serve(arrival, admitted, version, downstream, record, draining).await;
        }
        Ok(None) => {
            record.opened_connected(admitted.connect_time);
            carry(arrival, admitted, downstream, record).await;
        }
        // Such as a health check of TCP: connected and gone again.
        Err(error) => {
            tracing::debug!(%error, "a connection ended before its first request");
            record.opened_connected(admitted.connect_time);
            record.close(CloseReason::DownstreamReset);
        }
    }
}

/// Resolves when nobody has spoken for as long as may be.
async fn silence(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Resolves when the application says or ends something without being asked. A server of
/// HTTP/2 may send its SETTINGS ahead of the client's preface (RFC 9113 section 3.4): it
/// waits for a request all the same.
async fn speaks_first(application: &TcpStream) {
    let mut first = [0; HTTP2_FRAME_HEADER];
    let read = application.peek(&mut first).await;
    if read.is_ok_and(|read| begins_http2(first.get(..read).unwrap_or_default())) {
        std::future::pending().await
    }
}

async fn carry(
    arrival: Arrival,
    admitted: Admitted,
    downstream: PrefixedStream,
    record: ConnectionRecord,
) {
    let idle = arrival.idle_timeouts();
    // A connection of an hour keeps no snapshot alive.
    drop(arrival);
    let Admitted {
        application,
        admission: _admission,
        ..
    } = admitted;
    let application = PrefixedStream::new(Stream::Tcp(application));
    let progress = Arc::clone(record.progress());
    tokio::select! {
        reason = relay(downstream, application, &progress, idle) => record.close(reason),
        cut = record.cut() => record.cut_off(cut),
    }
}
