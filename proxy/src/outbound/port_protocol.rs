//! What is known of a destination's protocol before the client has said a byte.

use std::sync::Arc;

use weft_model::detect::protocol::DeclaredProtocol;
use weft_model::service::Service;

use super::connection::OutboundConnection;

/// What a connection to a port carries, as far as the mesh looks at it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum PortProtocol {
    /// HTTP: the Service declares it.
    Http(Arc<Service>),
    /// Perhaps HTTP, as a route for requests is attached: the first bytes tell.
    Detect(Arc<Service>),
    /// Bytes that are carried as they are.
    Opaque,
}

/// What a connection carries: HTTP where that is declared, or where a route for requests is
/// attached.
pub(super) fn port_protocol(connection: &OutboundConnection) -> PortProtocol {
    let OutboundConnection {
        mesh,
        workload,
        original,
        ..
    } = connection;
    let address = original.address();
    let Some(service) = mesh.service_by_address(address.ip()) else {
        return PortProtocol::Opaque;
    };
    let Some(port) = service.port(address.port()) else {
        return PortProtocol::Opaque;
    };
    let table = mesh.route_table(&service.key, port.port, workload.namespace());
    let routes_requests = table.map(|table| table.kind().routes_requests());
    // A TCPRoute or a TLSRoute is about connections, whatever is declared.
    if routes_requests == Some(false) {
        return PortProtocol::Opaque;
    }
    let service = Arc::clone(service);
    match DeclaredProtocol::from_port(port) {
        DeclaredProtocol::Http | DeclaredProtocol::Http2 => PortProtocol::Http(service),
        DeclaredProtocol::Unknown | DeclaredProtocol::Opaque if routes_requests.is_some() => {
            PortProtocol::Detect(service)
        }
        DeclaredProtocol::Unknown | DeclaredProtocol::Opaque | DeclaredProtocol::Tls => {
            PortProtocol::Opaque
        }
    }
}
