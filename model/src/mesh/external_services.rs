//! Look-ups of external services.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::external::{ExternalLookup, ExternalService, MatchedExternalService};
use crate::host::RequestedHost;
use crate::mesh::snapshot::Mesh;
use crate::name::NamespacedName;

impl Mesh {
    /// All external services, by name.
    pub fn external_services(&self) -> impl Iterator<Item = &Arc<ExternalService>> {
        self.external_services.values()
    }

    /// The external service of that name.
    pub fn external_service(&self, key: &NamespacedName) -> Option<&Arc<ExternalService>> {
        self.external_services.get(key)
    }

    /// The external service that clients of a namespace find at an address.
    pub fn external_service_by_address(
        &self,
        client_namespace: &str,
        destination: SocketAddr,
    ) -> Option<MatchedExternalService> {
        let lookup = ExternalLookup {
            client_namespace,
            destination,
        };
        lookup.by_address(self.external_services.values())
    }

    /// The external service for a client that connects to an address and asks for a host.
    pub fn external_service_by_host(
        &self,
        client_namespace: &str,
        destination: SocketAddr,
        requested: &RequestedHost,
    ) -> Option<MatchedExternalService> {
        let lookup = ExternalLookup {
            client_namespace,
            destination,
        };
        lookup.by_host(self.external_services.values(), requested)
    }

    /// Whether the host that a client asks for could be an external service's: only then
    /// is it worth waiting for its first bytes.
    pub fn has_external_service_by_host(
        &self,
        client_namespace: &str,
        destination: SocketAddr,
    ) -> bool {
        let lookup = ExternalLookup {
            client_namespace,
            destination,
        };
        lookup.any_by_host(self.external_services.values())
    }
}
