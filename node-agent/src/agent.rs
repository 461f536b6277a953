//! The reconciler: what the control plane says about the pods of this node becomes
//! the case.
//!
//! * [`lifecycle`]: what to do next for one pod (pure)
//! * [`pod`]: the task that does it, one per pod, so that none waits for another
//! * [`capture`]: what capturing one pod takes
//! * [`namespaces`]: network namespaces by name
//! * [`table`]: the state of every pod, to be looked at

pub(crate) mod capture;
pub(crate) mod lifecycle;
pub(crate) mod namespaces;
pub(crate) mod pod;
pub(crate) mod table;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use weft_model::Mesh;
use weft_model::workload::{Workload, WorkloadUid};
use weft_proxy::admin::Readiness;
use weft_proxy::discovery::DiscoveryStatus;

use capture::Capturer;
use lifecycle::Desired;
use pod::PodTask;
use table::{PodPhase, PodTable};

/// The reconciler.
#[derive(Debug)]
pub(crate) struct Agent {
    capturer: Arc<Capturer>,
    discovery: watch::Receiver<DiscoveryStatus>,
    readiness: Arc<Readiness>,
    ready: bool,
    pods: HashMap<WorkloadUid, Pod>,
}

/// Conditions of the agent's readiness. Each stays met once it is: one pod's trouble
/// never takes the node out of service.
pub(crate) const CONFIGURATION: &str = "configuration";
/// Every pod that was to be captured when the configuration came has been tried.
pub(crate) const PODS: &str = "pods";

#[derive(Debug)]
struct Pod {
    desired: watch::Sender<Desired>,
    task: JoinHandle<()>,
}

impl Agent {
    pub(crate) fn new(capturer: Arc<Capturer>) -> Self {
        let discovery = capturer.runtime.discovery();
        let readiness = Arc::clone(&capturer.runtime.readiness);
        readiness.unmet(
            CONFIGURATION,
            "the control plane has not sent everything yet",
        );
        readiness.unmet(PODS, "not every pod has been tried yet");
        Self {
            capturer,
            discovery,
            readiness,
            ready: false,
            pods: HashMap::new(),
        }
    }

    /// Reconciles until `stop` says to stop; then releases every pod and waits for
    /// their connections, no longer than the drain deadline.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut mesh = self.capturer.runtime.node.store.subscribe();
        let mut table = self.capturer.table.subscribe();
        loop {
            mesh.mark_unchanged();
            table.mark_unchanged();
            self.discovery.mark_unchanged();
            let snapshot = self.capturer.runtime.node.store.snapshot();
            self.reconcile(&snapshot);
            self.judge_readiness(&snapshot);
            // The senders of all four outlive this function.
            tokio::select! {
                _ = mesh.changed() => {}
                _ = table.changed() => {}
                _ = self.discovery.changed() => {}
                () = self.capturer.ended.notified() => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        self.stop().await;
    }

    fn reconcile(&mut self, mesh: &Mesh) {
        let node = &self.capturer.runtime.node.name;
        let local = mesh.workloads().filter(|workload| workload.node == *node);
        let local: HashMap<_, _> = local
            .map(|workload| (workload.uid.clone(), workload))
            .collect();
        self.collect_ended();
        for (uid, pod) in &self.pods {
            let desired = local
                .get(uid)
                .map_or(Desired::Gone, |workload| desired(workload));
            pod.desired.send_if_modified(|current| {
                let changed = *current != desired;
                *current = desired;
                changed
            });
        }
        for (uid, workload) in local {
            if !self.pods.contains_key(&uid) {
                let pod = self.start(workload);
                self.pods.insert(uid, pod);
            }
        }
    }

    /// Forgets the pods whose task has ended; one that came back meanwhile is then
    /// started anew.
    fn collect_ended(&mut self) {
        let Self { pods, capturer, .. } = self;
        pods.retain(|uid, pod| {
            let ended = pod.desired.is_closed();
            if ended {
                capturer.forget_pod(uid);
            }
            !ended
        });
    }

    fn start(&self, workload: &Arc<Workload>) -> Pod {
        let phase = if workload.enrolment.is_enrolled() {
            PodPhase::Pending
        } else {
            PodPhase::Outside
        };
        self.capturer.table.set(workload, phase, None);
        let (sender, receiver) = watch::channel(desired(workload));
        let task = PodTask::new(Arc::clone(&self.capturer), Arc::clone(workload), receiver);
        Pod {
            desired: sender,
            task: tokio::spawn(task.run()),
        }
    }

    /// Ready once the whole configuration has come and each pod that it wants
    /// captured was tried. Until then the control plane isn't told what is not
    /// captured, either.
    fn judge_readiness(&mut self, mesh: &Mesh) {
        if self.ready || !self.discovery.borrow().synchronized {
            return;
        }
        self.readiness.met(CONFIGURATION);
        if !every_pod_was_tried(mesh, &self.capturer.runtime.node.name, &self.capturer.table) {
            return;
        }
        self.readiness.met(PODS);
        self.ready = true;
        self.capturer.runtime.captures.complete();
        if let Err(error) = self.capturer.redirect.collect_leftovers() {
            tracing::error!(target: "agent", %error, "could not collect what an earlier agent left");
        }
        tracing::info!(target: "agent", pods = self.pods.len(), "ready");
    }

    async fn stop(self) {
        self.readiness.unmet(PODS, "the agent is stopping");
        let deadline = tokio::time::Instant::now() + self.capturer.drain_deadline;
        tracing::info!(target: "agent", pods = self.pods.len(), "releasing every pod");
        let tasks: Vec<_> = self.pods.into_values().collect();
        for pod in &tasks {
            pod.desired.send_replace(Desired::Stopping {
                pinned: self.capturer.pinned,
            });
        }
        let mut draining = self.capturer.draining.subscribe();
        let drained = async {
            for pod in tasks {
                // An error is a task that panicked; the others still count.
                let _ = pod.task.await;
            }
            let _ = draining.wait_for(|count| *count == 0).await;
        };
        // A moment more than the proxies get, so that they can cut what is left.
        let limit = deadline + Duration::from_secs(3);
        if tokio::time::timeout_at(limit, drained).await.is_err() {
            tracing::warn!(target: "agent", "gave up waiting for pods to be released");
        }
    }
}

fn desired(workload: &Arc<Workload>) -> Desired {
    let workload = Arc::clone(workload);
    if workload.enrolment.is_enrolled() {
        Desired::Enrolled(workload)
    } else {
        Desired::Outside(workload)
    }
}

fn every_pod_was_tried(mesh: &Mesh, node: &str, table: &PodTable) -> bool {
    mesh.workloads()
        .filter(|workload| *workload.node == *node && workload.enrolment.is_enrolled())
        .all(|workload| {
            table
                .phase(&workload.uid)
                .is_some_and(|phase| phase != PodPhase::Pending)
        })
}
