//! What NetworkPolicies and AuthorizationPolicies say of one open connection. It is asked for on
//! every change of the mesh, and evaluated when it may be another.

use std::sync::{Arc, Mutex, PoisonError};

use weft_model::Mesh;
use weft_model::authorization_policy::AuthorizationPolicies;
use weft_model::network_policy::{NetworkPolicyDenied, PolicyRevision};
use weft_model::workload::Workload;

/// The last verdict on a connection, and what it followed from.
#[derive(Debug, Default)]
pub(crate) struct PolicyVerdict(Mutex<Option<Verdict>>);

#[derive(Debug)]
struct Verdict {
    policies: PolicyRevision,
    pod: Arc<Workload>,
    peer: Option<Arc<Workload>>,
    ends: bool,
}

impl Verdict {
    fn holds(&self, mesh: &Mesh, pod: &Arc<Workload>, peer: Option<&Arc<Workload>>) -> bool {
        let same_peer = match (&self.peer, peer) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let same_policies = self.policies == *mesh.network_policies().revision();
        same_peer && same_policies && Arc::ptr_eq(&self.pod, pod)
    }
}

impl PolicyVerdict {
    /// Whether policies end a connection of a pod with that peer. They are evaluated when one
    /// of them, the pod or the peer is another than the last time.
    pub(crate) fn ends(
        &self,
        mesh: &Mesh,
        pod: &Arc<Workload>,
        peer: Option<&Arc<Workload>>,
        evaluate: impl FnOnce() -> Result<(), NetworkPolicyDenied>,
    ) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verdict) = &*last
            && verdict.holds(mesh, pod, peer)
        {
            return verdict.ends;
        }
        let ends = evaluate().is_err_and(|denied| denied.ends_connections());
        *last = Some(Verdict {
            policies: mesh.network_policies().revision().clone(),
            pod: Arc::clone(pod),
            peer: peer.map(Arc::clone),
            ends,
        });
        ends
    }
}

/// The last verdict of AuthorizationPolicies on a connection, and those that it is from.
#[derive(Debug, Default)]
pub(crate) struct AuthorizationVerdict(Mutex<Option<(Arc<AuthorizationPolicies>, bool)>>);

impl AuthorizationVerdict {
    /// Whether policies end a connection. They are evaluated when they are others than the last
    /// time.
    pub(crate) fn ends(
        &self,
        policies: &Arc<AuthorizationPolicies>,
        evaluate: impl FnOnce(&AuthorizationPolicies) -> bool,
    ) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, ends)) = &*last
            && Arc::ptr_eq(known, policies)
        {
            return *ends;
        }
        let ends = evaluate(policies);
        *last = Some((Arc::clone(policies), ends));
        ends
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use weft_model::NamespacedName;
    use weft_model::mesh::Change;
    use weft_model::network_policy::NetworkPolicy;
    use weft_model::workload::WorkloadUid;

    use super::*;

    fn workload(name: &str) -> Workload {
        let identity = format!("spiffe://cluster.local/ns/shop/sa/{name}");
        Workload::new(WorkloadUid::from(name), identity.parse().unwrap(), "node-1")
    }

    fn policy(name: &str) -> Change {
        Change::NetworkPolicy(NetworkPolicy {
            key: NamespacedName::new("shop", name),
            ingress: vec![],
            egress: vec![],
        })
    }

    #[test]
    fn only_a_change_of_policies_pod_or_peer_is_a_reason_to_evaluate_them() {
        let mut mesh = Mesh::default();
        for name in ["pod", "peer"] {
            mesh.apply(Change::Workload(workload(name)));
        }
        mesh.apply(policy("a"));
        let verdict = PolicyVerdict::default();
        let evaluated = Cell::new(0);
        let asked = |mesh: &Mesh| {
            let [pod, peer] = ["pod", "peer"].map(|name| mesh.workload(&WorkloadUid::from(name)));
            let ends = verdict.ends(mesh, pod.unwrap(), peer, || {
                evaluated.set(evaluated.get() + 1);
                Ok(())
            });
            assert!(!ends);
            evaluated.get()
        };
        assert_eq!(asked(&mesh), 1);
        assert_eq!(asked(&mesh), 1);
        // Another pod, and a policy that is the same.
        mesh.apply(Change::Workload(workload("unrelated")));
        mesh.apply(policy("a"));
        assert_eq!(asked(&mesh.clone()), 1);
        mesh.apply(policy("b"));
        assert_eq!(asked(&mesh), 2);
        mesh.apply(Change::Workload(workload("peer")));
        assert_eq!(asked(&mesh), 3);
        mesh.apply(Change::Workload(workload("pod")));
        assert_eq!(asked(&mesh), 4);
        mesh.apply(Change::WorkloadRemoved(WorkloadUid::from("peer")));
        assert_eq!(asked(&mesh), 5);
        assert_eq!(asked(&mesh), 5);
    }
}
