//! Captured pods in the pods' own status: the condition `weft.dev/Captured`. It is how
//! every replica of the control plane knows what one of them was told by an agent, and how
//! it outlives all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{ApiResource, Patch};
use serde_json::json;
use weft_model::NamespacedName;
use weft_model::workload::WorkloadUid;

use super::node_labels::NodeLabels;
use super::report::{CaptureReport, PodCaptureState};
use super::store::CaptureStore;
use crate::cluster::{Cluster, PodStatus};
use crate::kinds::{CAPTURED_CONDITION, KindObject, NOT_IN_MESH, ObjectKey, PodObject};
use crate::notices::{Notice, Notices};
use crate::status::{Outcome, StatusPatch, StatusQueue, write_queued};

/// A pod, and the state that its condition should say.
#[derive(Clone, Debug, Eq, PartialEq)]
struct CapturedPod {
    name: NamespacedName,
    uid: WorkloadUid,
    /// It isn't ready before its condition is True.
    has_gate: bool,
    /// Its proxy is its sidecar, and not its node's agent.
    is_sidecar: bool,
    state: PodCaptureState,
}

/// The reason of the condition of a pod that its sidecar has captured.
const SIDECAR: &str = "Sidecar";

/// The condition `weft.dev/Captured` of a pod, without its time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct CapturedCondition<'a> {
    pub(super) status: bool,
    pub(super) reason: &'a str,
    pub(super) message: &'a str,
}

/// The message of a pod with the readiness gate that has left the mesh.
pub(super) const LEFT: &str = "the pod is not in the mesh, so its readiness doesn't wait for it";

impl CapturedCondition<'_> {
    /// The write of it, where one is given against that version of the pod.
    pub(super) fn patch(
        self,
        pod: &NamespacedName,
        uid: &WorkloadUid,
        version: Option<&str>,
    ) -> StatusPatch {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        // With the UID, a new pod of this name is a conflict.
        let mut metadata = json!({ "name": pod.name, "uid": uid.as_str() });
        if let Some(version) = version {
            metadata["resourceVersion"] = version.into();
        }
        let patch = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "status": { "conditions": [{
                "type": CAPTURED_CONDITION,
                "status": if self.status { "True" } else { "False" },
                "reason": self.reason,
                "message": self.message,
                "lastTransitionTime": now.to_string(),
            }] },
        });
        StatusPatch {
            resource: ApiResource::erase::<Pod>(&()),
            name: pod.clone(),
            patch: Patch::Apply(patch),
        }
    }
}

type Queue = StatusQueue<WorkloadUid, CapturedPod>;

/// States that were reported, by node and pod.
type Reported = HashMap<String, HashMap<WorkloadUid, PodCaptureState>>;

/// The store of a cluster. What follows from a condition comes back by the watch, to every
/// replica alike.
#[derive(Debug)]
pub(crate) struct PodStatusStore {
    cluster: Arc<Cluster>,
    queue: Arc<Queue>,
    /// Over the present stream of each node. The API server's view lags behind that.
    reported: Mutex<Reported>,
    node_labels: NodeLabels,
}

impl PodStatusStore {
    /// Writes in the background. Needs a running tokio runtime.
    pub(crate) fn start(client: Client, cluster: Arc<Cluster>, notices: Notices) -> Self {
        let store = Self::new(cluster);
        store.node_labels.start(client.clone());
        tokio::spawn(write_conditions(Arc::clone(&store.queue), client, notices));
        store
    }

    fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            cluster,
            queue: Arc::default(),
            reported: Mutex::default(),
            node_labels: NodeLabels::default(),
        }
    }

    /// Writes a pod's condition unless that is how it was reported before, or else how the
    /// API server has it.
    fn report(&self, node: &str, pod: PodStatus, state: PodCaptureState) {
        let PodStatus {
            name,
            uid,
            captured,
            has_gate,
            is_sidecar,
            ..
        } = pod;
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let of_node = reported.entry(node.to_owned()).or_default();
        let before = of_node.insert(uid.clone(), state.clone());
        let is_news = match (before, &state) {
            (Some(before), now) => before != *now,
            (None, PodCaptureState::Captured) => !captured,
            (None, PodCaptureState::Released) => captured,
            (None, PodCaptureState::Failed(_)) => true,
        };
        if is_news {
            // Under the lock, so that the latest report is what is written last.
            let pod = CapturedPod {
                name,
                uid,
                has_gate,
                is_sidecar,
                state,
            };
            self.queue.push(pod.uid.clone(), pod);
        }
    }
}

