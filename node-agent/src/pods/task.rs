//! One pod of this node: does step after step until what is wanted is the case. `report` says what
//! is; `earlier` ends its connections from before; `known` has it pass where unknown ones are refused.

mod earlier;
mod known;
mod report;

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use weft_model::SpiffeId;
use weft_model::workload::{Workload, WorkloadUid};
use weft_proxy::control_plane::Backoff;
use weft_proxy::identity::IdentityInUse;

use super::captured_pod::{CapturedPod, await_certificate};
use super::claimed_pod::ClaimedPod;
use super::context::NodeContext;
use super::error::CaptureError;
use super::known_pod::KnownPod;
use super::outside_pod::OutsidePod;
use super::phase::CaptureAttempt;
use super::state::{Desired, INBOUND_GRACE, PodState, Step};
use crate::namespaces::{NamespaceIdentity, NamespaceLocation};

/// Shortest and longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

type State = PodState<OutsidePod, Box<ClaimedPod>, Box<CapturedPod>>;

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
    /// Connections from before the capture that go on past the proxy and may not.
    unprotected: usize,
    /// Time for which it was open and may not have been, before it was first refused.
    open_for: Option<Duration>,
    known: Option<KnownPod>,
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
            unprotected: 0,
            open_for: None,
            known: None,
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
            self.settle_known(&desired, found);
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
            (Step::Enforce, State::Untouched, Some(found)) => self.claim_and_enforce(found).await,
            (Step::Enforce, State::Enforced(pod), _) => {
                self.enforce(pod).await;
                Ok(())
            }
            (Step::Capture, State::Untouched, Some(found)) => self.capture(found).await,
            (Step::Capture, State::Enforced(pod), _) => self.capture_enforced(pod).await,
            (Step::FallBack, State::Captured(pod), _) => {
                self.fall_back(pod).await;
                Ok(())
            }
            (Step::LiftEnforcement, State::Enforced(pod), _) => {
                self.log("refused no more");
                pod.lift()
            }
            (Step::MarkOutside, State::Untouched, Some(found)) => self.mark_outside(found),
            (Step::Update, State::Captured(pod), _) => self.update(pod).await,
            (Step::Resume, State::Leaving { pod, until }, _) => self.resume(pod, until).await,
            (Step::StopOutbound, State::Captured(pod), _) => self.stop_outbound(pod),
            (Step::Release, State::Captured(pod) | State::Leaving { pod, .. }, _) => {
                self.release(*pod)
            }
            (Step::LeaveEnforced, State::Captured(pod), _) => {
                pod.leave_enforced(&self.node);
                Ok(())
            }
            (Step::LeaveEnforced, State::Enforced(pod), _) => {
                pod.leave_enforced();
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

    /// From now on nothing passes that may not, until the pod is captured.
    async fn claim_and_enforce(&mut self, found: NamespaceIdentity) -> Result<(), CaptureError> {
        let pod = ClaimedPod::claim(&self.node, &self.workload, found)?;
        // Before anything else that takes its time.
        let open_for = self.open_for(&pod);
        self.enforce(Box::new(pod)).await;
        self.note_open_moment(open_for);
        self.log("its connections are refused until it is captured");
        Ok(())
    }

    async fn enforce(&mut self, mut pod: Box<ClaimedPod>) {
        let refused = self.workload.refused_uncaptured();
        let result = refused.map(|refused| pod.enforce(&self.workload, refused));
        self.state = State::Enforced(pod);
        self.report_enforcement(result.unwrap_or(Ok(())));
        self.end_earlier_connections().await;
    }

    async fn fall_back(&mut self, pod: Box<CapturedPod>) {
        self.node.runtime.captures.release(&self.uid);
        let Some(refused) = self.workload.refused_uncaptured() else {
            return pod.release(&self.node);
        };
        let (pod, result) = pod.fall_back(&self.node, &self.workload, refused);
        self.log("not captured any more; its connections are refused until it is again");
        self.state = State::Enforced(pod);
        self.report_enforcement(result);
        self.end_earlier_connections().await;
    }

    async fn capture(&mut self, found: NamespaceIdentity) -> Result<(), CaptureError> {
        let pod = ClaimedPod::claim(&self.node, &self.workload, found)?;
        let identity = self.certified_identity().await?;
        self.serve(Box::new(pod), identity)
            .await
            .map_err(|(_, error)| error)?;
        self.end_earlier_connections().await;
        Ok(())
    }

    /// However it ends, the pod is never open.
    async fn capture_enforced(&mut self, pod: Box<ClaimedPod>) -> Result<(), CaptureError> {
        let identity = match self.certified_identity().await {
            Ok(identity) => identity,
            Err(error) => {
                match pod.is_refused() {
                    true => self.state = State::Enforced(pod),
                    false => self.enforce(pod).await,
                }
                return Err(error);
            }
        };
        let Err((pod, error)) = self.serve(pod, identity).await else {
            self.end_connections_not_refused().await;
            return Ok(());
        };
        if let Some(pod) = pod {
            self.enforce(pod).await;
        }
        Err(error)
    }

    /// The pod's identity, once it has a certificate.
    async fn certified_identity(&mut self) -> Result<Arc<IdentityInUse>, CaptureError> {
        let workload = Arc::clone(&self.workload);
        let identity = self.use_identity(&workload.identity);
        tokio::select! {
            result = await_certificate(&workload, &identity) => result?,
            _ = self.desired.changed() => {
                self.desired.mark_changed();
                return Err(CaptureError::Superseded);
            }
        }
        Ok(identity)
    }

    /// Captures a pod and tries that out. When it fails the pod is given back, unless it may be
    /// open.
    async fn serve(
        &mut self,
        pod: Box<ClaimedPod>,
        identity: Arc<IdentityInUse>,
    ) -> Result<(), (Option<Box<ClaimedPod>>, CaptureError)> {
        let pod = CapturedPod::capture(&self.node, pod, &self.workload, identity)
            .map_err(|(pod, error)| (Some(pod), error))?;
        let pod = Box::new(pod);
        if let Err(error) = pod.verify(&self.node).await {
            let Some(refused) = self.workload.refused_uncaptured() else {
                pod.release(&self.node);
                return Err((None, error));
            };
            let (pod, _) = pod.fall_back(&self.node, &self.workload, refused);
            return Err((Some(pod), error));
        }
        self.state = State::Captured(pod);
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

    async fn update(&mut self, mut pod: Box<CapturedPod>) -> Result<(), CaptureError> {
        let before = (
            pod.workload().refused_uncaptured(),
            pod.workload().exclusions.clone(),
        );
        let result = pod.update(&self.workload);
        self.state = State::Captured(pod);
        if result.is_ok() {
            self.log("updated");
            if before
                != (
                    self.workload.refused_uncaptured(),
                    self.workload.exclusions.clone(),
                )
            {
                self.end_earlier_connections().await;
            }
        }
        result
    }

    async fn resume(
        &mut self,
        mut pod: Box<CapturedPod>,
        until: Instant,
    ) -> Result<(), CaptureError> {
        if let Err(error) = pod.update(&self.workload) {
            self.state = State::Leaving { pod, until };
            return Err(error);
        }
        self.state = State::Captured(pod);
        self.report_captured();
        // Its own have gone past the proxy meanwhile.
        self.end_earlier_connections().await;
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
        let may_be_open = self.workload.refused_uncaptured().is_none();
        let is_enrolled = matches!(desired, Desired::Enrolled(_));
        let _watchful = (is_enrolled && !may_be_open).then(|| self.node.namespaces.watch_out());
        self.wait(None).await;
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
