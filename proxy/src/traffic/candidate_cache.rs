//! The candidates of services, looked up once for each snapshot of the mesh.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use weft_model::mesh::{Candidate, Unroutable};
use weft_model::workload::Workload;
use weft_model::{Mesh, NamespacedName};

use crate::sync::lock;

type LookedUp = Result<Arc<[Candidate]>, Unroutable>;

/// The candidates of the latest snapshot that were asked for.
#[derive(Debug, Default)]
pub(crate) struct CandidateCache(Mutex<Cached>);

#[derive(Debug, Default)]
struct Cached {
    /// The snapshot; not kept alive by this.
    mesh: Weak<Mesh>,
    /// By service, port and whether the client uses IPv4.
    looked_up: HashMap<(NamespacedName, u16, bool), LookedUp>,
}

impl CandidateCache {
    /// The candidates of a pod for a port of a service. The pod is the same each time.
    ///
    /// # Errors
    /// When there is no such port, or nobody serves it whom the pod may reach.
    pub(crate) fn candidates(
        &self,
        mesh: &Arc<Mesh>,
        client: &Workload,
        node: &str,
        (service, port): (&NamespacedName, u16),
        is_ipv4: bool,
    ) -> LookedUp {
        let mut cached = lock(&self.0);
        if !std::ptr::eq(cached.mesh.as_ptr(), Arc::as_ptr(mesh)) {
            cached.looked_up.clear();
            cached.mesh = Arc::downgrade(mesh);
        }
        let key = (service.clone(), port, is_ipv4);
        if let Some(found) = cached.looked_up.get(&key) {
            return found.clone();
        }
        let found = match mesh.service(service) {
            Some(known) => mesh
                .service_candidates(node, known, port, is_ipv4)
                .and_then(|found| mesh.admitted_candidates(client, found))
                .map(Arc::<[Candidate]>::from),
            None => Err(Unroutable::NoSuchPort {
                service: service.clone(),
                port,
            }),
        };
        cached.looked_up.insert(key, found.clone());
        found
    }
}