impl CaptureStore for PodStatusStore {
    fn stream_opened(&self, node: &str) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        reported.remove(node);
    }

    fn node_tried(&self, node: &str, can_capture: bool) {
        self.node_labels.set(&self.cluster, node, can_capture);
    }

    fn sidecar_stream_opened(&self, node: &str, pod: &WorkloadUid) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_node) = reported.get_mut(node) {
            of_node.remove(pod);
        }
    }

    fn record(&self, report: &CaptureReport) {
        let node = &report.node;
        for (uid, state) in &report.pods {
            match self.cluster.pod_status(uid) {
                // It has become known since the report was looked through.
                Some(pod) if pod.node != *node => {
                    tracing::warn!(node, %uid, "reported a pod of another node; ignored");
                }
                Some(pod) => self.report(node, pod, state.clone()),
                None => tracing::debug!(node, %uid, "reported a pod that isn't known (any more)"),
            }
        }
        if let Some(all) = &report.complete {
            let pods = self.cluster.captured_pods(node).into_iter();
            for pod in pods.filter(|pod| !all.contains(&pod.uid)) {
                self.report(node, pod, PodCaptureState::Released);
            }
        }
    }
}

async fn write_conditions(queue: Arc<Queue>, client: Client, notices: Notices) {
    let write = |_, pod: CapturedPod| {
        let (client, notices) = (client.clone(), notices.clone());
        async move {
            let outcome = pod.patch().write(&client).await;
            if outcome == Outcome::Written {
                notices.tell(pod.notice());
            }
            outcome
        }
    };
    write_queued(&queue, write).await;
}

impl CapturedPod {
    fn patch(&self) -> StatusPatch {
        let (status, reason, message) = match (&self.state, self.has_gate) {
            (PodCaptureState::Captured, _) if self.is_sidecar => (true, SIDECAR, ""),
            (PodCaptureState::Captured, _) => (true, "Captured", ""),
            (PodCaptureState::Released, false) => (false, "Released", ""),
            // Its readiness must not wait for what it has left.
            (PodCaptureState::Released, true) => (true, NOT_IN_MESH, LEFT),
            (PodCaptureState::Failed(why), _) => (false, "CaptureFailed", why.as_str()),
        };
        let condition = CapturedCondition {
            status,
            reason,
            message,
        };
        condition.patch(&self.name, &self.uid, None)
    }

