//! Follows the mesh, and keeps a task for each pod of this node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use weft_model::Mesh;
use weft_model::workload::{Workload, WorkloadUid};
use weft_proxy::admin::Readiness;
use weft_proxy::discovery::DiscoveryStatus;

use super::context::NodeContext;
use super::leftovers::{Leftovers, Protection, protection};
use super::phase::PodPhase;
use super::reconcile::{Action, TrackedPod, pods_of_node, reconcile};
use super::state::{Desired, INBOUND_GRACE};
use super::task::PodTask;

/// Conditions of the agent's readiness. Each stays met once it is: one pod's trouble
/// never takes the node out of service.
const CONFIGURATION: &str = "configuration";
/// Every pod that was to be captured when the configuration came has been tried.
const PODS: &str = "pods";

/// A moment more than the proxies get to drain, so that they can cut what is left.
const STOP_MARGIN: Duration = Duration::from_secs(3);

/// Keeps a task for each pod of this node.
#[derive(Debug)]
pub(crate) struct PodController {
    node: Arc<NodeContext>,
    discovery: watch::Receiver<DiscoveryStatus>,
    readiness: Arc<Readiness>,
    is_ready: bool,
    leftovers: Leftovers,
    /// The pods that have a task, each with the wish that it follows.
    pods: BTreeMap<WorkloadUid, watch::Sender<Desired>>,
    tasks: JoinSet<()>,
}

