//! One pod of this node: does step after step until what is wanted is the case.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use weft_model::SpiffeId;
use weft_model::mtls::MtlsMode;
use weft_model::workload::{Workload, WorkloadUid};
use weft_node_agent::netns::{NamespaceIdentity, NetworkNamespace};
use weft_proxy::control_plane::Backoff;
use weft_proxy::discovery::PodCaptureState;
use weft_proxy::identity::IdentityInUse;

use super::capture::{CaptureError, Captured, Capturer};
use super::lifecycle::{Actual, Desired, INBOUND_GRACE, Step, next};
use super::namespaces::Place;
use super::table::PodPhase;

/// Shortest and longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// What has been done for the pod, with all that it takes.
#[derive(Debug)]
enum Held {
    Nothing,
    Outside(NetworkNamespace, NamespaceIdentity),
    Captured(Box<Captured>),
    Leaving(Box<Captured>, Instant),
}

impl Held {
    fn actual(&self) -> Actual {
        match self {
            Self::Nothing => Actual::Untouched,
            Self::Outside(_, namespace) => Actual::KnownOutside(*namespace),
            Self::Captured(pod) => Actual::Captured(Arc::clone(&pod.workload), pod.namespace()),
            Self::Leaving(pod, until) => {
                Actual::Leaving(Arc::clone(&pod.workload), pod.namespace(), *until)
            }
        }
    }
}

/// The one task that looks after a pod.
#[derive(Debug)]
pub(crate) struct PodTask {
    capturer: Arc<Capturer>,
    uid: WorkloadUid,
    /// Where its namespace is looked for: the workload as last heard of.
    workload: Arc<Workload>,
    desired: watch::Receiver<Desired>,
    namespaces: watch::Receiver<u64>,
    held: Held,
    /// Kept between attempts, so that the certificate comes meanwhile.
    identity: Option<(SpiffeId, Arc<IdentityInUse>)>,
    backoff: Backoff,
    /// Its namespace was looked for eagerly already.
    expected: bool,
}

impl PodTask {
    pub(crate) fn new(
        capturer: Arc<Capturer>,
        workload: Arc<Workload>,
        desired: watch::Receiver<Desired>,
    ) -> Self {
        let namespaces = capturer.namespaces.subscribe();
        let backoff = Backoff::new(RETRY.0, RETRY.1);
        let uid = workload.uid.clone();
        let (held, identity) = (Held::Nothing, None);
        Self {
            capturer,
            uid,
            workload,
            desired,
            namespaces,
            held,
            identity,
            backoff,
            expected: false,
        }
    }

    /// Runs until nothing is left of the pod.
    pub(crate) async fn run(mut self) {
        loop {
            let desired = self.desired.borrow_and_update().clone();
            if let Desired::Enrolled(workload) | Desired::Outside(workload) = &desired {
                self.workload = Arc::clone(workload);
            }
            self.namespaces.mark_unchanged();
            if let Desired::Enrolled(workload) = &desired {
                // So that the certificate is there when the namespace is.
                self.use_identity(&workload.identity);
            }
            let found = self.capturer.namespaces.find(&Place::of(&self.workload));
            let step = next(&desired, &self.held.actual(), found, Instant::now());
            match step {
                Step::Finish => break,
                Step::Rest => self.wait(None).await,
                Step::Linger(until) => self.wait(Some(until)).await,
                Step::AwaitNamespace => self.await_namespace(&desired).await,
                _ => self.act(step, found).await,
            }
        }
        let Self {
            capturer, desired, ..
        } = self;
        drop(desired);
        capturer.ended.notify_one();
    }

    /// Does one step that changes something.
    async fn act(&mut self, step: Step, found: Option<NamespaceIdentity>) {
        let result = match (
            step,
            std::mem::replace(&mut self.held, Held::Nothing),
            found,
        ) {
            (Step::Capture, _, Some(found)) => self.capture(found).await,
            (Step::KnowOutside, _, Some(found)) => self.know_outside(found),
            (Step::Update, Held::Captured(pod), _) => self.update(pod),
            (Step::Resume, Held::Leaving(pod, until), _) => self.resume(pod, until),
            (Step::StopOutbound, Held::Captured(pod), _) => self.stop_outbound(pod),
            (Step::Release, Held::Captured(pod) | Held::Leaving(pod, _), _) => {
                self.log("not captured any more");
                self.capturer.release(*pod);
                self.capturer.runtime.captures.release(&self.uid);
                Ok(())
            }
            (Step::LeaveEnforced, Held::Captured(pod), _) => {
                self.capturer.leave_enforced(*pod);
                Ok(())
            }
            (Step::ForgetOutside, Held::Outside(namespace, _), _) => {
                self.capturer.forget_outside(&namespace)
            }
            // The steps that wait, and what `next` never says.
            (_, held, _) => {
                self.held = held;
                Ok(())
            }
        };
        match result {
            Ok(()) => self.backoff.reset(),
            Err(error) if error.is_momentary() => self.wait(None).await,
            Err(error) => self.failed(&error.to_string()).await,
        }
    }