    fn notice(&self) -> Notice {
        let (is_warning, reason, note) = match &self.state {
            PodCaptureState::Captured => (false, "Captured", "The pod is in the mesh".to_owned()),
            PodCaptureState::Released => {
                (false, "Released", "The pod has left the mesh".to_owned())
            }
            PodCaptureState::Failed(why) => (true, "CaptureFailed", why.clone()),
        };
        Notice {
            object: ObjectKey {
                kind: PodObject::KIND,
                name: self.name.clone(),
            },
            uid: Some(self.uid.to_string()),
            is_warning,
            reason,
            note,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Object;
    use crate::source::manifest::parse;
    use crate::source::{Event, Origin};

    /// A store beside a cluster with these pods of node `n`, captured or not.
    fn store_with(pods: &[(&str, bool)]) -> PodStatusStore {
        let cluster = Cluster::of_directory();
        let event = |(number, (name, captured)): (usize, &(&str, bool))| {
            let pod = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: shop, uid: {name} }}\n\
                 spec: {{ nodeName: n, containers: [] }}\nstatus: {{ podIP: 10.0.0.{number} }}\n"
            );
            let mut object = parse(&pod).unwrap().remove(0);
            if let Object::Pod(pod) = &mut object {
                pod.captured = *captured;
            }
            Event::Applied(Origin::new(), object)
        };
        cluster.apply_events(pods.iter().enumerate().map(event).collect());
        PodStatusStore::new(Arc::new(cluster))
    }

    #[test]
    fn a_report_becomes_one_write_a_pod_that_is_known() {
        let store = store_with(&[("web", false), ("api", true), ("old", true)]);
        let captured = |uid: &str| (WorkloadUid::from(uid), PodCaptureState::Captured);
        let report = CaptureReport {
            node: "n".into(),
            pods: vec![captured("web"), captured("api"), captured("gone")],
            complete: Some(["web", "api"].map(WorkloadUid::from).into()),
        };
        store.record(&report);
        let written = || {
            store
                .queue
                .pop(|_| true)
                .map(|(_, pod)| (pod.name, pod.state))
        };
        let written: Vec<_> = std::iter::from_fn(written).collect();
        let pod = |name: &str| NamespacedName::new("shop", name);
        let expected = [
            (pod("web"), PodCaptureState::Captured),
            (pod("old"), PodCaptureState::Released),
        ];
        assert_eq!(written, expected);
    }

    #[test]
    fn a_pod_that_turns_out_to_be_of_another_node_is_not_written() {
        let store = store_with(&[("web", false)]);
        store.record(&CaptureReport {
            node: "stolen".into(),
            pods: vec![("web".into(), PodCaptureState::Captured)],
            complete: None,
        });
        assert_eq!(next(&store), None);
    }

    fn store() -> PodStatusStore {
        PodStatusStore::new(Arc::new(Cluster::of_directory()))
    }

    fn report(store: &PodStatusStore, state: PodCaptureState, captured: bool) {
        let pod = PodStatus {
            name: NamespacedName::new("shop", "web"),
            uid: WorkloadUid::from("1"),
            node: "n".into(),
            captured,
            has_gate: false,
            is_sidecar: false,
        };
        store.report("n", pod, state);
    }

    /// The next write, by what it says.
    fn next(store: &PodStatusStore) -> Option<PodCaptureState> {
        store.queue.pop(|_| true).map(|(_, pod)| pod.state)
    }

    #[test]
    fn what_the_api_server_says_already_is_not_written() {
        let store = store();
        report(&store, PodCaptureState::Captured, true);
        assert_eq!(next(&store), None);
        report(&store, PodCaptureState::Released, true);
        assert_eq!(next(&store), Some(PodCaptureState::Released));
    }

    #[test]
    fn a_report_counts_more_than_what_the_api_server_still_says() {
        let store = store();
        report(&store, PodCaptureState::Captured, false);
        assert_eq!(next(&store), Some(PodCaptureState::Captured));
        // Not written yet, so the API server says no; but the next must not be lost.
        report(&store, PodCaptureState::Released, false);
        assert_eq!(next(&store), Some(PodCaptureState::Released));
    }

    #[test]
    fn after_a_new_stream_the_api_server_counts_again() {
        let store = store();
        report(&store, PodCaptureState::Captured, false);
        assert!(next(&store).is_some());
        report(&store, PodCaptureState::Captured, false);
        assert_eq!(next(&store), None);
        store.stream_opened("n");
        report(&store, PodCaptureState::Captured, false);
        assert!(next(&store).is_some());
    }

    #[test]
    fn a_pod_with_the_readiness_gate_stays_ready_when_it_leaves() {
        let pod = |has_gate| CapturedPod {
            name: NamespacedName::new("shop", "web"),
            uid: WorkloadUid::from("1"),
            has_gate,
            is_sidecar: false,
            state: PodCaptureState::Released,
        };
        for (has_gate, status, reason) in
            [(false, "False", "Released"), (true, "True", NOT_IN_MESH)]
        {
            let Patch::Apply(patch) = pod(has_gate).patch().patch else {
                panic!()
            };
            let condition = &patch["status"]["conditions"][0];
            assert_eq!(condition["status"], status);
            assert_eq!(condition["reason"], reason);
        }
    }

    #[test]
    fn a_condition_says_who_has_captured_a_pod() {
        for (is_sidecar, reason) in [(false, "Captured"), (true, "Sidecar")] {
            let pod = CapturedPod {
                name: NamespacedName::new("shop", "web"),
                uid: WorkloadUid::from("1"),
                has_gate: true,
                is_sidecar,
                state: PodCaptureState::Captured,
            };
            let Patch::Apply(patch) = pod.patch().patch else {
                panic!()
            };
            let condition = &patch["status"]["conditions"][0];
            assert_eq!(condition["status"], "True");
            assert_eq!(condition["reason"], reason);
        }
    }

    #[test]
    fn each_new_reason_of_a_failure_is_told() {
        let store = store();
        for why in ["no namespace", "no certificate"] {
            let failed = PodCaptureState::Failed(why.to_owned());
            report(&store, failed.clone(), false);
            assert_eq!(next(&store), Some(failed.clone()), "{why}");
            report(&store, failed, false);
            assert_eq!(next(&store), None, "{why}");
        }
    }
}
