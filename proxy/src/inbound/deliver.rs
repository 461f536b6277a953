//! The last phases of every way into a pod: find out whether requests arrive, carry to the
//! application, record.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use weft_model::authorization::PlaintextGrant;

use super::application::Admitted;
use super::arrival::Arrival;
use super::carry::{carry, silence};
use super::error::InboundError;
use super::http::{self, InboundRequests};
use super::probes;
use crate::detect::{DetectError, HTTP2_FRAME_HEADER, PrefixedStream};
use crate::http::opening::{ClientOpening, NotHttp, ServerOpening, read_client, server_opening};
use crate::http::version::HttpVersion;
use crate::relay::Directions;
use crate::stream::{BreakOff, Stream};
use crate::telemetry::{CloseReason, ConnectionRecord, ResponseFlag};

/// How long a peer may take to get what was sent to it before it is refused.
const BREAK_OFF_WITHIN: Duration = Duration::from_secs(1);

/// Carries an admitted connection to its end. On ports that are declared as HTTP requests are
/// looked at and everything else is refused; on others it is carried as it is.
pub(super) async fn deliver(
    arrival: Arrival,
    admitted: Admitted,
    downstream: Stream,
    mut record: ConnectionRecord,
    draining: CancellationToken,
) {
    let downstream = PrefixedStream::new(downstream).counted_in(&arrival.pod.memory);
    let still_allowed = Some(arrival.still_allowed(&admitted.grant));
    record.set_authorization(admitted.grant.note.clone());
    if let PlaintextGrant::Probes(port) = &admitted.grant.plaintext {
        let port = port.clone();
        record.connected(still_allowed);
        let probed = probes::deliver(arrival, admitted, port, downstream, record, draining);
        // Boxed, as below: its size would be part of every connection's.
        return Box::pin(probed).await;
    }
    if !admitted.grant.sees_requests {
        record.opened(admitted.connect_time, still_allowed);
        return carry(arrival, admitted, downstream, Directions::Both, record).await;
    }
    record.connected(still_allowed);
    let delivered = deliver_http(arrival, admitted, downstream, record, draining);
    Box::pin(delivered).await;
}

/// Carries a connection whose record is connected to its end, on a port that carries HTTP alone.
pub(super) async fn deliver_http(
    arrival: Arrival,
    admitted: Admitted,
    mut downstream: PrefixedStream,
    mut record: ConnectionRecord,
    draining: CancellationToken,
) {
    let heads = arrival.pod.node.settings.heads;
    let detected = tokio::select! {
        biased;
        cut = record.cut() => return record.cut_off(cut),
        heard = read_client(&mut downstream, heads) => heard.map(Opening::from_client),
        // Whoever greets its clients, or ends their silence, doesn't wait for a request.
        greeting = read_application(&admitted.application) => Ok(match greeting {
            Ok(()) => Opening::Carried(Directions::ToClient),
            Err(error) => Opening::Refused(error),
        }),
        () = silence(arrival.idle_timeouts().open) => {
            record.opened_connected(admitted.connect_time);
            return record.close(CloseReason::IdleTimeout);
        }
    };
    match detected {
        Ok(Opening::Requests(version)) => {
            record.opened_connected_for_requests();
            let requests = Arc::new(InboundRequests::new(&arrival));
            http::serve(
                arrival, admitted, version, requests, downstream, record, draining,
            )
            .await;
        }
        Ok(Opening::Carried(directions)) => {
            record.opened_connected(admitted.connect_time);
            carry(arrival, admitted, downstream, directions, record).await;
        }
        Ok(Opening::Refused(error)) => {
            // The peer learns that its tunnel was opened, or takes the refusal for nobody there.
            let broken_off = poll_fn(|context| downstream.poll_break_off(context));
            let _ = tokio::time::timeout(BREAK_OFF_WITHIN, broken_off).await;
            downstream.reset();
            let error = InboundError::from(error);
            record.fail(error.flag(), &error);
        }
        Err(error @ DetectError::HeadTimeout) => {
            downstream.reset();
            record.fail(ResponseFlag::RequestTimeout, &error);
        }
        // Such as a health check of TCP: connected and gone again.
        Err(error) => {
            tracing::debug!(%error, "a connection ended before its first request");
            record.opened_connected(admitted.connect_time);
            record.close(CloseReason::DownstreamReset);
        }
    }
}

/// A connection to a port that carries HTTP alone, by its first bytes.
#[derive(Clone, Copy, Debug)]
enum Opening {
    Requests(HttpVersion),
    /// Nobody speaks for as long as the other could hear it.
    Carried(Directions),
    Refused(NotHttp),
}

impl Opening {
    fn from_client(heard: Result<ClientOpening, NotHttp>) -> Self {
        match heard {
            Ok(ClientOpening::Http(version)) => Self::Requests(version),
            Ok(ClientOpening::Ended) => Self::Carried(Directions::Both),
            Err(error) => Self::Refused(error),
        }
    }
}

/// Resolves when the application ends, or says why it will, without being asked.
///
/// # Errors
/// When it says something other than HTTP.
async fn read_application(application: &TcpStream) -> Result<(), NotHttp> {
    let mut first = [0; HTTP2_FRAME_HEADER];
    let read = application.peek(&mut first).await.unwrap_or_default();
    match server_opening(first.get(..read).unwrap_or_default())? {
        ServerOpening::Ends => Ok(()),
        ServerOpening::Waits => std::future::pending().await,
    }
}