    async fn capture(&mut self, found: NamespaceIdentity) -> Result<(), CaptureError> {
        let workload = Arc::clone(&self.workload);
        if self.capturer.table.phase(&self.uid) != Some(PodPhase::Failed) {
            self.capturer.table.set(&workload, PodPhase::Pending, None);
        }
        let identity = self.use_identity(&workload.identity);
        let pod = tokio::select! {
            pod = self.capturer.capture(&workload, found, identity) => pod?,
            // Wanted is something else meanwhile; what was begun is dropped.
            _ = self.desired.changed() => {
                self.desired.mark_changed();
                return Ok(());
            }
        };
        self.held = Held::Captured(Box::new(pod));
        self.captured();
        Ok(())
    }

    fn use_identity(&mut self, wanted: &SpiffeId) -> Arc<IdentityInUse> {
        match &self.identity {
            Some((identity, in_use)) if identity == wanted => Arc::clone(in_use),
            _ => {
                let in_use = self.capturer.use_identity(wanted);
                self.identity = Some((wanted.clone(), Arc::clone(&in_use)));
                in_use
            }
        }
    }

    fn update(&mut self, mut pod: Box<Captured>) -> Result<(), CaptureError> {
        let result = pod.update(&self.workload);
        if result.is_ok() {
            self.capturer
                .table
                .set(&self.workload, PodPhase::Captured, None);
            self.log("updated");
        }
        self.held = Held::Captured(pod);
        result
    }

    fn resume(&mut self, mut pod: Box<Captured>, until: Instant) -> Result<(), CaptureError> {
        if let Err(error) = pod.update(&self.workload) {
            self.held = Held::Leaving(pod, until);
            return Err(error);
        }
        self.held = Held::Captured(pod);
        self.captured();
        Ok(())
    }

    /// Says that the pod is captured.
    fn captured(&self) {
        self.capturer
            .runtime
            .captures
            .set(&self.uid, PodCaptureState::Captured);
        self.capturer
            .table
            .set(&self.workload, PodPhase::Captured, None);
        self.log("captured");
    }

    /// Peers are told in any case, and the pod leaves in any case: a kernel that
    /// doesn't let go of outbound connections does so at the release.
    fn stop_outbound(&mut self, mut pod: Box<Captured>) -> Result<(), CaptureError> {
        let result = pod.stop_outbound();
        self.capturer.runtime.captures.release(&self.uid);
        self.capturer.table.set_phase(&self.uid, PodPhase::Leaving);
        self.held = Held::Leaving(pod, Instant::now() + INBOUND_GRACE);
        self.identity = None;
        self.log("leaving: its own connections go out directly, others are still served");
        result
    }

    fn know_outside(&mut self, found: NamespaceIdentity) -> Result<(), CaptureError> {
        self.capturer
            .table
            .set(&self.workload, PodPhase::Outside, None);
        let namespace = self.capturer.know_outside(&self.workload, found)?;
        self.held = Held::Outside(namespace, found);
        Ok(())
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

    async fn await_namespace(&mut self, desired: &Desired) {
        if !std::mem::replace(&mut self.expected, true) {
            self.capturer.namespaces.expect_pod();
        }
        match desired {
            Desired::Enrolled(workload) => match Place::of(workload) {
                Place::Name(name) => {
                    self.report_failure(&format!("there is no network namespace /run/netns/{name}"))
                }
                // A pod that was just scheduled has none for a while.
                Place::Pod(_) => {
                    self.capturer.table.set(workload, PodPhase::Awaited, None);
                }
            },
            Desired::Outside(workload) => {
                self.capturer.table.set(workload, PodPhase::Outside, None);
            }
            Desired::Gone | Desired::Stopping { .. } => {}
        }
        self.wait(None).await;
    }

    /// Says so everywhere, and waits before the next attempt.
    async fn failed(&mut self, reason: &str) {
        self.report_failure(reason);
        let delay = self.backoff.next_delay();
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = self.desired.changed() => {}
        }
    }

    fn report_failure(&self, reason: &str) {
        let phase = match (&self.held, &*self.desired.borrow()) {
            // A pod whose update failed is still captured, in its previous form.
            (Held::Captured(_), _) => PodPhase::Captured,
            (Held::Leaving(..), _) => PodPhase::Leaving,
            (_, Desired::Enrolled(_)) => PodPhase::Failed,
            (_, Desired::Outside(_) | Desired::Gone | Desired::Stopping { .. }) => {
                PodPhase::Outside
            }
        };
        if self.capturer.table.reason(&self.uid).as_deref() == Some(reason) {
            return;
        }
        self.capturer
            .table
            .set(&self.workload, phase, Some(reason.into()));
        if phase == PodPhase::Failed {
            self.capturer
                .runtime
                .captures
                .set(&self.uid, PodCaptureState::Failed(reason.into()));
        }
        let strict = self.workload.mtls_mode == MtlsMode::Strict;
        tracing::error!(
            target: "agent",
            pod = %self.workload.name,
            namespace = self.workload.namespace(),
            state = phase.as_str(),
            unprotected = strict && phase == PodPhase::Failed,
            reason,
            "trouble with a pod; trying again",
        );
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
