//! What to do next for one pod: a pure function of what is wanted and what is the
//! case. [`super::pod`] does it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_model::mtls::MtlsMode;
use weft_model::workload::Workload;
use weft_node_agent::netns::NamespaceIdentity;

/// How long a pod's inbound side outlives its capture, so that peers whose
/// configuration is a moment older don't fail.
pub(crate) const INBOUND_GRACE: Duration = Duration::from_secs(2);

/// What the control plane says about a pod of this node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Desired {
    /// It is to be captured.
    Enrolled(Arc<Workload>),
    /// It exists and is to be left alone.
    Outside(Arc<Workload>),
    /// It doesn't exist.
    Gone,
    /// The agent stops.
    Stopping {
        /// What is attached outlives the agent.
        pinned: bool,
    },
}

/// What has been done for a pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Actual {
    /// Nothing.
    Untouched,
    /// The kernel knows that its connections are to be left alone.
    KnownOutside(NamespaceIdentity),
    /// Captured, in this form.
    Captured(Arc<Workload>, NamespaceIdentity),
    /// Its own connections are left alone again; those that come in are still
    /// served until that time.
    Leaving(Arc<Workload>, NamespaceIdentity, Instant),
}

/// The next thing to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// All is as wanted.
    Rest,
    /// Wait for the pod's network namespace to appear.
    AwaitNamespace,
    /// Certificate, proxy, kernel; then report it captured.
    Capture,
    /// Tell kernel and proxy the changed addresses, mode or exclusions.
    Update,
    /// Leave its own connections alone and report it released.
    StopOutbound,
    /// Keep serving what comes in.
    Linger(Instant),
    /// Capture its own connections again and report it captured.
    Resume,
    /// Stop capturing altogether and let its connections end.
    Release,
    /// Leave the kernel's part in place, which then refuses what nobody serves.
    LeaveEnforced,
    /// Tell the kernel that it is to be left alone.
    KnowOutside,
    /// Take that back.
    ForgetOutside,
    /// Nothing is left of the pod.
    Finish,
}

/// The next step for a pod. `found` is the network namespace that currently has the
/// pod's name; None when there is none.
pub(crate) fn next(
    desired: &Desired,
    actual: &Actual,
    found: Option<NamespaceIdentity>,
    now: Instant,
) -> Step {
    match actual {
        Actual::Untouched => from_untouched(desired, found),
        Actual::KnownOutside(namespace) => match desired {
            Desired::Outside(_) if found == Some(*namespace) => Step::Rest,
            _ => Step::ForgetOutside,
        },
        // Its name now means another namespace: the pod was replaced, and there is
        // nobody left whom a slow end would help.
        Actual::Captured(_, namespace) | Actual::Leaving(_, namespace, _)
            if found.is_some_and(|found| found != *namespace) =>
        {
            Step::Release
        }
        Actual::Captured(current, _) => match desired {
            Desired::Enrolled(wanted) => from_captured(wanted, current),
            // Without the agent it would be reachable in the clear.
            Desired::Stopping { pinned: true } if current.mtls_mode == MtlsMode::Strict => {
                Step::LeaveEnforced
            }
            Desired::Outside(_) | Desired::Gone | Desired::Stopping { .. } => Step::StopOutbound,
        },
        Actual::Leaving(current, _, until) => match desired {
            Desired::Enrolled(wanted) if wanted.identity == current.identity => Step::Resume,
            Desired::Enrolled(_) => Step::Release,
            _ if now < *until => Step::Linger(*until),
            _ => Step::Release,
        },
    }
}

fn from_untouched(desired: &Desired, found: Option<NamespaceIdentity>) -> Step {
    match (desired, found) {
        (Desired::Gone | Desired::Stopping { .. }, _) => Step::Finish,
        (Desired::Enrolled(_) | Desired::Outside(_), None) => Step::AwaitNamespace,
        (Desired::Enrolled(_), Some(_)) => Step::Capture,
        (Desired::Outside(_), Some(_)) => Step::KnowOutside,
    }
}

fn from_captured(wanted: &Workload, current: &Workload) -> Step {
    if wanted.identity != current.identity {
        // Another certificate: nothing of the old proxy may go on.
        return Step::Release;
    }
    // As long as the control plane knows none, the pod's own are as good.
    let same_addresses = wanted.addresses.is_empty() || wanted.addresses == current.addresses;
    let same = same_addresses
        && wanted.mtls_mode == current.mtls_mode
        && wanted.exclusions == current.exclusions;
    if same { Step::Rest } else { Step::Update }
}

#[cfg(test)]
mod tests;
