//! The phase of a pod, which people see: its state, what is wanted, and the last attempt.

use std::sync::Arc;

use serde::Serialize;

use super::state::{Desired, StateName};

/// The phase of a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PodPhase {
    /// To be left alone.
    Outside,
    /// To be captured as soon as it has a network namespace.
    Awaited,
    /// To be captured; the first attempt isn't over.
    Pending,
    /// Captured.
    Captured,
    /// To be captured; the last attempt failed, the next one will come.
    Failed,
    /// On its way out: only what comes in is still served.
    Leaving,
}

impl PodPhase {
    pub(crate) const ALL: [Self; 6] = [
        Self::Outside,
        Self::Awaited,
        Self::Pending,
        Self::Captured,
        Self::Failed,
        Self::Leaving,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Outside => "outside",
            Self::Awaited => "awaited",
            Self::Pending => "pending",
            Self::Captured => "captured",
            Self::Failed => "failed",
            Self::Leaving => "leaving",
        }
    }

    /// The phase of a pod that is in a state while something is wanted, and of which the
    /// last attempt went so.
    pub(crate) fn derive(state: StateName, desired: &Desired, attempt: &CaptureAttempt) -> Self {
        match (state, desired, attempt) {
            // Also when the last change failed: it stays captured in its earlier form.
            (StateName::Captured, _, _) => Self::Captured,
            (StateName::Leaving, _, _) => Self::Leaving,
            (_, Desired::Enrolled(_), CaptureAttempt::Failed(_)) => Self::Failed,
            (_, Desired::Enrolled(_), CaptureAttempt::AwaitsNamespace) => Self::Awaited,
            (_, Desired::Enrolled(_), CaptureAttempt::None) => Self::Pending,
            (_, Desired::Outside(_), _) => Self::Outside,
            (_, Desired::Gone | Desired::Stopping { .. }, _) => Self::Leaving,
        }
    }
}

/// The last attempt at what is wanted of a pod.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum CaptureAttempt {
    /// None was made, or it succeeded.
    #[default]
    None,
    /// It waits for the pod's network namespace.
    AwaitsNamespace,
    /// It failed, for this reason.
    Failed(Arc<str>),
}

impl CaptureAttempt {
    /// The reason of a failure.
    pub(crate) fn failure(&self) -> Option<&Arc<str>> {
        match self {
            Self::Failed(reason) => Some(reason),
            Self::None | Self::AwaitsNamespace => None,
        }
    }
}

#[cfg(test)]
mod tests;
