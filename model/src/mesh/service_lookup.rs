//! Which Service a destination stands for, and which of its ports.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::address::OriginalDestination;
use crate::mesh::snapshot::Mesh;
use crate::service::Service;

/// A port of a Service that a client dialled, at whichever address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DialledService {
    /// Service that was asked for.
    pub service: Arc<Service>,
    /// Port of the Service, which is another one than the client dialled where that is a node's.
    /// A virtual address has ports that its Service doesn't have.
    pub port: u16,
}

impl DialledService {
    /// Whether that is a port of a Service.
    pub(super) fn is_port_of(&self, service: &Service, port: u16) -> bool {
        (&self.service.key, self.port) == (&service.key, port)
    }
}

impl Mesh {
    /// The Service that a destination stands for, to clients of a namespace: by its virtual
    /// address, by an external one, or by its port of a node.
    ///
    /// Who may write Services may give them any external address (CVE-2020-8554). It counts
    /// for nothing where that is a pod's, a node's, or an external service's.
    pub fn dialled_service(
        &self,
        client_namespace: &str,
        destination: OriginalDestination,
    ) -> Option<DialledService> {
        let address = destination.address();
        if let Some(service) = self.services.by_address(address.ip()) {
            return Some(DialledService {
                service: Arc::clone(service),
                port: address.port(),
            });
        }
        if self.workloads.by_address(address.ip()).is_some() {
            return None;
        }
        let dialled = match self.nodes.has_address(address.ip()) {
            true => self.by_node_port(address.port())?,
            false => self.by_external_address(address)?,
        };
        // Rarely asked: nearly nothing has got here.
        let registered = self.external_service_by_address(client_namespace, address);
        registered.is_none().then_some(dialled)
    }

    fn by_external_address(&self, address: SocketAddr) -> Option<DialledService> {
        let service = self.services.by_external_address(address)?;
        Some(DialledService {
            service: Arc::clone(service),
            port: address.port(),
        })
    }

    /// The Service that has a node port.
    pub(super) fn by_node_port(&self, node_port: u16) -> Option<DialledService> {
        let service = self.services.by_node_port(node_port)?;
        let mut ports = service.ports.iter();
        let port = ports.find(|port| port.node_port == Some(node_port))?;
        Some(DialledService {
            service: Arc::clone(service),
            port: port.port,
        })
    }
}

#[cfg(test)]
mod tests;
