//! One pod of this node: does step after step until what is wanted is the case.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use weft_model::policy::MtlsMode;
use weft_model::workload::{Workload, WorkloadUid};
use weft_proxy::config::backoff::Backoff;
use weft_proxy::config::captures::PodCapture;

use super::capture::{Captured, CaptureError, Capturer};
use super::lifecycle::{Actual, Desired, INBOUND_GRACE, NamespaceIdentity, Step, namespace_name, next};
use super::table::PodPhase;
use crate::netns::NetworkNamespace;

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
            Self::Leaving(pod, until) => Actual::Leaving(pod.namespace(), *until),
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
    backoff: Backoff,
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
        Self { capturer, uid, workload, desired, namespaces, held: Held::Nothing, backoff }
    }

    /// Runs until nothing is left of the pod.
    pub(crate) async fn run(mut self) {
        loop {
            let desired = self.desired.borrow_and_update().clone();
            if let Desired::Enrolled(workload) | Desired::Outside(workload) = &desired {
                self.workload = Arc::clone(workload);
            }
            self.namespaces.mark_unchanged();
            let found = self.capturer.namespaces.find(namespace_name(&self.workload));
            let step = next(&desired, &self.held.actual(), found, Instant::now());
            match step {
                Step::Finish => break,
                Step::Rest => self.wait(None).await,
                Step::Linger(until) => self.wait(Some(until)).await,
                Step::AwaitNamespace => self.await_namespace(&desired).await,
                _ => self.act(step, found).await,
            }
        }
        let Self { capturer, desired, .. } = self;
        drop(desired);
        capturer.ended.notify_one();
    }

    /// Does one step that changes something.
    async fn act(&mut self, step: Step, found: Option<NamespaceIdentity>) {
        let result = match (step, std::mem::replace(&mut self.held, Held::Nothing)) {
            (Step::Capture, _) => self.capture(found).await,
            (Step::Update, Held::Captured(pod)) => self.update(pod),
            (Step::StopOutbound, Held::Captured(pod)) => {
                self.held = self.stop_outbound(pod);
                Ok(())
            }
            (Step::Release, Held::Captured(pod) | Held::Leaving(pod, _)) => {
                self.capturer.release(*pod);
                self.capturer.reports.release(&self.uid);
                Ok(())
            }
            (Step::KnowOutside, _) => self.know_outside(found),
            (Step::ForgetOutside, Held::Outside(namespace, _)) => {
                self.capturer.forget(&namespace);
                Ok(())
            }
            // The steps that wait, and what `next` never says.
            (_, held) => {
                self.held = held;
                Ok(())
            }
        };
        match result {
            Ok(()) => self.backoff.reset(),
            Err(error) => self.failed(&error.to_string()).await,
        }
    }

    async fn capture(&mut self, found: Option<NamespaceIdentity>) -> Result<(), CaptureError> {
        let Some(found) = found else { return Ok(()) };
        let workload = Arc::clone(&self.workload);
        if self.capturer.table.phase(&self.uid) != Some(PodPhase::Failed) {
            self.capturer.table.set(&workload, PodPhase::Pending, None);
        }
        let pod = tokio::select! {
            pod = self.capturer.capture(&workload, found) => pod?,
            // Wanted is something else meanwhile; what was begun is dropped.
            _ = self.desired.changed() => {
                self.desired.mark_changed();
                return Ok(());
            }
        };
        self.held = Held::Captured(Box::new(pod));
        self.capturer.reports.set(&self.uid, PodCapture::Captured);
        self.capturer.table.set(&workload, PodPhase::Captured, None);
        tracing::info!(
            target: "agent",
            pod = %workload.name,
            namespace = workload.namespace(),
            identity = %workload.identity,
            mtls_mode = %workload.mtls_mode,
            "captured",
        );
        Ok(())
    }

    fn update(&mut self, mut pod: Box<Captured>) -> Result<(), CaptureError> {
        let result = pod.update(&self.workload);
        if result.is_ok() {
            self.capturer.table.set(&self.workload, PodPhase::Captured, None);
            tracing::info!(
                target: "agent",
                pod = %self.workload.name,
                namespace = self.workload.namespace(),
                mtls_mode = %self.workload.mtls_mode,
                "updated",
            );
        }
        self.held = Held::Captured(pod);
        result
    }

    fn stop_outbound(&mut self, mut pod: Box<Captured>) -> Held {
        pod.stop_outbound();
        self.capturer.reports.release(&self.uid);
        self.capturer.table.set_phase(&self.uid, PodPhase::Leaving);
        tracing::info!(
            target: "agent",
            pod = %self.workload.name,
            namespace = self.workload.namespace(),
            "released; serving what still comes in for a moment",
        );
        Held::Leaving(pod, Instant::now() + INBOUND_GRACE)
    }

    fn know_outside(&mut self, found: Option<NamespaceIdentity>) -> Result<(), CaptureError> {
        self.capturer.table.set(&self.workload, PodPhase::Outside, None);
        let Some(found) = found else { return Ok(()) };
        let namespace = self.capturer.know_outside(&self.workload)?;
        self.held = Held::Outside(namespace, found);
        Ok(())
    }

    async fn await_namespace(&mut self, desired: &Desired) {
        match desired {
            Desired::Enrolled(workload) => {
                let name = namespace_name(workload);
                self.report_failure(&format!("there is no network namespace /run/netns/{name}"));
            }
            Desired::Outside(workload) => {
                self.capturer.table.set(workload, PodPhase::Outside, None);
            }
            Desired::Gone => {}
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
        // A pod whose update failed is still captured, in its previous form.
        let phase = match (&self.held, &*self.desired.borrow()) {
            (Held::Captured(_), _) => PodPhase::Captured,
            (_, Desired::Enrolled(_)) => PodPhase::Failed,
            (_, Desired::Outside(_) | Desired::Gone) => PodPhase::Outside,
        };
        let known = self.capturer.table.snapshot().get(&self.uid).and_then(|pod| pod.reason.clone());
        if known.as_deref() == Some(reason) {
            return;
        }
        self.capturer.table.set(&self.workload, phase, Some(reason.into()));
        if phase == PodPhase::Failed {
            self.capturer.reports.set(&self.uid, PodCapture::Failed(reason.into()));
        }
        let unprotected = phase == PodPhase::Failed && self.workload.mtls_mode == MtlsMode::Strict;
        tracing::error!(
            target: "agent",
            pod = %self.workload.name,
            namespace = self.workload.namespace(),
            mtls_mode = %self.workload.mtls_mode,
            strict_but_not_captured = unprotected,
            reason,
            "can't capture; trying again",
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
