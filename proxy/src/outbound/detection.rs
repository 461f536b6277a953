//! Finding out whether a connection carries requests, without stalling anybody.
//!
//! A port that is declared as HTTP, or that a route for requests is attached to, carries HTTP
//! alone. A client that stays silent there is waited for. It may be waiting for its server,
//! such as one of SMTP behind a port with the wrong name: an endpoint is connected meanwhile
//! and listened to, so that what goes wrong is said. Nothing that the client says goes there.
//! Where none takes a connection, the client's ends, as its request would fail.

use std::time::Duration;

use tokio::time::timeout;
use weft_model::mesh::DialledService;

use super::connect::{ConnectFailure, Connected, connect};
use super::connection::OutboundConnection;
use super::error::OutboundError;
use super::plan::Plan;
use super::port_protocol::{PortProtocol, port_protocol};
use crate::detect::{DetectError, HTTP2_FRAME_HEADER, PrefixedStream};
use crate::http::opening::{ClientOpening, NotHttp, ServerOpening, read_client, server_opening};
use crate::http::version::HttpVersion;
use crate::relay::Directions;
use crate::telemetry::{CloseReason, ResponseFlag};

/// Silence of a client after which its server may be the one that speaks first.
const SILENCE: Duration = Duration::from_millis(300);

/// What became of a connection's first moments.
#[derive(Debug)]
pub(super) enum Detection {
    /// It carries requests to this port of a Service.
    Http(HttpVersion, DialledService),
    /// It is carried in these directions as it is, and was planned and connected.
    Opaque(Box<OpaqueUpstream>, Directions),
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
    let dialled = match port_protocol(connection) {
        PortProtocol::Opaque => return opaque(connection, downstream).await,
        PortProtocol::Http(dialled) => dialled,
    };
    let heads = connection.pod.node.settings.heads;
    if let Ok(heard) = timeout(SILENCE, read_client(downstream, heads)).await {
        return decide(connection, downstream, heard, dialled).await;
    }
    let mut upstream = OpaqueUpstream::connect(connection, Some(downstream)).await;
    let connected = match &mut upstream.connected {
        Ok(connected) => connected,
        Err(failure)
            if downstream.prefix().is_empty()
                && fails_requests(connection, &dialled, &failure.error) =>
        {
            return Detection::Opaque(Box::new(upstream), Directions::Both);
        }
        Err(_) => {
            // A client of HTTP that takes its time gets an answer that says why.
            let heard = read_client(downstream, heads).await;
            return decide(connection, downstream, heard, dialled).await;
        }
    };
    let heard = tokio::select! {
        biased;
        heard = read_client(downstream, heads) => heard,
        greeting = read_server(&mut connected.stream) => {
            return match greeting {
                Ok(()) => Detection::Opaque(Box::new(upstream), Directions::ToClient),
                Err(error) => upstream.refused(error),
            };
        }
    };
    match heard {
        Ok(Ok(ClientOpening::Ended)) => Detection::Opaque(Box::new(upstream), Directions::Both),
        Ok(Err(error)) => upstream.refused(error),
        // The connection that was made for the silent client is not needed after all.
        heard => {
            upstream.let_go();
            decide(connection, downstream, heard, dialled).await
        }
    }
}

/// Whether a request would fail as the connection to an endpoint did, so that its client need not
/// be waited for: without a proxy its `connect()` had failed.
fn fails_requests(
    connection: &OutboundConnection,
    dialled: &DialledService,
    error: &OutboundError,
) -> bool {
    let DialledService { service, port } = dialled;
    let namespace = connection.workload.namespace();
    // A route may send requests elsewhere. What a policy refuses now, it may let through then.
    let has_routes = connection
        .mesh
        .route_table(&service.key, *port, namespace)
        .is_some();
    let is_unreachable = matches!(error, OutboundError::Dial(_) | OutboundError::Unroutable(_));
    // A client that is denied is answered, once it asks.
    let is_denied = error.flag() == ResponseFlag::AuthorizationDenied;
    !has_routes && is_unreachable && !is_denied
}

async fn decide(
    connection: &OutboundConnection,
    downstream: &mut PrefixedStream,
    heard: Result<Result<ClientOpening, NotHttp>, DetectError>,
    dialled: DialledService,
) -> Detection {
    match heard {
        Ok(Ok(ClientOpening::Http(version))) => Detection::Http(version, dialled),
        // Its end is passed on, and it says nothing more.
        Ok(Ok(ClientOpening::Ended)) => opaque(connection, downstream).await,
        Ok(Err(error)) => OpaqueUpstream::failed(error),
        Err(error) => OpaqueUpstream::failed(error),
    }
}

async fn opaque(connection: &OutboundConnection, downstream: &mut PrefixedStream) -> Detection {
    let upstream = OpaqueUpstream::connect(connection, Some(downstream)).await;
    Detection::Opaque(Box::new(upstream), Directions::Both)
}

/// Resolves when a server ends, or says why it will, without being asked.
///
/// # Errors
/// When it says something other than HTTP.
async fn read_server(upstream: &mut PrefixedStream) -> Result<(), NotHttp> {
    loop {
        // An error of the server is found again by the relay.
        if !matches!(upstream.read_more().await, Ok(1..)) && upstream.prefix().is_empty() {
            return Ok(());
        }
        let first = upstream.prefix();
        let header = first.get(..HTTP2_FRAME_HEADER).unwrap_or(first);
        match server_opening(header)? {
            ServerOpening::Ends => return Ok(()),
            ServerOpening::Waits if first.len() < HTTP2_FRAME_HEADER => {}
            ServerOpening::Waits => std::future::pending().await,
        }
    }
}

impl OpaqueUpstream {
    /// Plans a connection and connects it; without its first bytes when it was not accepted
    /// yet.
    pub(super) async fn connect(
        connection: &OutboundConnection,
        downstream: Option<&mut PrefixedStream>,
    ) -> Self {
        let plan = match Plan::decide(connection, downstream).await {
            Ok(plan) => plan,
            Err(error) => return Self::without_plan(error),
        };
        let connected = connect(connection, &plan).await;
        Self {
            plan: Some(plan),
            connected,
        }
    }

    fn without_plan(error: impl Into<ConnectFailure>) -> Self {
        Self {
            plan: None,
            connected: Err(error.into()),
        }
    }

    fn failed(error: impl Into<ConnectFailure>) -> Detection {
        let failed = Self::without_plan(error);
        Detection::Opaque(Box::new(failed), Directions::Both)
    }

    /// The same, once an endpoint is connected: the record says which.
    fn refused(mut self, error: NotHttp) -> Detection {
        let connected = std::mem::replace(&mut self.connected, Err(error.into()));
        if let (Ok(mut connected), Err(failure)) = (connected, &mut self.connected) {
            if let Some(side) = connected.same_node.take() {
                side.record.fail(ResponseFlag::NotHttp, &error);
            }
            connected.stream.reset();
            failure.candidate = Some(connected.candidate);
        }
        Detection::Opaque(Box::new(self), Directions::Both)
    }

    /// Ends what was connected for a client that has requests.
    fn let_go(&mut self) {
        let connected = self.connected.as_mut();
        if let Some(mut side) = connected
            .ok()
            .and_then(|connected| connected.same_node.take())
        {
            side.record.opened_connected_for_requests();
            side.record.close(CloseReason::Finished);
        }
    }
}
