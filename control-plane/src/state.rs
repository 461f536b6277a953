//! What the control plane knows: objects in, resources out, and who was told.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use serde::Serialize;
use tokio::sync::watch;
use weft_model::SpiffeId;
use weft_model::workload::{Workload, WorkloadUid};
use weft_proto::v1::{DiscoveryResponse, Resource, ResourceKind, resource};

use crate::capture::{CaptureState, CaptureStateError};
use crate::index::{Index, Resources};
use crate::source::Event;
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
}

/// The state that all parts share. Its locks are held briefly, never across a wait;
/// who takes several takes them in the order of the fields.
pub(crate) struct State {
    inner: Mutex<Inner>,
    resources: RwLock<Resources>,
    /// The revision of the resources, for those that wait for the next.
    revision: watch::Sender<u64>,
    agents: Mutex<BTreeMap<String, AgentStatus>>,
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
        let inner = Inner {
            index,
            captures,
            broken_files: BTreeMap::new(),
            conflicts: Vec::new(),
        };
        Ok(Self {
            inner: Mutex::new(inner),
            resources: RwLock::default(),
            revision: watch::Sender::new(0),
            agents: Mutex::default(),
        })
    }

    /// Takes in what became of the manifests.
    pub(crate) fn update(&self, update: Update) {
        let mut inner = self.lock();
        for (file, error) in update.broken {
            tracing::error!(%file, %error, "broken manifest; its last good content stays in force");
            inner.broken_files.insert(file, error.to_string());
        }
        for file in &update.mended {
            inner.broken_files.remove(file);
        }
        self.take(&mut inner, update.events);
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
        let mut news = false;
        for (uid, captured) in pods {
            let is_foreign = |workload: &Workload| &*workload.node != node;
            if inner.index.workload(uid).is_some_and(is_foreign) {
                tracing::warn!(node, %uid, "reported a pod of another node; ignored");
                continue;
            }
            if let Captured::Failed(why) = captured {
                tracing::warn!(node, %uid, why, "pod could not be captured");
            }
            self.agent(node, |agent| match captured {
                Captured::Failed(why) => {
                    agent.failed_pods.insert(uid.to_string(), why.clone());
                }
                Captured::Yes | Captured::No => {
                    agent.failed_pods.remove(uid.as_str());
                }
            });
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

    /// Everything that agents are told now.
    pub(crate) fn resources(&self) -> RwLockReadGuard<'_, Resources> {
        self.resources
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever the resources do.
    pub(crate) fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Whether an enrolled pod with that identity runs on that node.
    pub(crate) fn runs_on(&self, identity: &SpiffeId, node: &str) -> bool {
        self.lock().index.runs_on(identity, node)
    }

    /// Changes what is known of an agent.
    pub(crate) fn agent(&self, node: &str, change: impl FnOnce(&mut AgentStatus)) {
        let mut agents = self.lock_agents();
        match agents.get_mut(node) {
            Some(agent) => change(agent),
            None => change(agents.entry(node.to_owned()).or_default()),
        }
    }

    /// An agent is being sent a response. What it rejected before is no matter any
    /// more once there is something newer.
    pub(crate) fn sent(&self, node: &str, response: &DiscoveryResponse) {
        self.agent(node, |agent| {
            agent.sent = response.sequence;
            if !agent.rejected.is_empty() {
                let changed = response.changed.iter().map(rejection_key);
                let removed = response.removed.iter();
                let removed =
                    removed.map(|gone| format!("{} {}", gone.kind().as_str_name(), gone.name));
                for key in changed.chain(removed) {
                    agent.rejected.remove(&key);
                }
            }
        });
    }

    /// What is known of all agents.
    pub(crate) fn agents(&self) -> BTreeMap<String, AgentStatus> {
        self.lock_agents().clone()
    }

    /// What is wrong with the manifests: broken files, and objects left out.
    pub(crate) fn errors(&self) -> (BTreeMap<String, String>, Vec<String>) {
        let inner = self.lock();
        (inner.broken_files.clone(), inner.conflicts.clone())
    }

    fn take(&self, inner: &mut Inner, events: Vec<Event>) {
        for event in events {
            inner.index.take(event);
        }
        self.publish(inner);
    }

    fn publish(&self, inner: &mut Inner) {
        let changes = inner.index.changes();
        let conflicts: Vec<_> = inner.index.conflicts().map(ToString::to_string).collect();
        for conflict in conflicts
            .iter()
            .filter(|conflict| !inner.conflicts.contains(conflict))
        {
            tracing::error!("{conflict}");
        }
        inner.conflicts = conflicts;
        let mut resources = self
            .resources
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if resources.apply(changes) {
            let revision = resources.revision();
            drop(resources);
            self.revision.send_replace(revision);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_agents(&self) -> MutexGuard<'_, BTreeMap<String, AgentStatus>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How `/agents` names a resource.
fn rejection_key(resource: &Resource) -> String {
    let kind = match &resource.resource {
        Some(resource::Resource::Workload(_)) => ResourceKind::Workload,
        Some(resource::Resource::Service(_)) => ResourceKind::Service,
        Some(resource::Resource::Endpoint(_)) => ResourceKind::Endpoint,
        None => ResourceKind::Unspecified,
    };
    format!("{} {}", kind.as_str_name(), resource.name)
}
