//! One pod of this node: does step after step until what is wanted is the case.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use weft_model::SpiffeId;
use weft_model::mtls::MtlsMode;
use weft_model::workload::{Workload, WorkloadUid};
use weft_proxy::control_plane::Backoff;
use weft_proxy::discovery::PodCaptureState;
use weft_proxy::identity::IdentityInUse;

use super::captured_pod::CapturedPod;
use super::context::NodeContext;
use super::error::CaptureError;
use super::outside_pod::OutsidePod;
use super::phase::{CaptureAttempt, PodPhase};
use super::state::{Desired, INBOUND_GRACE, PodState, Step};
use crate::namespaces::{NamespaceIdentity, NamespaceLocation};

/// Shortest and longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

type State = PodState<OutsidePod, Box<CapturedPod>>;

/// The one task that looks after a pod.
#[derive(Debug)]
pub(crate) struct PodTask {
    node: Arc<NodeContext>,
    uid: WorkloadUid,
    /// The pod as last heard of: its namespace is looked for by this.
    workload: Arc<Workload>,
    desired: watch::Receiver<Desired>,
    namespaces: watch::Receiver<()>,
    state: State,
    /// The last attempt at what is wanted.
    attempt: CaptureAttempt,
    /// Kept between attempts, so that the certificate comes meanwhile.
    identity: Option<(SpiffeId, Arc<IdentityInUse>)>,
    backoff: Backoff,
    /// Its namespace was looked for eagerly already.
    is_expected: bool,
}

impl PodTask {
    /// A task for a pod for which nothing was done yet. It has a status from now on.
    pub(crate) fn new(
        node: Arc<NodeContext>,
        workload: Arc<Workload>,
        desired: watch::Receiver<Desired>,
    ) -> Self {
        let task = Self {
            namespaces: node.namespaces.subscribe(),
            node,
            uid: workload.uid.clone(),
            workload,
            desired,
            state: State::Untouched,
            attempt: CaptureAttempt::None,
            identity: None,
            backoff: Backoff::new(RETRY.0, RETRY.1),
            is_expected: false,
        };
        let desired = task.desired.borrow().clone();
        task.publish_status(&desired);
        task
    }

    /// Runs until nothing is left of the pod.
    pub(crate) async fn run(mut self) {
        let mut previous = None;
        loop {
            let desired = self.desired.borrow_and_update().clone();
            if let Some(workload) = desired.workload() {
                self.workload = Arc::clone(workload);
            }
            if let Desired::Enrolled(workload) = &desired {
                // So that the certificate is there when the namespace is.
                self.use_identity(&workload.identity);
            }
            self.namespaces.mark_unchanged();
            let location = NamespaceLocation::for_workload(&self.workload);
            let found = self.node.namespaces.find(&location);
            let kind = Some(mem::discriminant(&desired));
            if mem::replace(&mut previous, kind) != kind
                || (found.is_some() && self.attempt == CaptureAttempt::AwaitsNamespace)
            {
                self.attempt = CaptureAttempt::None;
            }
            let step = self.state.next_step(&desired, found, Instant::now());
            if step == Step::Idle {
                self.attempt = CaptureAttempt::None;
            }
            self.publish_status(&desired);
            match step {
                Step::Finish => return,
                Step::Idle => self.wait(None).await,
                Step::AwaitGrace(until) => self.wait(Some(until)).await,
                Step::AwaitNamespace => self.await_namespace(&desired, &location).await,
                _ => self.perform(step, &desired, found).await,
            }
        }
    }

    /// Does a step that leads to a state.
    async fn perform(&mut self, step: Step, desired: &Desired, found: Option<NamespaceIdentity>) {
        let state = mem::replace(&mut self.state, State::Untouched);
        let result = match (step, state, found) {
            (Step::Capture, State::Untouched, Some(found)) => self.capture(found).await,
            (Step::MarkOutside, State::Untouched, Some(found)) => self.mark_outside(found),
            (Step::Update, State::Captured(pod), _) => self.update(pod),
            (Step::Resume, State::Leaving { pod, until }, _) => self.resume(pod, until),
            (Step::StopOutbound, State::Captured(pod), _) => self.stop_outbound(pod),
            (Step::Release, State::Captured(pod) | State::Leaving { pod, .. }, _) => {
                self.release(*pod)
            }
            (Step::LeaveEnforced, State::Captured(pod), _) => {
                pod.leave_enforced(&self.node);
                Ok(())
            }
            (Step::UnmarkOutside, State::Outside(pod), _) => pod.unmark(&self.node),
            // The steps that wait, and what `next_step` never says.
            (_, state, _) => {
                self.state = state;
                Ok(())
            }
        };
        match result {
            Ok(()) => {
                debug_assert_eq!(step.target(), Some(self.state.name()), "after {step:?}");
                self.attempt = CaptureAttempt::None;
                self.backoff.reset();
            }
            Err(error) if error.is_momentary() => self.wait(None).await,
            Err(error) => {
                self.report_failure(desired, &error.to_string());
                self.wait_to_retry().await;
            }
        }
    }

