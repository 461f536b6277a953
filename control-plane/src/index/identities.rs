//! The identities that nodes serve, for which they may have certificates.

use std::collections::HashMap;
use std::sync::Arc;

use weft_model::workload::Workload;
use weft_model::{NamespacedName, SpiffeId};

use super::objects::Objects;
use crate::kinds::ServiceAccountObject;

/// The enrolled pods of each node, counted by identity.
#[derive(Debug, Default)]
pub(super) struct Identities {
    pods: HashMap<(Arc<str>, SpiffeId), usize>,
}

/// A reason for which a node gets no certificate for an identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum CertificateDenied {
    /// It serves nobody who is that.
    #[error("no enrolled pod of the node has that identity")]
    NoPod,
    /// A sidecar asks for what isn't its own pod's.
    #[error("it isn't the identity of that pod, or the pod is not in the mesh with a sidecar")]
    NotThisPod,
    /// Whoever deleted the ServiceAccount took the identity away, as it takes tokens
    /// away, although pods that had it go on running.
    #[error("the ServiceAccount of that identity doesn't exist")]
    NoServiceAccount,
}

impl Identities {
    /// A workload is there.
    pub(super) fn add(&mut self, workload: &Workload) {
        if is_served_by_agent(workload) {
            *self.pods.entry(node_and_identity(workload)).or_default() += 1;
        }
    }

    /// A workload as it was is gone.
    pub(super) fn remove(&mut self, workload: &Workload) {
        if !is_served_by_agent(workload) {
            return;
        }
        let key = node_and_identity(workload);
        if let Some(count) = self.pods.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.pods.remove(&key);
            }
        }
    }

    /// An enrolled pod of the node has the identity.
    pub(super) fn serves(&self, node: &str, identity: &SpiffeId) -> bool {
        let key = (Arc::from(node), identity.clone());
        self.pods.contains_key(&key)
    }
}

/// A sidecar asks for its own pod's itself.
fn is_served_by_agent(workload: &Workload) -> bool {
    workload.enrolment.is_enrolled() && !workload.is_sidecar
}

fn node_and_identity(workload: &Workload) -> (Arc<str>, SpiffeId) {
    (Arc::clone(&workload.node), workload.identity.clone())
}

/// Lets an identity have certificates whose ServiceAccount exists. With `lists_accounts`, one that
/// isn't known doesn't.
///
/// # Errors
/// When the ServiceAccount of an identity doesn't exist.
pub(super) fn account_exists(
    objects: &Objects,
    identity: &SpiffeId,
    lists_accounts: bool,
) -> Result<(), CertificateDenied> {
    let account = NamespacedName::new(identity.namespace(), identity.service_account());
    let account = objects.tables.get::<ServiceAccountObject>(&account);
    match account.is_some() || !lists_accounts {
        true => Ok(()),
        false => Err(CertificateDenied::NoServiceAccount),
    }
}
