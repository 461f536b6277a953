//! Finding out whether a connection carries requests, without stalling anybody.
//!
//! On a port that is declared as HTTP, or that a route makes HTTP, a client that stays silent
//! may be waiting for its server, such as one of SMTP or MySQL behind a port with the wrong
//! name: the connection is then planned and connected as an opaque one, both ends are listened
//! to, and whoever speaks first decides.

use std::sync::Arc;
use std::time::Duration;

use weft_model::detect::protocol::DetectedProtocol;
use weft_model::service::Service;

use super::connect::{ConnectFailure, Connected, connect};
use super::connection::OutboundConnection;
use super::plan::Plan;
use super::port_protocol::{PortProtocol, port_protocol};
use crate::detect::{
    DetectError, HTTP2_FRAME_HEADER, PrefixedStream, begins_http2, read_protocol,
    read_protocol_within,
};
use crate::http::version::HttpVersion;
use crate::telemetry::CloseReason;

/// Silence of a client after which its server may be the one that speaks first.
const SILENCE: Duration = Duration::from_millis(300);

/// What became of a connection's first moments.
#[derive(Debug)]
pub(super) enum Detection {
    /// It carries requests to a port of this service.
    Http(HttpVersion, Arc<Service>),
    /// It is carried as it is, and was planned and connected.
    Opaque(Box<OpaqueUpstream>),
}

/// An opaque connection's plan, and its endpoint; or why there is none.
#[derive(Debug)]
pub(super) struct OpaqueUpstream {
    pub(super) plan: Option<Plan>,
    pub(super) connected: Result<Connected, ConnectFailure>,
}

/// Finds out what a connection carries, and connects it where it is opaque.
pub(super) async fn detect_and_connect(
    connection: &OutboundConnection,
    downstream: &mut PrefixedStream,
) -> Detection {
    match port_protocol(connection) {
        PortProtocol::Opaque => opaque(connection, downstream).await,
        PortProtocol::Http(service) => {
            if let Some(detected) = silent_or_detected(downstream).await {
                return decide(connection, downstream, detected, service).await;
            }
            let upstream = opaque(connection, downstream).await;
            if upstream.has_upstream() {
                return listen_to_both(upstream, downstream, service).await;
            }
            // A client of HTTP that takes its time gets an answer that says why.
            let detected = read_protocol(downstream).await;
            decide(connection, downstream, detected, service).await
        }
        PortProtocol::Detect(service) => {
            if let Some(detected) = silent_or_detected(downstream).await {
                return decide(connection, downstream, detected, service).await;
            }
            let upstream = opaque(connection, downstream).await;
            listen_to_both(upstream, downstream, service).await
        }
    }
}

/// The protocol of the first bytes; `None` when none decide for a while.
async fn silent_or_detected(
    downstream: &mut PrefixedStream,
) -> Option<Result<DetectedProtocol, DetectError>> {
    read_protocol_within(downstream, SILENCE).await.transpose()
}

async fn decide(
    connection: &OutboundConnection,
    downstream: &mut PrefixedStream,
    detected: Result<DetectedProtocol, DetectError>,
    service: Arc<Service>,
) -> Detection {
    match detected {
        Ok(detected) => match HttpVersion::from_detected(detected) {
            Some(version) => Detection::Http(version, service),
            None => opaque(connection, downstream).await,
        },
        Err(error) => OpaqueUpstream::failed(error),
    }
}

async fn opaque(connection: &OutboundConnection, downstream: &mut PrefixedStream) -> Detection {
    let plan = match Plan::decide(connection, downstream).await {
        Ok(plan) => plan,
        Err(error) => return OpaqueUpstream::failed(error),
    };
    let connected = connect(connection, &plan).await;
    Detection::Opaque(Box::new(OpaqueUpstream {
        plan: Some(plan),
        connected,
    }))
}

/// Waits for the first byte of either end, once a client that is silent is connected.
async fn listen_to_both(
    mut detection: Detection,
    downstream: &mut PrefixedStream,
    service: Arc<Service>,
) -> Detection {
    let Detection::Opaque(upstream) = &mut detection else {
        return detection;
    };
    let Ok(connected) = &mut upstream.connected else {
        return detection;
    };
    let detected = tokio::select! {
        detected = read_protocol(downstream) => detected,
        () = speaks_first(&mut connected.stream) => return detection,
    };
    match detected.map(HttpVersion::from_detected) {
        // The connection that was made for the silent client is not needed after all.
        Ok(Some(version)) => {
            if let Some(mut side) = connected.same_node.take() {
                side.record.opened_connected_for_requests();
                side.record.close(CloseReason::Finished);
            }
            Detection::Http(version, service)
        }
        Ok(None) => detection,
        Err(error) => OpaqueUpstream::failed(error),
    }
}

/// Resolves when a server says something without being asked, other than the beginning of
/// HTTP/2, or ends.
async fn speaks_first(upstream: &mut PrefixedStream) {
    loop {
        // An error of the server is found again by the relay.
        if !matches!(upstream.read_more().await, Ok(1..)) {
            return;
        }
        let first = upstream.prefix();
        match begins_http2(first.get(..HTTP2_FRAME_HEADER).unwrap_or(first)) {
            false => return,
            true if first.len() < HTTP2_FRAME_HEADER => {}
            true => std::future::pending().await,
        }
    }
}

impl Detection {
    /// It is carried as it is, to somebody who took it.
    fn has_upstream(&self) -> bool {
        matches!(self, Self::Opaque(upstream) if upstream.connected.is_ok())
    }
}

impl OpaqueUpstream {
    fn failed(error: impl Into<ConnectFailure>) -> Detection {
        Detection::Opaque(Box::new(Self {
            plan: None,
            connected: Err(error.into()),
        }))
    }
}
