//! External services by name, and which one a connection is for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Mesh;
use crate::external::{ExternalLookup, ExternalService, HostSource, MatchedExternalService};
use crate::service::NamespacedName;

/// All external services.
pub(super) type Externals = BTreeMap<NamespacedName, Arc<ExternalService>>;

impl Mesh {
    /// All external services, by name.
    pub fn external_services(&self) -> impl Iterator<Item = &Arc<ExternalService>> {
        self.externals.values()
    }

    /// The external service of that name.
    pub fn external_service(&self, key: &NamespacedName) -> Option<&Arc<ExternalService>> {
        self.externals.get(key)
    }

    /// The external service that clients of a namespace find at an address.
    pub fn external_service_by_address(
        &self,
        namespace: &str,
        address: SocketAddr,
    ) -> Option<MatchedExternalService> {
        ExternalLookup { namespace, address }.by_address(self.externals.values())
    }

    /// The external service for a client that dials an address and asks for a name.
    pub fn external_service_by_host(
        &self,
        namespace: &str,
        address: SocketAddr,
        by: HostSource,
        name: &str,
    ) -> Option<MatchedExternalService> {
        ExternalLookup { namespace, address }.by_host(self.externals.values(), by, name)
    }

    /// Whether what a client asks for could name an external service: only then is it
    /// worth waiting for.
    pub fn has_external_service_by_host(&self, namespace: &str, address: SocketAddr) -> bool {
        ExternalLookup { namespace, address }.any_by_host(self.externals.values())
    }
}
