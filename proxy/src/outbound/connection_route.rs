//! Connections that a TCPRoute or a TLSRoute is for.

use weft_model::mesh::ConnectionRoutes;

use super::connection::OutboundConnection;
use super::destination::Destination;
use super::error::OutboundError;
use crate::detect::{PrefixedStream, read_client_hello};

/// Follows the routes. The client's first message is awaited only where it decides: by a
/// TLSRoute, so on a port of which it is known that the client speaks first.
pub(super) async fn resolve(
    connection: &OutboundConnection,
    downstream: Option<&mut PrefixedStream>,
    routes: &ConnectionRoutes,
) -> Result<Destination, OutboundError> {
    let node = &connection.pod.node;
    let server_name = match routes.matches_server_name() {
        true => {
            let limit = node.settings.handshake_timeout;
            let downstream = downstream.ok_or(OutboundError::Undecided)?;
            read_client_hello(downstream, limit).await?.server_name
        }
        false => None,
    };
    let draw = |rule| node.sequences.next_number(rule);
    let routed =
        connection
            .mesh
            .route_connection(&node.name, routes, server_name.as_deref(), draw)?;
    Ok(Destination::service(
        routed.service,
        routed.port,
        routed.candidates,
    ))
}
