//! Finding out whether a connection carries requests, without stalling anybody.
//!
//! A port that is declared as HTTP waits for its client. On a port that only a route makes
//! HTTP, a client that stays silent may be waiting for its server: the connection is then
//! planned and connected as an opaque one, both ends are listened to, and whoever speaks
//! first decides.

use std::sync::Arc;
use std::time::Duration;

use weft_model::detect::protocol::DetectedProtocol;
use weft_model::service::Service;

use super::connect::{ConnectFailure, Connected, connect};
use super::connection::OutboundConnection;
use super::plan::Plan;
use super::port_protocol::{PortProtocol, port_protocol};
use crate::detect::{DetectError, PrefixedStream, read_protocol, read_protocol_within};
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
            let detected = read_protocol(downstream).await;
            decide(connection, downstream, detected, service).await
        }
        PortProtocol::Detect(service) => {
            let detected = read_protocol_within(downstream, SILENCE).await;
            match detected.transpose() {
                Some(detected) => decide(connection, downstream, detected, service).await,
                None => listen_to_both(connection, downstream, service).await,
            }
        }
    }
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

/// Connects for a client that is silent, and waits for the first byte of either end.
async fn listen_to_both(
    connection: &OutboundConnection,
    downstream: &mut PrefixedStream,
    service: Arc<Service>,
) -> Detection {
    let mut detection = opaque(connection, downstream).await;
    let Detection::Opaque(upstream) = &mut detection else {
        return detection;
    };
    let Ok(connected) = &mut upstream.connected else {
        return detection;
    };
    let detected = tokio::select! {
        detected = read_protocol(downstream) => detected,
        // An error of the server is found again by the relay.
        _ = connected.stream.read_more() => return detection,
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

impl OpaqueUpstream {
    fn failed(error: impl Into<ConnectFailure>) -> Detection {
        Detection::Opaque(Box::new(Self {
            plan: None,
            connected: Err(error.into()),
        }))
    }
}
