//! NetworkPolicies on a pod's way out: the candidates that their egress rules admit.

use std::sync::Arc;

use crate::mesh::resolution::{Candidate, Transport, Unroutable};
use crate::mesh::snapshot::Mesh;
use crate::network_policy::{ConnectionPeer, NetworkPolicyDenied};
use crate::workload::Workload;

impl Mesh {
    /// Authorizes a connection of a pod to a candidate by the pod's egress rules. What leaves
    /// with its own address and port is left to the CNI, which sees it as without the mesh.
    ///
    /// # Errors
    /// When no rule admits it.
    pub fn authorize_egress(
        &self,
        client: &Workload,
        candidate: &Candidate,
    ) -> Result<(), NetworkPolicyDenied> {
        let workload = match &candidate.transport {
            Transport::Plaintext { .. } | Transport::Tls { .. } => return Ok(()),
            Transport::Tunnel { workload, .. } | Transport::SameNode { workload, .. } => workload,
        };
        let now = self.now(workload);
        let server = ConnectionPeer {
            address: candidate.address.ip(),
            workload: Some(now),
        };
        let policies = self.network_policies();
        policies.authorize_egress(client, server, candidate.address.port())
    }

    /// What a workload, which may be of an earlier snapshot, is now; itself when it is gone.
    pub fn now<'a>(&'a self, workload: &'a Arc<Workload>) -> &'a Arc<Workload> {
        self.workload(&workload.uid).unwrap_or(workload)
    }

    /// The candidates that a pod's egress rules admit.
    ///
    /// # Errors
    /// When they admit none of them.
    pub fn admitted_candidates(
        &self,
        client: &Workload,
        mut candidates: Vec<Candidate>,
    ) -> Result<Vec<Candidate>, Unroutable> {
        let mut denied = None;
        if !client.network_policies.egress.is_empty() {
            candidates.retain(|candidate| {
                let result = self.authorize_egress(client, candidate);
                let is_admitted = result.is_ok();
                denied = result.err().or(denied.take());
                is_admitted
            });
        }
        match denied {
            Some(denied) if candidates.is_empty() => Err(denied.into()),
            _ => Ok(candidates),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::fixtures::workload;
    use crate::mesh::change::Change;
    use crate::name::NamespacedName;
    use crate::network_policy::{NetworkPolicy, PolicyPeer, PolicyRule};
    use crate::workload::PolicyMembership;

    /// A mesh where a policy lets the client reach pods of the selector `db` only.
    fn mesh() -> (Mesh, Workload) {
        let mut mesh = Mesh::default();
        let key = NamespacedName::new("default", "egress");
        let db = PolicyRule {
            peers: vec![PolicyPeer::Pods("db".into())],
            ports: Vec::new(),
        };
        mesh.apply(Change::NetworkPolicy(NetworkPolicy {
            key: key.clone(),
            ingress: Vec::new(),
            egress: vec![db],
        }));
        let mut client = workload("client", "10.0.0.1", "node-1");
        client.network_policies = Arc::new(PolicyMembership {
            egress: vec![key],
            ..PolicyMembership::default()
        });
        for (name, address, selectors) in [
            ("db", "10.0.0.2", vec!["db".into()]),
            ("web", "10.0.0.3", Vec::new()),
        ] {
            let mut pod = workload(name, address, "node-2");
            pod.network_policies = Arc::new(PolicyMembership {
                selectors,
                ..PolicyMembership::default()
            });
            mesh.apply(Change::Workload(pod));
        }
        (mesh, client)
    }

    fn candidate(mesh: &Mesh, address: &str) -> Candidate {
        let address: SocketAddr = address.parse().unwrap();
        mesh.candidate_for_address("node-1", address).unwrap()
    }

    #[test]
    fn what_egress_rules_do_not_admit_is_no_candidate() {
        let (mesh, client) = mesh();
        let [db, web] = ["10.0.0.2:80", "10.0.0.3:80"].map(|to| candidate(&mesh, to));
        let both = vec![web.clone(), db.clone()];
        assert_eq!(mesh.admitted_candidates(&client, both), Ok(vec![db]));
        let error = mesh.admitted_candidates(&client, vec![web.clone()]);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("no egress rule"), "{error}");
        assert!(error.contains("10.0.0.3 on port 80"), "{error}");
        let anybody = workload("other", "10.0.0.9", "node-1");
        let all = mesh.admitted_candidates(&anybody, vec![web.clone()]);
        assert_eq!(all, Ok(vec![web]));
    }

    #[test]
    fn plaintext_is_left_to_the_cni() {
        let (mesh, client) = mesh();
        let outside = candidate(&mesh, "192.0.2.1:80");
        assert_eq!(mesh.authorize_egress(&client, &outside), Ok(()));
    }

    #[test]
    fn a_pod_counts_as_it_is_now() {
        let (mut mesh, client) = mesh();
        let db = candidate(&mesh, "10.0.0.2:80");
        assert_eq!(mesh.authorize_egress(&client, &db), Ok(()));
        mesh.apply(Change::Workload(workload("db", "10.0.0.2", "node-2")));
        assert!(mesh.authorize_egress(&client, &db).is_err());
    }
}
