//! The states of a pod in the agent, and the step that comes next: a pure function of the
//! state, of what is wanted, and of the network namespace that was found. `task` does the
//! steps. ARCHITECTURE.md has the picture, and a test holds it true.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_model::workload::Workload;

use crate::namespaces::{NamespaceIdentity, NamespaceLocation};

/// The time by which a pod's inbound side outlives its capture, so that peers whose
/// configuration is a moment older don't fail.
pub(crate) const INBOUND_GRACE: Duration = Duration::from_secs(2);

/// The wish about a pod of this node: the control plane's, until the agent stops.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Desired {
    /// It is to be captured.
    Enrolled(Arc<Workload>),
    /// It exists and is to be left alone: it isn't in the mesh, or has a sidecar.
    Outside(Arc<Workload>),
    /// It doesn't exist.
    Gone,
    /// The agent stops.
    Stopping {
        /// The programs are pinned: what is attached outlives the agent.
        is_pinned: bool,
    },
}

impl Desired {
    /// The wish of the control plane about a pod that exists.
    pub(crate) fn for_workload(workload: &Arc<Workload>) -> Self {
        let workload = Arc::clone(workload);
        match workload.is_for_node_agent() {
            true => Self::Enrolled(workload),
            false => Self::Outside(workload),
        }
    }

    /// The pod, where it exists and the agent goes on.
    pub(crate) fn workload(&self) -> Option<&Arc<Workload>> {
        match self {
            Self::Enrolled(workload) | Self::Outside(workload) => Some(workload),
            Self::Gone | Self::Stopping { .. } => None,
        }
    }
}

/// The state of a pod in the agent, with all that it takes: `O` where it is left alone,
/// `E` where it is refused, `C` where it is captured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PodState<O, E, C> {
    /// Nothing was done for it, or everything was undone.
    Untouched,
    /// The kernel knows that its connections are to be left alone.
    Outside(O),
    /// It may not be open, and isn't captured: its connections are refused.
    Enforced(E),
    /// Its connections go through the proxy, both ways.
    Captured(C),
    /// Its own connections are left alone again; those that come in are still served.
    Leaving {
        /// The pod, still with its proxy.
        pod: C,
        /// The time until which it is served.
        until: Instant,
    },
}

/// The name of a state.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum StateName {
    Untouched,
    Outside,
    Enforced,
    Captured,
    Leaving,
    /// The end: the pod's task is over.
    Finished,
}

/// Something that belongs to one network namespace.
pub(crate) trait InNamespace {
    /// The namespace.
    fn namespace(&self) -> NamespaceIdentity;
}

/// Something that is captured, or refused until it is, in a certain form.
pub(crate) trait EnrolledAs: InNamespace {
    /// The pod in that form.
    fn workload(&self) -> &Workload;
}

/// The next thing to do for a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// All is as wanted.
    Idle,
    /// Wait for the pod's network namespace to appear.
    AwaitNamespace,
    /// Have the kernel refuse its connections until it is captured.
    Enforce,
    /// Let them pass again.
    LiftEnforcement,
    /// Certificate, proxy, kernel; then report it captured.
    Capture,
    /// Stop serving it and have its connections refused.
    FallBack,
    /// Tell kernel and proxy the changed addresses, mode or exclusions.
    Update,
    /// Leave its own connections alone and report it released.
    StopOutbound,
    /// Keep serving what comes in.
    AwaitGrace(Instant),
    /// Capture its own connections again and report it captured.
    Resume,
    /// Stop capturing altogether and let its connections end.
    Release,
    /// Leave the kernel's part in place, which then refuses what nobody serves.
    LeaveEnforced,
    /// Tell the kernel that it is to be left alone.
    MarkOutside,
    /// Take that back.
    UnmarkOutside,
    /// Nothing is left of the pod: end its task.
    Finish,
}

impl Step {
    /// The state that the step leads to; `None` when it only waits.
    pub(crate) fn target(self) -> Option<StateName> {
        match self {
            Self::Idle | Self::AwaitNamespace | Self::AwaitGrace(_) => None,
            Self::Capture | Self::Update | Self::Resume => Some(StateName::Captured),
            Self::StopOutbound => Some(StateName::Leaving),
            Self::Enforce | Self::FallBack => Some(StateName::Enforced),
            Self::LiftEnforcement | Self::Release | Self::LeaveEnforced | Self::UnmarkOutside => {
                Some(StateName::Untouched)
            }
            Self::MarkOutside => Some(StateName::Outside),
            Self::Finish => Some(StateName::Finished),
        }
    }
}

impl<O, E, C> PodState<O, E, C> {
    pub(crate) fn name(&self) -> StateName {
        match self {
            Self::Untouched => StateName::Untouched,
            Self::Outside(_) => StateName::Outside,
            Self::Enforced(_) => StateName::Enforced,
            Self::Captured(_) => StateName::Captured,
            Self::Leaving { .. } => StateName::Leaving,
        }
    }
}

