//! Probes of kubelet's into a strict pod: the one plaintext that it takes, and no more than
//! what the pod declares. A connection that says nothing is a probe of TCP.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use weft_model::detect::protocol::DetectedProtocol;
use weft_model::node_access::{NotAProbe, ProbePort};

use super::application::Admitted;
use super::arrival::Arrival;
use super::carry::{carry, silence};
use super::http::{self, InboundRequests};
use crate::detect::{PrefixedStream, read_protocol};
use crate::http::version::HttpVersion;
use crate::relay::Directions;
use crate::telemetry::{CloseReason, ConnectionRecord, ResponseFlag};

/// What a connection of kubelet's turned out to be.
enum Probe {
    Requests(HttpVersion),
    /// Nobody between it and the application sees what is in it.
    Tls,
    /// It has connected, and that was all.
    Connected,
}

/// Carries a connection of kubelet's to its end, as far as the probes of its port go. Bytes of
/// another kind reach the application neither whole nor in part.
pub(super) async fn deliver(
    arrival: Arrival,
    admitted: Admitted,
    port: ProbePort,
    mut downstream: PrefixedStream,
    mut record: ConnectionRecord,
    draining: CancellationToken,
) {
    let head_time = arrival.pod.node.settings.heads.time;
    let probe = tokio::select! {
        biased;
        cut = record.cut() => return record.cut_off(cut),
        probe = recognise(&port, &mut downstream, head_time) => probe,
        () = silence(arrival.idle_timeouts().open) => {
            record.opened_connected(admitted.connect_time);
            return record.close(CloseReason::IdleTimeout);
        }
    };
    match probe {
        Ok(Probe::Requests(version)) => {
            // What the node asks counts as connections, never as requests.
            record.opened_connected(admitted.connect_time);
            let draining = draining.child_token();
            let requests = InboundRequests::of_probes(&arrival, port, draining.clone());
            let requests = Arc::new(requests);
            http::serve(
                arrival, admitted, version, requests, downstream, record, draining,
            )
            .await;
        }
        Ok(Probe::Tls) => {
            record.opened_connected(admitted.connect_time);
            carry(arrival, admitted, downstream, Directions::Both, record).await;
        }
        Ok(Probe::Connected) => {
            record.opened_connected(admitted.connect_time);
            record.close(CloseReason::Finished);
        }
        Err(refusal) => {
            downstream.reset();
            record.fail(ResponseFlag::Deny, &refusal);
        }
    }
}

async fn recognise(
    port: &ProbePort,
    downstream: &mut PrefixedStream,
    head_time: Option<Duration>,
) -> Result<Probe, NotAProbe> {
    if port.takes_no_bytes() {
        let first = |bytes: &[u8]| (!bytes.is_empty()).then_some(());
        return match downstream.read_until(1, first).await {
            Ok(Some(())) => Err(port.refuse_bytes()),
            Ok(None) | Err(_) => Ok(Probe::Connected),
        };
    }
    let version = match read_protocol(downstream, head_time).await {
        Ok(Some(DetectedProtocol::Tls)) => return port.authorize_tls().map(|()| Probe::Tls),
        Ok(Some(DetectedProtocol::Http1)) => HttpVersion::Http1,
        Ok(Some(DetectedProtocol::Http2)) => HttpVersion::Http2,
        Ok(Some(DetectedProtocol::Opaque)) => return Err(port.refuse_bytes()),
        // Connected and gone again.
        Ok(None) | Err(_) => return Ok(Probe::Connected),
    };
    port.authorize_http(version == HttpVersion::Http2)?;
    Ok(Probe::Requests(version))
}

#[cfg(test)]
mod tests;
