//! The state of every pod of this node, for whoever wants to see it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;
use weft_model::workload::{Workload, WorkloadUid};

use super::namespaces::Place;

/// How far a pod is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PodPhase {
    /// To be left alone.
    Outside,
    /// To be captured as soon as it has a network namespace.
    Awaited,
    /// To be captured; the first attempt isn't over.
    Pending,
    /// Captured.
    Captured,
    /// To be captured; the last attempt failed, the next one will come.
    Failed,
    /// On its way out: only what comes in is still served.
    Leaving,
}

impl PodPhase {
    pub(crate) const ALL: [Self; 6] = [
        Self::Outside,
        Self::Awaited,
        Self::Pending,
        Self::Captured,
        Self::Failed,
        Self::Leaving,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Outside => "outside",
            Self::Awaited => "awaited",
            Self::Pending => "pending",
            Self::Captured => "captured",
            Self::Failed => "failed",
            Self::Leaving => "leaving",
        }
    }
}

/// One pod of this node.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct PodState {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) identity: String,
    pub(crate) mtls_mode: String,
    /// Where it is looked for.
    pub(crate) network_namespace: String,
    pub(crate) phase: PodPhase,
    /// Why it isn't captured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Arc<str>>,
}

/// All pods of this node. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct PodTable(watch::Sender<BTreeMap<WorkloadUid, PodState>>);

impl Default for PodTable {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }
}

impl PodTable {
    pub(crate) fn set(&self, workload: &Workload, phase: PodPhase, reason: Option<Arc<str>>) {
        let state = PodState {
            namespace: workload.namespace().into(),
            name: Arc::clone(&workload.name),
            identity: workload.identity.to_string(),
            mtls_mode: workload.mtls_mode.to_string(),
            network_namespace: Place::of(workload).to_string(),
            phase,
            reason,
        };
        self.0.send_if_modified(|pods| {
            pods.insert(workload.uid.clone(), state.clone()).as_ref() != Some(&state)
        });
    }

    pub(crate) fn phase(&self, pod: &WorkloadUid) -> Option<PodPhase> {
        self.0.borrow().get(pod).map(|state| state.phase)
    }

    pub(crate) fn reason(&self, pod: &WorkloadUid) -> Option<Arc<str>> {
        self.0
            .borrow()
            .get(pod)
            .and_then(|state| state.reason.clone())
    }

    pub(crate) fn set_phase(&self, pod: &WorkloadUid, phase: PodPhase) {
        self.0.send_if_modified(|pods| {
            pods.get_mut(pod).is_some_and(|state| {
                state.reason = None;
                std::mem::replace(&mut state.phase, phase) != phase
            })
        });
    }

    pub(crate) fn remove(&self, pod: &WorkloadUid) {
        self.0.send_if_modified(|pods| pods.remove(pod).is_some());
    }

    pub(crate) fn snapshot(&self) -> BTreeMap<WorkloadUid, PodState> {
        self.0.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<BTreeMap<WorkloadUid, PodState>> {
        self.0.subscribe()
    }
}
