//! The status of every pod of this node, to be looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;
use weft_model::workload::{Workload, WorkloadUid};

use super::phase::PodPhase;
use crate::namespaces::NamespaceLocation;

/// The status of one pod.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct PodStatus {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) identity: String,
    pub(crate) mtls_mode: String,
    /// The location of its network namespace.
    pub(crate) network_namespace: String,
    pub(crate) phase: PodPhase,
    /// Its connections are refused until it is captured.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) refused: bool,
    /// Connections from before its capture that go on past the proxy and may not.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) unprotected_connections: usize,
    /// Time from the start of its first process until its connections were refused, of a pod that
    /// may not be open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) open_milliseconds: Option<u64>,
    /// The reason that the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Arc<str>>,
}

impl PodStatus {
    /// The status of a pod of which nothing is refused and nothing unprotected.
    pub(crate) fn new(workload: &Workload, phase: PodPhase, reason: Option<Arc<str>>) -> Self {
        Self {
            namespace: workload.namespace().into(),
            name: Arc::clone(&workload.name),
            identity: workload.identity.to_string(),
            mtls_mode: workload.mtls_mode.to_string(),
            network_namespace: NamespaceLocation::for_workload(workload).to_string(),
            phase,
            refused: false,
            unprotected_connections: 0,
            open_milliseconds: None,
            reason,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// The status of every pod of this node. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct PodStatuses(watch::Sender<BTreeMap<WorkloadUid, PodStatus>>);

impl Default for PodStatuses {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }
}

impl PodStatuses {
    /// Replaces the status of a pod.
    pub(crate) fn set(&self, pod: &WorkloadUid, status: PodStatus) {
        self.0.send_if_modified(|pods| {
            pods.insert(pod.clone(), status.clone()).as_ref() != Some(&status)
        });
    }

    /// The phase of a pod; `None` for one that isn't known.
    pub(crate) fn phase(&self, pod: &WorkloadUid) -> Option<PodPhase> {
        self.0.borrow().get(pod).map(|status| status.phase)
    }

    /// True for a pod that is refused until it is captured.
    pub(crate) fn is_refused(&self, pod: &WorkloadUid) -> bool {
        self.0
            .borrow()
            .get(pod)
            .is_some_and(|status| status.refused)
    }

    /// Forgets a pod.
    pub(crate) fn remove(&self, pod: &WorkloadUid) {
        self.0.send_if_modified(|pods| pods.remove(pod).is_some());
    }

    /// Every pod's status now.
    pub(crate) fn snapshot(&self) -> BTreeMap<WorkloadUid, PodStatus> {
        self.0.borrow().clone()
    }

    /// Notice of changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<BTreeMap<WorkloadUid, PodStatus>> {
        self.0.subscribe()
    }
}
