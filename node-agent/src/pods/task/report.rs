//! A pod's task says what is the case: in the log, in the pod's status, and to the control plane.

use std::sync::Arc;
use std::time::Duration;

use weft_proxy::discovery::PodCaptureState;

use super::{PodTask, State};
use crate::earlier_connections::EarlierConnections;
use crate::namespaces::NamespaceLocation;
use crate::pods::claimed_pod::ClaimedPod;
use crate::pods::phase::{CaptureAttempt, PodPhase};
use crate::pods::state::{Desired, EnrolledAs};
use crate::pods::status::PodStatus;
use crate::redirect::RedirectError;

impl PodTask {
    /// Says how the pod's connections from before have ended.
    pub(super) fn report_earlier(&mut self, result: std::io::Result<EarlierConnections>) {
        let (pod, namespace) = (&self.workload.name, self.workload.namespace());
        match result {
            Ok(EarlierConnections { ended, left }) => {
                self.unprotected = left;
                if ended + left > 0 {
                    tracing::warn!(target: "agent", %pod, namespace, ended, left, "connections from before the capture have been ended; those that are left go on past the proxy");
                }
            }
            Err(error) => {
                tracing::error!(target: "agent", %pod, namespace, %error, unprotected = true, "can't look for connections from before the capture");
            }
        }
    }

    /// The time for which a pod is open that the kernel doesn't know. One that is described by the
    /// name of its namespace has no process that would tell.
    pub(super) fn open_for(&self, pod: &ClaimedPod) -> Option<Duration> {
        let location = NamespaceLocation::for_workload(&self.workload);
        let age = self.node.namespaces.age(&location);
        age.filter(|_| !pod.is_taken_over())
    }

    /// Keeps for how long a pod was open that is refused now.
    pub(super) fn note_open_moment(&mut self, open_for: Option<Duration>) {
        if let Some(open_for) = open_for.filter(|_| self.is_refused()) {
            self.open_for = Some(open_for);
            tracing::debug!(target: "agent", pod = %self.workload.name, ?open_for, "open until it was found");
        }
    }

    /// A refusal that isn't complete is tried again when an attempt to capture the pod has failed.
    pub(super) fn report_enforcement(&self, result: Result<(), RedirectError>) {
        if let Err(error) = result {
            tracing::error!(
                target: "agent",
                pod = %self.workload.name,
                namespace = self.workload.namespace(),
                unprotected = !self.is_refused(),
                %error,
                "a part of the pod's connections can't be refused",
            );
        }
    }

    /// Says that the pod is captured.
    pub(super) fn report_captured(&self) {
        let captures = &self.node.runtime.captures;
        captures.set(&self.uid, PodCaptureState::Captured);
        self.log("captured");
    }

    /// Says that an attempt failed, once for each reason.
    pub(super) fn report_failure(&mut self, desired: &Desired, reason: &str) {
        if self
            .attempt
            .failure()
            .is_some_and(|known| **known == *reason)
        {
            return;
        }
        let reason: Arc<str> = reason.into();
        self.attempt = CaptureAttempt::Failed(Arc::clone(&reason));
        let phase = self.publish_status(desired);
        let has_failed = phase == PodPhase::Failed;
        if has_failed {
            let state = PodCaptureState::Failed(Arc::clone(&reason));
            self.node.runtime.captures.set(&self.uid, state);
        }
        let is_open = !self.is_refused() && !matches!(self.state, State::Captured(_));
        let may_be_open = self.workload.refused_uncaptured().is_none();
        tracing::error!(
            target: "agent",
            pod = %self.workload.name,
            namespace = self.workload.namespace(),
            state = phase.as_str(),
            unprotected = is_open && !may_be_open && has_failed,
            reason = &*reason,
            "trouble with a pod; trying again",
        );
    }

    /// A refusal of which a part can't be done is none.
    fn is_refused(&self) -> bool {
        matches!(&self.state, State::Enforced(pod) if pod.is_refused())
    }

    /// Makes the pod's status be what is the case.
    pub(super) fn publish_status(&self, desired: &Desired) -> PodPhase {
        let phase = PodPhase::derive(self.state.name(), desired, &self.attempt);
        let workload = match &self.state {
            State::Captured(pod) | State::Leaving { pod, .. } => pod.workload(),
            State::Untouched | State::Outside(_) | State::Enforced(_) => &self.workload,
        };
        let reason = self.attempt.failure().cloned();
        let status = PodStatus {
            refused: self.is_refused(),
            unprotected_connections: self.unprotected,
            open_milliseconds: self
                .open_for
                .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            ..PodStatus::new(workload, phase, reason)
        };
        self.node.statuses.set(&workload.uid, status);
        phase
    }

    pub(super) fn log(&self, what: &str) {
        tracing::info!(
            target: "agent",
            pod = %self.workload.name,
            namespace = self.workload.namespace(),
            identity = %self.workload.identity,
            mtls_mode = %self.workload.mtls_mode,
            "{what}",
        );
    }
}
