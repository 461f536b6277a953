//! Plaintext that arrives for a pod.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use weft_model::address::canonical;

use super::application::admit_accepted;
use super::arrival::Arrival;
use super::authorize::Credentials;
use super::deliver::deliver;
use super::error::InboundError;
use crate::pod::Pod;
use crate::stream::Stream;

/// Serves one plaintext connection to its end.
pub(crate) async fn serve(
    pod: Arc<Pod>,
    accepted: TcpStream,
    peer: SocketAddr,
    draining: CancellationToken,
) {
    let (arrival, is_for_pod) = arrival(&pod, &accepted, peer);
    let downstream = Stream::Tcp(accepted);
    if !is_for_pod {
        return refuse(&arrival, downstream, &InboundError::NotCaptured);
    }
    let span = tracing::debug_span!(
        "inbound plaintext",
        pod = %arrival.workload.name,
        client = %arrival.client,
        destination = %arrival.destination,
    );
    async move {
        match admit_accepted(&arrival).await {
            Ok(admitted) => {
                let record = arrival.record();
                deliver(arrival, admitted, downstream, record, draining).await;
            }
            Err(error) => refuse(&arrival, downstream, &error),
        }
    }
    .instrument(span)
    .await;
}

/// Refuses a plaintext connection because the pod has as many as it may.
pub(crate) fn refuse_over_limit(pod: &Arc<Pod>, accepted: TcpStream, peer: SocketAddr) {
    let (arrival, _) = arrival(pod, &accepted, peer);
    let error = InboundError::TooManyConnections;
    refuse(&arrival, Stream::Tcp(accepted), &error);
}

/// The arrival that an accepted connection is, and whether it is for the pod: steered
/// connections keep the address that they were made to; others were made to the proxy's own
/// port and lead nowhere.
fn arrival(pod: &Arc<Pod>, accepted: &TcpStream, peer: SocketAddr) -> (Arrival, bool) {
    let destination = pod.sockets.inbound_destination(accepted).ok();
    let (peer, local) = (canonical(peer), destination.map(canonical));
    let origin = pod.sockets.plaintext_origin(accepted);
    let credentials = Credentials::Plaintext { origin };
    let arrival = Arrival::new(pod, credentials, peer, local.unwrap_or(peer));
    let is_for_pod = local.is_some_and(|local| arrival.workload.has_address(local.ip()));
    (arrival, is_for_pod)
}

/// The client learns of a refusal by a reset, as from a closed port.
fn refuse(arrival: &Arrival, downstream: Stream, error: &InboundError) {
    downstream.reset();
    error.record_in(arrival.record());
}
