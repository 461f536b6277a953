//! The pod as the mesh last knew it: one that the mesh forgets while its processes run is decided
//! about as before.

use std::sync::Arc;

use arc_swap::ArcSwap;
use weft_model::Mesh;
use weft_model::authorization_policy::AuthorizationPolicies;
use weft_model::workload::{Workload, WorkloadUid};

/// The pod as the mesh last knew it.
#[derive(Debug)]
pub(crate) struct LastKnown {
    uid: WorkloadUid,
    pod: ArcSwap<KnownPod>,
}

/// A pod, and what its policies say.
#[derive(Clone, Debug)]
struct KnownPod {
    workload: Arc<Workload>,
    /// None where the mesh has never known it.
    policies: Option<Arc<AuthorizationPolicies>>,
}

impl LastKnown {
    /// A pod as it is when its proxy starts, and as a snapshot knows it.
    pub(crate) fn new(started_as: Arc<Workload>, mesh: &Mesh) -> Self {
        let known = Self {
            uid: started_as.uid.clone(),
            pod: ArcSwap::from_pointee(KnownPod {
                workload: started_as,
                policies: None,
            }),
        };
        known.update(mesh);
        known
    }

    /// To be told of every snapshot; one that doesn't know the pod changes nothing.
    pub(crate) fn update(&self, mesh: &Mesh) {
        let Some(workload) = mesh.workload(&self.uid) else {
            return;
        };
        self.pod.store(Arc::new(KnownPod {
            workload: Arc::clone(workload),
            policies: mesh.authorization_policies(&self.uid).map(Arc::clone),
        }));
    }

    /// The pod, as a snapshot knows it or as it was last known.
    pub(crate) fn workload(&self, mesh: &Mesh) -> Arc<Workload> {
        match mesh.workload(&self.uid) {
            Some(known) => Arc::clone(known),
            None => Arc::clone(&self.pod.load().workload),
        }
    }

    /// Its policies, as a snapshot knows them or as they were last known; none where the mesh has
    /// never known the pod.
    pub(crate) fn policies(&self, mesh: &Mesh) -> Option<Arc<AuthorizationPolicies>> {
        match mesh.authorization_policies(&self.uid) {
            Some(known) => Some(Arc::clone(known)),
            None => self.pod.load().policies.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_model::Change;
    use weft_model::authorization_policy::{AuthorizationMembership, DefaultAuthorization};
    use weft_model::mtls::MtlsMode;

    use super::*;

    #[test]
    fn a_pod_that_the_mesh_forgets_is_as_it_last_was() {
        let identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        let started_as = Workload::new(WorkloadUid::from("web"), identity, "node-1");
        let mut mesh = Mesh::default();
        let known = LastKnown::new(Arc::new(started_as.clone()), &mesh);
        assert!(known.policies(&mesh).is_none(), "never known");
        assert_eq!(*known.workload(&mesh), started_as);
        let strict = Workload {
            mtls_mode: MtlsMode::Strict,
            authorization: Arc::new(AuthorizationMembership {
                default: DefaultAuthorization::Deny,
                ..AuthorizationMembership::default()
            }),
            ..started_as.clone()
        };
        mesh.apply(Change::Workload(strict.clone()));
        known.update(&mesh);
        let policies = known.policies(&mesh).unwrap();
        assert!(!policies.is_empty());
        mesh.apply(Change::WorkloadRemoved(started_as.uid.clone()));
        known.update(&mesh);
        assert_eq!(*known.workload(&mesh), strict);
        assert!(Arc::ptr_eq(&known.policies(&mesh).unwrap(), &policies));
    }
}
