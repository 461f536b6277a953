//! The endpoints of services, looked up once for each state of the mesh.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use weft_model::mesh::{Candidate, Unroutable};
use weft_model::{Mesh, NamespacedName};

type Found = Result<Arc<[Candidate]>, Unroutable>;

/// What was looked up in the latest snapshot.
#[derive(Debug, Default)]
pub(crate) struct EndpointCache(Mutex<Cached>);

#[derive(Debug, Default)]
struct Cached {
    /// Of which snapshot; not kept alive by this.
    mesh: Weak<Mesh>,
    found: HashMap<(NamespacedName, u16, bool), Found>,
}

impl EndpointCache {
    /// Where requests for a port of a service may go.
    ///
    /// # Errors
    /// When there is no such port, or nobody serves it.
    pub(crate) fn candidates(
        &self,
        mesh: &Arc<Mesh>,
        node: &str,
        (service, port): (&NamespacedName, u16),
        is_ipv4: bool,
    ) -> Found {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::ptr::eq(cached.mesh.as_ptr(), Arc::as_ptr(mesh)) {
            cached.found.clear();
            cached.mesh = Arc::downgrade(mesh);
        }
        let key = (service.clone(), port, is_ipv4);
        if let Some(found) = cached.found.get(&key) {
            return found.clone();
        }
        let found = match mesh.service(service) {
            Some(known) => mesh
                .service_candidates(node, known, port, is_ipv4)
                .map(Arc::<[Candidate]>::from),
            None => Err(Unroutable::NoSuchPort {
                service: service.clone(),
                port,
            }),
        };
        cached.found.insert(key, found.clone());
        found
    }
}
