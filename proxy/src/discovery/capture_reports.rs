//! Which pods of this node are captured, on their way to the control plane.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use weft_model::workload::WorkloadUid;
use weft_proto::v1;

/// How capturing one pod went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PodCaptureState {
    /// Its connections go through the proxy, both ways.
    Captured,
    /// It should be captured and isn't; why.
    Failed(Arc<str>),
}

/// The capture state of every pod that the agent has dealt with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CapturedPods {
    /// By pod. A pod that isn't listed is not captured.
    pub pods: BTreeMap<WorkloadUid, PodCaptureState>,
    /// Every pod that the agent knows has been tried, so pods that aren't listed
    /// are known not to be captured.
    pub complete: bool,
    /// Another agent reports from now on.
    pub handed_over: bool,
}

/// Where the agent states what it captures; the discovery client reports it.
/// Stating the same twice is harmless. Cloning shares it.
#[derive(Clone, Debug)]
pub struct CaptureReports(watch::Sender<CapturedPods>);

impl Default for CaptureReports {
    fn default() -> Self {
        Self(watch::Sender::new(CapturedPods::default()))
    }
}

impl CaptureReports {
    /// States how capturing a pod went.
    pub fn set(&self, pod: &WorkloadUid, capture: PodCaptureState) {
        self.0.send_if_modified(|captures| {
            captures.pods.insert(pod.clone(), capture.clone()).as_ref() != Some(&capture)
        });
    }

    /// States that a pod is not captured any more, or no longer wanted.
    pub fn release(&self, pod: &WorkloadUid) {
        self.0
            .send_if_modified(|captures| captures.pods.remove(pod).is_some());
    }

    /// States that every pod known so far has been tried.
    pub fn complete(&self) {
        self.0
            .send_if_modified(|captures| !std::mem::replace(&mut captures.complete, true));
    }

    /// States nothing any more: another agent of the node does. What was stated stays.
    pub fn hand_over(&self) {
        self.0
            .send_if_modified(|captures| !std::mem::replace(&mut captures.handed_over, true));
    }

    /// What has been stated so far, and notice of what comes.
    pub fn subscribe(&self) -> watch::Receiver<CapturedPods> {
        self.0.subscribe()
    }
}

/// What to tell the control plane when it knows `sent` and `now` is the case.
/// None when there is nothing to tell.
pub(super) fn report(sent: &CapturedPods, now: &CapturedPods) -> Option<v1::CaptureReport> {
    if now.handed_over {
        return None;
    }
    let changed = now
        .pods
        .iter()
        .filter(|(pod, state)| sent.pods.get(pod) != Some(state));
    let changed = changed.map(|(pod, state)| pod_capture(pod, Some(state)));
    let released = sent.pods.keys().filter(|pod| !now.pods.contains_key(pod));
    let released = released.map(|pod| pod_capture(pod, None));
    let pods: Vec<_> = changed.chain(released).collect();
    let complete = now.complete && !sent.complete;
    (complete || !pods.is_empty()).then_some(v1::CaptureReport { pods, complete })
}

fn pod_capture(pod: &WorkloadUid, state: Option<&PodCaptureState>) -> v1::PodCapture {
    let (state, reason) = match state {
        Some(PodCaptureState::Captured) => (v1::CaptureState::Captured, String::new()),
        Some(PodCaptureState::Failed(reason)) => (v1::CaptureState::Failed, reason.to_string()),
        None => (v1::CaptureState::Released, String::new()),
    };
    v1::PodCapture {
        workload_uid: pod.to_string(),
        state: state as i32,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(name: &str) -> WorkloadUid {
        WorkloadUid::from(name)
    }

    #[test]
    fn a_new_stream_gets_everything_and_then_only_differences() {
        let reports = CaptureReports::default();
        reports.set(&uid("a"), PodCaptureState::Captured);
        reports.set(&uid("b"), PodCaptureState::Failed("no namespace".into()));
        let first = reports.subscribe().borrow().clone();
        let full = report(&CapturedPods::default(), &first).unwrap();
        assert_eq!((full.pods.len(), full.complete), (2, false));
        assert_eq!(full.pods[1].reason, "no namespace");

        reports.complete();
        reports.set(&uid("b"), PodCaptureState::Captured);
        reports.release(&uid("a"));
        let second = reports.subscribe().borrow().clone();
        let delta = report(&first, &second).unwrap();
        assert!(delta.complete);
        let states: Vec<_> = delta
            .pods
            .iter()
            .map(|pod| (pod.workload_uid.as_str(), pod.state()))
            .collect();
        assert_eq!(
            states,
            [
                ("b", v1::CaptureState::Captured),
                ("a", v1::CaptureState::Released)
            ]
        );
        assert_eq!(report(&second, &second), None);
    }

    #[test]
    fn whoever_has_handed_over_reports_nothing_over_a_new_stream_either() {
        let reports = CaptureReports::default();
        reports.set(&uid("a"), PodCaptureState::Captured);
        reports.complete();
        let before = reports.subscribe().borrow().clone();
        reports.hand_over();
        reports.release(&uid("a"));
        let after = reports.subscribe().borrow().clone();
        assert_eq!(report(&before, &after), None);
        assert_eq!(report(&CapturedPods::default(), &after), None);
    }

    #[test]
    fn stating_the_same_again_wakes_nobody() {
        let reports = CaptureReports::default();
        reports.set(&uid("a"), PodCaptureState::Captured);
        let mut receiver = reports.subscribe();
        receiver.mark_unchanged();
        reports.set(&uid("a"), PodCaptureState::Captured);
        reports.release(&uid("unknown"));
        assert!(!receiver.has_changed().unwrap());
    }
}
