//! Finding out where a connection may go: what the mesh knows of its destination.

use weft_model::mesh::Resolution;

use super::connection::OutboundConnection;
use super::destination::Destination;
use super::error::OutboundError;
use super::{connection_route, external};
use crate::detect::PrefixedStream;

/// Finds out where a connection may go. Its first bytes are read where they decide, and
/// kept; it has none before it is accepted.
///
/// # Errors
/// When it may go nowhere.
pub(super) async fn resolve(
    connection: &OutboundConnection,
    downstream: Option<&mut PrefixedStream>,
) -> Result<Destination, OutboundError> {
    let OutboundConnection {
        pod,
        mesh,
        workload,
        original,
        ..
    } = connection;
    if let Some(routes) = mesh.connection_routes(workload.namespace(), *original) {
        return connection_route::resolve(connection, downstream, &routes).await;
    }
    match mesh.resolve(&pod.node.name, workload.namespace(), *original)? {
        Resolution::Service {
            service,
            port,
            candidates,
        } => Ok(Destination::service(service, port, candidates)),
        Resolution::Workload(candidate) => Ok(Destination::endpoint(candidate)),
        Resolution::Unknown(address) => external::resolve(connection, downstream, address).await,
    }
}
