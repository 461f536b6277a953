//! What is known of a destination's protocol before the client has said a byte.

use weft_model::detect::protocol::DeclaredProtocol;
use weft_model::mesh::DialledService;

use super::connection::OutboundConnection;

/// What a connection to a port carries, as far as the mesh looks at it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum PortProtocol {
    /// HTTP alone: the Service declares it, or a route for requests is attached. Anything else
    /// would get past the rules.
    Http(DialledService),
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
    let namespace = workload.namespace();
    let Some(dialled) = mesh.dialled_service(namespace, *original) else {
        return PortProtocol::Opaque;
    };
    let Some(port) = dialled.service.port(dialled.port) else {
        return PortProtocol::Opaque;
    };
    let table = mesh.route_table(&dialled.service.key, port.port, namespace);
    let routes_requests = table.map(|table| table.kind().routes_requests());
    // A TCPRoute or a TLSRoute is about connections, whatever is declared.
    if routes_requests == Some(false) {
        return PortProtocol::Opaque;
    }
    match DeclaredProtocol::from_port(port) {
        DeclaredProtocol::Http | DeclaredProtocol::Http2 => PortProtocol::Http(dialled),
        DeclaredProtocol::Unknown | DeclaredProtocol::Opaque if routes_requests.is_some() => {
            PortProtocol::Http(dialled)
        }
        DeclaredProtocol::Unknown | DeclaredProtocol::Opaque | DeclaredProtocol::Tls => {
            PortProtocol::Opaque
        }
    }
}
