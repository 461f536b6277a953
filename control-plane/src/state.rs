//! What the control plane knows: objects in, resources out, and who was told.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use serde::Serialize;
use tokio::sync::watch;
use weft_model::SpiffeId;
use weft_model::route::RouteKey;
use weft_model::workload::WorkloadUid;
use weft_proto::v1::{DiscoveryResponse, Resource, ResourceKind, resource};

use crate::capture::{CaptureState, CaptureStateError};
use crate::index::{CertificateDenied, Index, PolicyStatuses, Resources, RouteStatus};
use crate::kinds::PodObject;
use crate::source::Event;
use crate::source::directory::Update;
use crate::source::kubernetes::Problems;
use crate::status::{CaptureWriter, PodCapture, RouteNews};

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
    captures: Captures,
    broken_files: BTreeMap<String, String>,
    conflicts: Vec<String>,
}

/// Where it is kept which pods are captured.
enum Captures {
    /// In the state directory.
    File(CaptureState),
    /// In the pods' own status.
    Pods {
        writer: CaptureWriter,
        /// What of the cluster's objects can't be used.
        problems: Problems,
    },
}

/// The state that all parts share. Its locks are held briefly, never across a wait;
/// who takes several takes them in the order of the fields.
pub(crate) struct State {
    inner: Mutex<Inner>,
    resources: RwLock<Resources>,
    /// The revision of the resources, for those that wait for the next.
    revision: watch::Sender<u64>,
    /// What is thought of TrafficPolicies, for who writes their status.
    policy_verdicts: watch::Sender<Arc<PolicyStatuses>>,
    agents: Mutex<BTreeMap<String, AgentStatus>>,
    /// Routes whose status may have to be written. Nobody does in a directory.
    route_news: RouteNews,
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
        Ok(Self::new(index, Captures::File(captures)))
    }

    /// Nothing yet; whether pods are captured is written into their status.
    pub(crate) fn of_cluster(
        mesh_namespace: &str,
        writer: CaptureWriter,
        problems: Problems,
    ) -> Self {
        let captures = Captures::Pods { writer, problems };
        Self::new(Index::of_mesh_namespace(mesh_namespace), captures)
    }

    fn new(index: Index, captures: Captures) -> Self {
        let inner = Inner {
            index,
            captures,
            broken_files: BTreeMap::new(),
            conflicts: Vec::new(),
        };
        Self {
            inner: Mutex::new(inner),
            resources: RwLock::default(),
            revision: watch::Sender::new(0),
            policy_verdicts: watch::Sender::default(),
            agents: Mutex::default(),
            route_news: RouteNews::default(),
        }
    }

    /// Takes in what became of objects.
    pub(crate) fn take_in(&self, events: Vec<Event>) {
        self.take(&mut self.lock(), events);
    }

    /// An agent has a new stream.
    pub(crate) fn connected(&self, node: &str) {
        self.agent(node, |agent| agent.streams += 1);
        if let Captures::Pods { writer, .. } = &self.lock().captures {
            writer.forget(node);
        }
    }

    /// An agent's stream has ended.
    pub(crate) fn disconnected(&self, node: &str) {
        self.agent(node, |agent| {
            agent.streams = agent.streams.saturating_sub(1);
        });
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
        let is_foreign = |(uid, _): &&(WorkloadUid, Captured)| {
            let pod = inner.index.workload(uid);
            let foreign = pod.is_some_and(|workload| &*workload.node != node);
            if foreign {
                tracing::warn!(node, %uid, "reported a pod of another node; ignored");
            }
            foreign
        };
        let own: Vec<_> = pods.iter().filter(|pod| !is_foreign(pod)).collect();
        for (uid, captured) in &own {
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
        }
        let Inner {
            index, captures, ..
        } = &mut *inner;
        match captures {
            Captures::Pods { writer, .. } => report_to_pods(index, writer, node, &own, complete),
            Captures::File(state) => {
                let mut news = false;
                for (uid, captured) in &own {
                    news |= state.report(node, uid, *captured == Captured::Yes);
                }
                if let Some(reported) = complete {
                    news |= state.retain(node, reported);
                }
                if news {
                    if let Err(error) = state.save() {
                        tracing::error!(%error, "captured pods could not be written down");
                    }
                    index.set_captured(state.captured());
                    self.publish(&mut inner);
                }
            }
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

    /// What is thought of TrafficPolicies; changes whenever that does.
    pub(crate) fn policy_verdicts(&self) -> watch::Receiver<Arc<PolicyStatuses>> {
        self.policy_verdicts.subscribe()
    }

    /// Whether that node may have a certificate for that identity.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn may_certify(
        &self,
        identity: &SpiffeId,
        node: &str,
    ) -> Result<(), CertificateDenied> {
        self.lock().index.authorize_certificate(identity, node)
    }

    /// What is thought of a route.
    pub(crate) fn judgement(&self, route: &RouteKey) -> Option<Arc<RouteStatus>> {
        self.lock().index.route_status(route).cloned()
    }

    /// Routes whose status may have to be written.
    pub(crate) fn route_news(&self) -> &RouteNews {
        &self.route_news
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

    /// What is wrong: files or objects that can't be used, and objects left out because
    /// of others.
    pub(crate) fn errors(&self) -> (BTreeMap<String, String>, Vec<String>) {
        let inner = self.lock();
        let mut broken = inner.broken_files.clone();
        if let Captures::Pods { problems, .. } = &inner.captures {
            broken.extend(problems.list());
        }
        (broken, inner.conflicts.clone())
    }

    fn take(&self, inner: &mut Inner, events: Vec<Event>) {
        for event in events {
            inner.index.handle_event(event);
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
        let verdicts = inner.index.policy_statuses();
        self.policy_verdicts.send_if_modified(|known| {
            let news = known != verdicts;
            if news {
                *known = Arc::clone(verdicts);
            }
            news
        });
        for route in inner.index.changed_route_statuses() {
            match (&inner.captures, inner.index.route_status(&route)) {
                (Captures::Pods { .. }, Some(_)) => self.route_news.tell(route),
                _ => self.route_news.forget(&route),
            }
        }
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

/// Has the pods' status say what their node does. What follows from it comes back by
/// the watch, to every replica alike.
fn report_to_pods(
    index: &Index,
    writer: &CaptureWriter,
    node: &str,
    reported: &[&(WorkloadUid, Captured)],
    complete: Option<&HashSet<WorkloadUid>>,
) {
    let report = |pod: &PodObject, captured: Captured| {
        let capture = PodCapture {
            pod: pod.key.clone(),
            uid: pod.uid.clone(),
            captured,
        };
        writer.report(node, capture, pod.captured);
    };
    for (uid, captured) in reported {
        match index.pod(uid) {
            Some(pod) => report(pod, captured.clone()),
            None => tracing::debug!(node, %uid, "reported a pod that isn't known (any more)"),
        }
    }
    if let Some(all) = complete {
        let pods = index.pods().filter(|pod| pod.node == node && pod.captured);
        for pod in pods.filter(|pod| !all.contains(&pod.uid)) {
            report(pod, Captured::No);
        }
    }
}

/// How `/agents` names a resource.
fn rejection_key(resource: &Resource) -> String {
    let kind = match &resource.resource {
        Some(resource::Resource::Workload(_)) => ResourceKind::Workload,
        Some(resource::Resource::Service(_)) => ResourceKind::Service,
        Some(resource::Resource::Endpoint(_)) => ResourceKind::Endpoint,
        Some(resource::Resource::Route(_)) => ResourceKind::Route,
        Some(resource::Resource::TrafficPolicy(_)) => ResourceKind::TrafficPolicy,
        Some(resource::Resource::ExternalService(_)) => ResourceKind::ExternalService,
        None => ResourceKind::Unspecified,
    };
    format!("{} {}", kind.as_str_name(), resource.name)
}
