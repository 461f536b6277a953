//! Connections that a TCPRoute or a TLSRoute is for.

use tokio::net::TcpStream;
use weft_model::mesh::ConnectionRoutes;

use super::destination::Destination;
use crate::error::OutboundError;
use crate::shared::Shared;
use crate::sniff;

/// Where such a connection goes. The client's first message is awaited only where it
/// decides: by a TLSRoute, so on a port of which it is known that the client speaks first.
pub(super) async fn find<N>(
    shared: &Shared<N>,
    accepted: &TcpStream,
    routes: &ConnectionRoutes,
) -> Result<Destination, OutboundError> {
    let server_name = match routes.matches_server_name() {
        true => {
            let limit = shared.settings.handshake_timeout;
            sniff::client_hello(accepted, limit).await?.server_name
        }
        false => None,
    };
    let mesh = shared.store.snapshot();
    let routed = mesh.route_connection(&shared.node, routes, server_name.as_deref(), |rule| {
        shared.rule_sequences.next_number(rule)
    })?;
    Ok(Destination::of(
        routed.service,
        routed.port,
        routed.candidates,
    ))
}