impl<O: InNamespace, E: EnrolledAs, C: EnrolledAs> PodState<O, E, C> {
    /// The next step for the pod. `found` is the network namespace that the pod has now;
    /// `None` when there is none.
    pub(crate) fn next_step(
        &self,
        desired: &Desired,
        found: Option<NamespaceIdentity>,
        now: Instant,
    ) -> Step {
        match self {
            Self::Untouched => from_untouched(desired, found),
            Self::Outside(pod) => match desired {
                Desired::Outside(_) if found == Some(pod.namespace()) => Step::Idle,
                _ => Step::UnmarkOutside,
            },
            Self::Enforced(pod) if found.is_some_and(|found| found != pod.namespace()) => {
                Step::LiftEnforcement
            }
            Self::Enforced(pod) => match outlives(pod, desired, found) {
                true => Step::Idle,
                false => from_enforced(desired, pod.workload()),
            },
            // It has another namespace now: the pod was replaced, and there is nobody left
            // whom a slow end would help.
            Self::Captured(pod) | Self::Leaving { pod, .. }
                if found.is_some_and(|found| found != pod.namespace()) =>
            {
                Step::Release
            }
            Self::Captured(pod) => match outlives(pod, desired, found) {
                true => Step::FallBack,
                false => from_captured(desired, pod.workload()),
            },
            Self::Leaving { pod, until } => match desired {
                Desired::Enrolled(wanted) if wanted.identity == pod.workload().identity => {
                    Step::Resume
                }
                Desired::Enrolled(_) => Step::Release,
                _ if now < *until => Step::AwaitGrace(*until),
                _ => Step::Release,
            },
        }
    }
}

/// True for a pod that may not be open and whose processes go on although it was deleted, as by
/// force: refused, it is nobody's loss. Where manifests name the namespace, to take one away is
/// to take the pod out of the mesh.
fn outlives(pod: &impl EnrolledAs, desired: &Desired, found: Option<NamespaceIdentity>) -> bool {
    let workload = pod.workload();
    let location = NamespaceLocation::for_workload(workload);
    *desired == Desired::Gone
        && found == Some(pod.namespace())
        && matches!(location, NamespaceLocation::OfPod(_))
        && workload.refused_uncaptured().is_some()
}

fn from_untouched(desired: &Desired, found: Option<NamespaceIdentity>) -> Step {
    match (desired, found) {
        (Desired::Gone | Desired::Stopping { .. }, _) => Step::Finish,
        (Desired::Enrolled(_) | Desired::Outside(_), None) => Step::AwaitNamespace,
        (Desired::Enrolled(wanted), Some(_)) => match wanted.refused_uncaptured() {
            Some(_) => Step::Enforce,
            None => Step::Capture,
        },
        (Desired::Outside(_), Some(_)) => Step::MarkOutside,
    }
}

fn from_enforced(desired: &Desired, current: &Workload) -> Step {
    match desired {
        // It may be open by now, or is no longer the mesh's.
        Desired::Enrolled(wanted) if wanted.refused_uncaptured().is_none() => Step::LiftEnforcement,
        Desired::Enrolled(wanted) if is_enforced_as(current, wanted) => Step::Capture,
        Desired::Enrolled(_) => Step::Enforce,
        Desired::Stopping { is_pinned: true } => Step::LeaveEnforced,
        Desired::Outside(_) | Desired::Gone | Desired::Stopping { .. } => Step::LiftEnforcement,
    }
}

fn from_captured(desired: &Desired, current: &Workload) -> Step {
    match desired {
        // Another certificate: nothing of the old proxy may go on.
        Desired::Enrolled(wanted) if wanted.identity != current.identity => {
            match wanted.refused_uncaptured() {
                Some(_) => Step::FallBack,
                None => Step::Release,
            }
        }
        Desired::Enrolled(wanted) if is_captured_as(current, wanted) => Step::Idle,
        Desired::Enrolled(_) => Step::Update,
        // Without the agent it would be open.
        Desired::Stopping { is_pinned: true } if current.refused_uncaptured().is_some() => {
            Step::LeaveEnforced
        }
        Desired::Outside(_) | Desired::Gone | Desired::Stopping { .. } => Step::StopOutbound,
    }
}

/// True when nothing that capturing depends on differs.
fn is_captured_as(current: &Workload, wanted: &Workload) -> bool {
    // As long as the control plane knows none, the pod's own are as good.
    let same_addresses = wanted.addresses.is_empty() || wanted.addresses == current.addresses;
    same_addresses
        && wanted.mtls_mode == current.mtls_mode
        && wanted.port_modes == current.port_modes
        && wanted.refused_uncaptured() == current.refused_uncaptured()
        && wanted.node_access == current.node_access
        && wanted.egress_mode == current.egress_mode
        && wanted.exclusions == current.exclusions
}

/// True when nothing that refusing depends on differs.
fn is_enforced_as(current: &Workload, wanted: &Workload) -> bool {
    wanted.addresses == current.addresses
        && wanted.refused_uncaptured() == current.refused_uncaptured()
        && wanted.node_access == current.node_access
        && wanted.exclusions == current.exclusions
}

#[cfg(test)]
mod tests;