impl PodController {
    /// A controller that knows no pod yet.
    pub(crate) fn new(node: Arc<NodeContext>) -> Self {
        let discovery = node.runtime.discovery();
        let readiness = Arc::clone(&node.runtime.readiness);
        readiness.unmet(
            CONFIGURATION,
            "the control plane has not sent everything yet; /config says why, by \
             control_plane.last_error",
        );
        readiness.unmet(PODS, "not every pod has been tried yet");
        Self {
            node,
            discovery,
            readiness,
            is_ready: false,
            leftovers: Leftovers::OfAnyVersion,
            pods: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Reconciles until `stop` says to stop; then releases every pod, hands the node over, and waits
    /// for their connections, no longer than the drain deadline. What handing over gives is kept
    /// until then.
    pub(crate) async fn run<T>(
        mut self,
        mut stop: watch::Receiver<bool>,
        hand_over: impl AsyncFnOnce() -> T,
    ) {
        let mut mesh = self.node.runtime.node.store.subscribe();
        let mut statuses = self.node.statuses.subscribe();
        loop {
            mesh.mark_unchanged();
            statuses.mark_unchanged();
            self.discovery.mark_unchanged();
            let snapshot = self.node.runtime.node.store.snapshot();
            self.reconcile(&snapshot);
            self.update_readiness(&snapshot);
            self.collect_leftovers(&snapshot);
            // The senders of all four outlive this function.
            tokio::select! {
                _ = mesh.changed() => {}
                _ = statuses.changed() => {}
                _ = self.discovery.changed() => {}
                Some(_) = self.tasks.join_next() => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        self.stop(hand_over).await;
    }

    fn reconcile(&mut self, mesh: &Mesh) {
        let wanted = pods_of_node(mesh.workloads(), &self.node.runtime.node.name);
        for action in reconcile(&wanted, &self.tracked()) {
            match action {
                Action::Forget(uid) => {
                    self.pods.remove(&uid);
                    self.node.runtime.captures.release(&uid);
                    self.node.statuses.remove(&uid);
                }
                Action::SetDesired(uid, desired) => {
                    if let Some(pod) = self.pods.get(&uid) {
                        pod.send_replace(desired);
                    }
                }
                Action::Start(workload) => self.start(&workload),
            }
        }
    }

    fn tracked(&self) -> BTreeMap<WorkloadUid, TrackedPod> {
        let tracked = self.pods.iter().map(|(uid, pod)| {
            let pod = TrackedPod {
                desired: pod.borrow().clone(),
                // Its task has dropped the other end.
                has_ended: pod.is_closed(),
            };
            (uid.clone(), pod)
        });
        tracked.collect()
    }

    fn start(&mut self, workload: &Arc<Workload>) {
        let (sender, receiver) = watch::channel(Desired::for_workload(workload));
        let task = PodTask::new(Arc::clone(&self.node), Arc::clone(workload), receiver);
        self.pods.insert(workload.uid.clone(), sender);
        self.tasks.spawn(task.run());
    }

    /// Ready once the whole configuration has come and each pod that it wants
    /// captured was tried. Until then the control plane isn't told what is not
    /// captured, either.
    fn update_readiness(&mut self, mesh: &Mesh) {
        if self.is_ready || !self.discovery.borrow().synchronized {
            return;
        }
        self.readiness.met(CONFIGURATION);
        let node = &self.node;
        let mut enrolled = mesh.workloads().filter(|workload| {
            *workload.node == *node.runtime.node.name && workload.is_for_node_agent()
        });
        let is_tried = |workload: &Arc<Workload>| {
            let phase = node.statuses.phase(&workload.uid);
            phase.is_some_and(|phase| phase != PodPhase::Pending)
        };
        if !enrolled.all(is_tried) {
            return;
        }
        self.readiness.met(PODS);
        self.is_ready = true;
        node.runtime.captures.complete();
        tracing::info!(target: "agent", pods = self.pods.len(), "ready");
    }

    /// Takes away what earlier agents left, once nothing of it can belong to a pod that may not
    /// be open: such a pod is refused or captured by this agent first, however long that takes.
    fn collect_leftovers(&mut self, mesh: &Mesh) {
        if !self.is_ready {
            return;
        }
        let node = &self.node;
        let of_pod = |uid: &WorkloadUid| {
            Protection::of_pod(node.statuses.phase(uid), node.statuses.is_refused(uid))
        };
        let found = protection(mesh.workloads(), &node.runtime.node.name, of_pod);
        let before = self.leftovers;
        self.leftovers = before.after(found);
        let mut result = Ok(());
        if before == Leftovers::OfAnyVersion && self.leftovers != before {
            result = result.and(node.redirect.remove_other_versions());
        }
        if before != Leftovers::None && self.leftovers == Leftovers::None {
            result = result.and(node.redirect.remove_leftovers());
        }
        if let Err(error) = result {
            tracing::error!(target: "agent", %error, "could not collect what an earlier agent left");
        }
    }

    async fn stop<T>(mut self, hand_over: impl AsyncFnOnce() -> T) {
        self.readiness.unmet(PODS, "the agent is stopping");
        let settings = self.node.settings;
        let limit = tokio::time::Instant::now() + settings.drain_deadline + STOP_MARGIN;
        tracing::info!(target: "agent", pods = self.pods.len(), "releasing every pod");
        let released = async {
            self.tell_to_stop().await;
            let mut is_sound = true;
            while let Some(ended) = self.tasks.join_next().await {
                // The others still count.
                is_sound &= ended.is_ok();
            }
            self.node.accepting.close();
            self.node.accepting.wait().await;
            let _handed_over = match is_sound {
                true => Some(hand_over().await),
                false => {
                    tracing::error!(target: "agent", "a pod's task has failed; a successor takes over once all connections have ended");
                    None
                }
            };
            self.node.drains.close();
            self.node.drains.wait().await;
        };
        if tokio::time::timeout_at(limit, released).await.is_err() {
            tracing::warn!(target: "agent", "gave up waiting for pods to be released");
        }
    }

    /// Those that are left refused are served until the others have left the mesh, which takes its
    /// time: then nothing keeps a successor from taking them over.
    async fn tell_to_stop(&self) {
        let is_pinned = self.node.settings.is_pinned;
        let is_left_refused = |pod: &&watch::Sender<Desired>| {
            let desired = pod.borrow();
            let workload = desired.workload();
            is_pinned && workload.is_some_and(|pod| pod.refused_uncaptured().is_some())
        };
        let (last, first): (Vec<_>, Vec<_>) = self.pods.values().partition(is_left_refused);
        let tell = |pods: &[&watch::Sender<Desired>]| {
            for pod in pods {
                pod.send_replace(Desired::Stopping { is_pinned });
            }
        };
        tell(&first);
        let left = async {
            for pod in &first {
                // Its task has dropped the other end.
                pod.closed().await;
            }
        };
        let longest = INBOUND_GRACE + STOP_MARGIN;
        if tokio::time::timeout(longest, left).await.is_err() {
            tracing::warn!(target: "agent", "pods take long to leave the mesh");
        }
        tell(&last);
    }
}
