//! What the control plane knows: objects in, resources out, and who was told.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;
use weft_model::SpiffeId;
use weft_model::workload::WorkloadUid;

use crate::capture::{CaptureState, CaptureStateError};
use crate::index::{Index, Resources};
use crate::source::directory::Update;

/// One agent's stream, as `/agents` shows it.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct AgentStatus {
    /// Streams that it has open; more than one for a moment after a reconnect.
    pub(crate) streams: usize,
    /// The last response that it was sent, counted within its stream.
    pub(crate) sent: u64,
    /// The last response that it answered.
    pub(crate) acknowledged: u64,
    /// Resources that it can't use: kind and name, and why.
    pub(crate) rejected: BTreeMap<String, String>,
    /// Pods that it could not capture, and why.
    pub(crate) failed_pods: BTreeMap<String, String>,
}

struct Inner {
    index: Index,
    captures: CaptureState,
    broken_files: BTreeMap<String, String>,
    conflicts: Vec<String>,
    agents: BTreeMap<String, AgentStatus>,
}

/// The state that all parts share. Locked briefly, never across a wait.
pub(crate) struct State {
    inner: Mutex<Inner>,
    resources: watch::Sender<Arc<Resources>>,
}

/// What a node reports of one pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Captured {
    Yes,
    No,
    Failed(String),
}

impl State {
    /// Nothing but what an earlier process knew of captured pods.
    pub(crate) fn open(state_directory: &Path) -> Result<Self, CaptureStateError> {
        let captures = CaptureState::load(state_directory)?;
        let mut index = Index::default();
        index.set_captured(captures.captured());
        let (broken_files, conflicts, agents) = Default::default();
        let inner = Inner {
            index,
            captures,
            broken_files,
            conflicts,
            agents,
        };
        let (resources, _) = watch::channel(Arc::default());
        Ok(Self {
            inner: Mutex::new(inner),
            resources,
        })
    }

    /// Takes in what became of the manifests.
    pub(crate) fn update(&self, update: Update) {
        let mut inner = self.lock();
        for (file, error) in update.broken {
            tracing::error!(%file, %error, "broken manifest; its last good content stays in force");
            inner.broken_files.insert(file, error.to_string());
        }
        for file in update.mended.iter().chain(&update.removed) {
            inner.broken_files.remove(file);
        }
        for file in &update.removed {
            inner.index.delete(file);
        }
        for (file, objects) in update.changed {
            inner.index.apply(file, objects);
        }
        self.publish(&mut inner);
    }

    /// A node reports pods; with `complete`, all that it captures. Pods of other nodes
    /// are not its to report.
    pub(crate) fn report(
        &self,
        node: &str,
        pods: &[(WorkloadUid, Captured)],
        complete: Option<&HashSet<WorkloadUid>>,
    ) {
        let mut inner = self.lock();
        let known = self.resources.borrow();
        let foreign: HashSet<_> = known
            .workloads()
            .filter(|workload| &*workload.node != node)
            .map(|workload| workload.uid.clone())
            .collect();
        drop(known);
        let mut news = false;
        for (uid, captured) in pods {
            if foreign.contains(uid) {
                tracing::warn!(node, %uid, "reported a pod of another node; ignored");
                continue;
            }
            let failed = &mut inner.agents.entry(node.to_owned()).or_default().failed_pods;
            match captured {
                Captured::Failed(why) => {
                    tracing::warn!(node, %uid, why, "pod could not be captured");
                    failed.insert(uid.to_string(), why.clone());
                }
                Captured::Yes | Captured::No => {
                    failed.remove(uid.as_str());
                }
            }
            news |= inner.captures.report(node, uid, *captured == Captured::Yes);
        }
        if let Some(reported) = complete {
            news |= inner.captures.retain(node, reported);
        }
        if news {
            if let Err(error) = inner.captures.save() {
                tracing::error!(%error, "captured pods could not be written down");
            }
            let captured = inner.captures.captured();
            inner.index.set_captured(captured);
            self.publish(&mut inner);
        }
    }

    /// Everything that agents are told, now and from now on.
    pub(crate) fn resources(&self) -> watch::Receiver<Arc<Resources>> {
        self.resources.subscribe()
    }

    /// Whether an enrolled pod with that identity runs on that node.
    pub(crate) fn runs_on(&self, identity: &SpiffeId, node: &str) -> bool {
        self.resources.borrow().workloads().any(|workload| {
            workload.identity == *identity
                && &*workload.node == node
                && workload.enrolment.is_enrolled()
        })
    }

    /// Changes what is known of an agent.
    pub(crate) fn agent(&self, node: &str, change: impl FnOnce(&mut AgentStatus)) {
        change(self.lock().agents.entry(node.to_owned()).or_default());
    }

    /// What is known of all agents.
    pub(crate) fn agents(&self) -> BTreeMap<String, AgentStatus> {
        self.lock().agents.clone()
    }

    /// What is wrong with the manifests: broken files, and objects left out.
    pub(crate) fn errors(&self) -> (BTreeMap<String, String>, Vec<String>) {
        let inner = self.lock();
        (inner.broken_files.clone(), inner.conflicts.clone())
    }

    fn publish(&self, inner: &mut Inner) {
        let (resources, conflicts) = inner.index.compute();
        let conflicts: Vec<_> = conflicts.iter().map(ToString::to_string).collect();
        for conflict in conflicts
            .iter()
            .filter(|conflict| !inner.conflicts.contains(conflict))
        {
            tracing::error!("{conflict}");
        }
        inner.conflicts = conflicts;
        self.resources.send_replace(resources);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