    async fn capture(&mut self, found: NamespaceIdentity) -> Result<(), CaptureError> {
        let workload = Arc::clone(&self.workload);
        let identity = self.use_identity(&workload.identity);
        let pod = tokio::select! {
            pod = CapturedPod::capture(&self.node, &workload, found, identity) => pod?,
            // What was begun is dropped.
            _ = self.desired.changed() => {
                self.desired.mark_changed();
                return Err(CaptureError::Superseded);
            }
        };
        self.state = State::Captured(Box::new(pod));
        self.report_captured();
        Ok(())
    }

    fn use_identity(&mut self, wanted: &SpiffeId) -> Arc<IdentityInUse> {
        match &self.identity {
            Some((identity, in_use)) if identity == wanted => Arc::clone(in_use),
            _ => {
                let in_use = Arc::new(self.node.runtime.certificates.use_identity(wanted));
                self.identity = Some((wanted.clone(), Arc::clone(&in_use)));
                in_use
            }
        }
    }

    fn update(&mut self, mut pod: Box<CapturedPod>) -> Result<(), CaptureError> {
        let result = pod.update(&self.workload);
        self.state = State::Captured(pod);
        if result.is_ok() {
            self.log("updated");
        }
        result
    }

    fn resume(&mut self, mut pod: Box<CapturedPod>, until: Instant) -> Result<(), CaptureError> {
        if let Err(error) = pod.update(&self.workload) {
            self.state = State::Leaving { pod, until };
            return Err(error);
        }
        self.state = State::Captured(pod);
        self.report_captured();
        Ok(())
    }

    /// Peers are told in any case, and the pod leaves in any case: a kernel that
    /// doesn't let go of outbound connections does so at the release.
    fn stop_outbound(&mut self, mut pod: Box<CapturedPod>) -> Result<(), CaptureError> {
        let result = pod.stop_outbound();
        self.node.runtime.captures.release(&self.uid);
        let until = Instant::now() + INBOUND_GRACE;
        self.state = State::Leaving { pod, until };
        self.identity = None;
        self.log("leaving: its own connections go out directly, others are still served");
        result
    }

    fn release(&self, pod: CapturedPod) -> Result<(), CaptureError> {
        self.log("not captured any more");
        pod.release(&self.node);
        self.node.runtime.captures.release(&self.uid);
        Ok(())
    }

    fn mark_outside(&mut self, found: NamespaceIdentity) -> Result<(), CaptureError> {
        let pod = OutsidePod::mark(&self.node, &self.workload, found)?;
        self.state = State::Outside(pod);
        Ok(())
    }

    async fn await_namespace(&mut self, desired: &Desired, location: &NamespaceLocation) {
        if !mem::replace(&mut self.is_expected, true) {
            self.node.namespaces.expect_pod();
        }
        if let Desired::Enrolled(_) = desired {
            match location {
                NamespaceLocation::Named(_) => {
                    let reason = format!("there is no network namespace {location}");
                    self.report_failure(desired, &reason);
                }
                // A pod that was just scheduled has none for a while.
                NamespaceLocation::OfPod(_) => {
                    self.attempt = CaptureAttempt::AwaitsNamespace;
                    self.publish_status(desired);
                }
            }
        }
        self.wait(None).await;
    }

    /// Says that the pod is captured.
    fn report_captured(&self) {
        let captures = &self.node.runtime.captures;
        captures.set(&self.uid, PodCaptureState::Captured);
        self.log("captured");
    }

    /// Says that an attempt failed, once for each reason.
    fn report_failure(&mut self, desired: &Desired, reason: &str) {
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
        let is_strict = self.workload.mtls_mode == MtlsMode::Strict;
        tracing::error!(
            target: "agent",
            pod = %self.workload.name,
            namespace = self.workload.namespace(),
            state = phase.as_str(),
            unprotected = is_strict && has_failed,
            reason = &*reason,
            "trouble with a pod; trying again",
        );
    }

    /// Makes the pod's status be what is the case.
    fn publish_status(&self, desired: &Desired) -> PodPhase {
        let phase = PodPhase::derive(self.state.name(), desired, &self.attempt);
        let workload = match &self.state {
            State::Captured(pod) | State::Leaving { pod, .. } => pod.workload(),
            State::Untouched | State::Outside(_) => &self.workload,
        };
        let reason = self.attempt.failure().cloned();
        self.node.statuses.set(workload, phase, reason);
        phase
    }

    fn log(&self, what: &str) {
        tracing::info!(
            target: "agent",
            pod = %self.workload.name,
            namespace = self.workload.namespace(),
            identity = %self.workload.identity,
            mtls_mode = %self.workload.mtls_mode,
            "{what}",
        );
    }

    /// Waits before the next attempt, no longer than until something else is wanted.
    async fn wait_to_retry(&mut self) {
        let delay = self.backoff.next_delay();
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = self.desired.changed() => {}
        }
    }

    /// Waits until something may have changed, or until a moment.
    async fn wait(&mut self, until: Option<Instant>) {
        let timer = async {
            match until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.desired.changed() => {
                if changed.is_err() {
                    // The agent itself is gone, and this task with it.
                    std::future::pending::<()>().await;
                }
            }
            _ = self.namespaces.changed() => {}
            () = timer => {}
        }
    }
}
