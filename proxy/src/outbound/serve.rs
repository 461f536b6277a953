//! The walk of a connection out of a pod: find out where it was going and what it carries,
//! decide, connect, carry, record.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::connect::{ConnectFailure, Connected};
use super::connection::OutboundConnection;
use super::detection::{Detection, OpaqueUpstream, detect_and_connect};
use super::early::{EarlyConnections, Handed};
use super::error::OutboundError;
use super::failure::record_failure;
use super::http;
use super::plan::Plan;
use crate::detect::PrefixedStream;
use crate::memory::RelayMemory;
use crate::pod::Pod;
use crate::relay::{Directions, relay};
use crate::sockets;
use crate::stream::Stream;
use crate::telemetry::{CloseReason, ConnectionInfo, ConnectionRecord, CutReason};
use crate::upstream::{DeliveredConnection, SameNodeSide};

/// Serves one captured connection to its end.
pub(crate) async fn serve(
    pod: Arc<Pod>,
    early: Arc<EarlyConnections>,
    accepted: TcpStream,
    peer: SocketAddr,
    draining: CancellationToken,
) {
    sockets::detach_filter(&accepted);
    let identified = OutboundConnection::identify(&pod, &accepted, peer);
    let mut downstream = PrefixedStream::new(Stream::Tcp(accepted)).counted_in(&pod.memory);
    let connection = match identified {
        Ok(connection) => connection,
        Err(error) => {
            let error = OutboundError::NotCaptured(error);
            refuse_unidentified(&pod, downstream, peer, &error);
            return;
        }
    };
    let span = tracing::debug_span!(
        "outbound",
        pod = %connection.workload.name,
        client = %connection.client,
        destination = %connection.original,
    );
    let handed = early.take(peer, connection.original).await;
    async move {
        let OutboundConnection { original, .. } = connection;
        match handed {
            Some(Handed::Connected(early)) => {
                let (connection, plan, connected) = *early;
                let directions = Directions::Both;
                carry(
                    connection, plan, connected, downstream, directions, draining,
                )
                .await;
                return;
            }
            // Recorded when it failed.
            Some(Handed::Failed) => {
                tracing::debug!(%original, "refused while its application connected");
                downstream.reset();
                return;
            }
            None => {}
        }
        match detect_and_connect(&connection, &mut downstream).await {
            Detection::Http(version, dialled) => {
                http::serve(connection, dialled, version, downstream, draining).await;
            }
            Detection::Opaque(upstream, directions) => {
                let OpaqueUpstream { plan, connected } = *upstream;
                match connected {
                    Ok(connected) => {
                        carry(
                            connection, plan, connected, downstream, directions, draining,
                        )
                        .await;
                    }
                    Err(failure) => refuse(&connection, plan.as_ref(), failure, downstream),
                }
            }
        }
    }
    .instrument(span)
    .await;
}

/// Refuses a connection of the application because the pod has as many as it may.
pub(crate) fn refuse_over_limit(pod: &Arc<Pod>, accepted: TcpStream, peer: SocketAddr) {
    let downstream = PrefixedStream::new(Stream::Tcp(accepted));
    refuse_unidentified(pod, downstream, peer, &OutboundError::TooManyConnections);
}

/// Carries bytes until the connection ends, or may not be there any more.
async fn carry(
    connection: OutboundConnection,
    plan: Option<Plan>,
    connected: Connected,
    downstream: PrefixedStream,
    directions: Directions,
    draining: CancellationToken,
) {
    let service = plan
        .as_ref()
        .and_then(|plan| plan.destination.service.as_deref());
    let info = connection.info(Some(&connected.candidate), service);
    let (telemetry, began) = (&connection.pod.telemetry, connection.began);
    let memory = RelayMemory::new(&connection.pod.memory);
    let mut record = ConnectionRecord::start(telemetry, Arc::new(info), began);
    let still_allowed = plan.as_ref();
    let still_allowed = still_allowed.map(|plan| plan.still_allowed(&connected.candidate));
    record.opened(connected.connect_time, still_allowed);
    let port = plan.as_ref().and_then(|plan| plan.destination.port);
    let idle = connection.idle_timeouts(service.map(|service| &service.key).zip(port));
    // A connection of an hour keeps no snapshot alive.
    drop((connection, plan));
    let Connected {
        stream,
        mut same_node,
        connect_time,
        _attempt,
        _permit,
        _descriptor,
        ..
    } = connected;
    let is_whole = directions == Directions::Both;
    let upstream = match same_node.take_if(|side| is_whole && side.delivery.is_some()) {
        None => stream,
        Some(side) => match stream.into_unread_tcp() {
            Ok(application) => {
                return deliver(record, side, downstream, application, draining).await;
            }
            Err(stream) => {
                same_node = Some(side);
                *stream
            }
        },
    };
    if let Some(side) = &mut same_node {
        side.record.opened_connected(connect_time);
        record.share_progress(Arc::clone(side.record.progress()));
    }
    let progress = Arc::clone(record.progress());
    let closed = tokio::select! {
        reason = relay(downstream, upstream, directions, &progress, idle, memory) => Ok(reason),
        cut = record.cut() => Err(cut),
        cut = cut_by_receiver(same_node.as_ref()) => Err(cut),
    };
    let receiving = same_node.map(|side| side.record);
    for record in std::iter::once(record).chain(receiving) {
        match closed {
            Ok(reason) => record.close(reason),
            Err(cut) => record.cut_off(cut),
        }
    }
}

/// Leaves a connection to the receiving pod's inbound side, which looks at what it carries.
async fn deliver(
    mut record: ConnectionRecord,
    side: SameNodeSide,
    downstream: PrefixedStream,
    application: TcpStream,
    draining: CancellationToken,
) {
    record.share_progress(Arc::clone(side.record.progress()));
    let connection = DeliveredConnection {
        downstream,
        application,
        record: side.record,
        admission: side.admission,
    };
    let delivering = async {
        if let Some(delivery) = side.delivery {
            delivery.deliver(connection, draining).await;
        }
    };
    tokio::select! {
        () = delivering => record.close(CloseReason::Finished),
        cut = record.cut() => record.cut_off(cut),
    }
}

/// Resolves when the receiving pod's policy doesn't allow the connection any more.
async fn cut_by_receiver(same_node: Option<&SameNodeSide>) -> CutReason {
    match same_node {
        Some(side) => side.record.cut().await,
        None => std::future::pending().await,
    }
}

/// The application learns of a failure by a reset, as from an unreachable server.
fn refuse(
    connection: &OutboundConnection,
    plan: Option<&Plan>,
    failure: ConnectFailure,
    downstream: PrefixedStream,
) {
    downstream.reset();
    record_failure(connection, plan, &failure);
}

/// The same for a connection of which nobody knows where it was going.
fn refuse_unidentified(
    pod: &Arc<Pod>,
    downstream: PrefixedStream,
    peer: SocketAddr,
    error: &OutboundError,
) {
    let mesh = pod.node.store.snapshot();
    let info = ConnectionInfo::outbound(&pod.workload(&mesh), peer, None, None, None);
    let record = ConnectionRecord::start(&pod.telemetry, Arc::new(info), Instant::now());
    downstream.reset();
    record.fail(error.flag(), error);
}
