//! Who may have which certificate: a node's agent, a pod's sidecar.

use weft_model::workload::{Workload, WorkloadUid};
use weft_model::{NamespacedName, SpiffeId};

use super::Index;
use super::identities::CertificateDenied;

impl Index {
    /// Lets a node have a certificate for an identity.
    ///
    /// # Errors
    /// The reason for which it gets none.
    pub(crate) fn authorize_certificate(
        &self,
        identity: &SpiffeId,
        node: &str,
    ) -> Result<(), CertificateDenied> {
        let lists_accounts = self.lists_service_accounts;
        self.workloads
            .authorize_certificate(&self.objects, identity, node, lists_accounts)
    }

    /// Lets a pod's own sidecar have a certificate for an identity.
    ///
    /// # Errors
    /// The reason for which it gets none.
    pub(crate) fn authorize_pod_certificate(
        &self,
        identity: &SpiffeId,
        pod: &WorkloadUid,
    ) -> Result<(), CertificateDenied> {
        let lists_accounts = self.lists_service_accounts;
        self.workloads
            .authorize_pod_certificate(&self.objects, identity, pod, lists_accounts)
    }

    /// The pod of that name, as agents are told of it.
    pub(crate) fn workload_of_pod(&self, pod: &NamespacedName) -> Option<&Workload> {
        self.workloads.of_pod(pod)
    }
}
