//! The time at which what earlier agents left may be taken away: a pure function of how far
//! this agent protects the pods that may not be open.

use std::sync::Arc;

use weft_model::workload::{Workload, WorkloadUid};

use super::phase::PodPhase;

/// What earlier agents have left, as far as it wasn't taken away yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Leftovers {
    OfAnyVersion,
    /// Of agents whose tables this one has taken over.
    OfThisVersion,
    None,
}

/// The protection of pods that may not be open, by this agent.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Protection {
    /// One may be held by nothing but what an earlier agent left.
    Missing,
    /// Those that have a network namespace are refused or captured by this agent.
    OfAllFound,
    /// All are.
    Complete,
}

impl Protection {
    /// That of a pod in a phase.
    pub(super) fn of_pod(phase: Option<PodPhase>, is_refused: bool) -> Self {
        match phase {
            Some(PodPhase::Captured) => Self::Complete,
            _ if is_refused => Self::Complete,
            Some(PodPhase::Awaited) => Self::OfAllFound,
            _ => Self::Missing,
        }
    }
}

/// The protection of all pods of a node that may not be open.
pub(super) fn protection<'a>(
    workloads: impl Iterator<Item = &'a Arc<Workload>>,
    node: &str,
    of_pod: impl Fn(&WorkloadUid) -> Protection,
) -> Protection {
    workloads
        .filter(|workload| *workload.node == *node && workload.is_for_node_agent())
        .filter(|workload| workload.refused_uncaptured().is_some())
        .map(|workload| of_pod(&workload.uid))
        .min()
        .unwrap_or(Protection::Complete)
}

impl Leftovers {
    /// What is left once everything is taken away that can't belong to such a pod.
    pub(super) fn after(self, protection: Protection) -> Self {
        match (self, protection) {
            (_, Protection::Complete) => Self::None,
            (Self::OfAnyVersion, Protection::OfAllFound) => Self::OfThisVersion,
            (leftovers, _) => leftovers,
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_model::mtls::MtlsMode;

    use super::*;
    use crate::pods::fixtures;

    fn pod(name: &str, mtls_mode: MtlsMode) -> Arc<Workload> {
        Arc::new(Workload {
            mtls_mode,
            ..fixtures::workload(name)
        })
    }

    #[test]
    fn nothing_is_taken_away_that_may_hold_a_pod_which_may_not_be_open() {
        let pods = [
            pod("open", MtlsMode::Permissive),
            pod("strict", MtlsMode::Strict),
        ];
        for (phase, is_refused, left) in [
            (None, false, Leftovers::OfAnyVersion),
            (Some(PodPhase::Pending), false, Leftovers::OfAnyVersion),
            (Some(PodPhase::Failed), false, Leftovers::OfAnyVersion),
            (Some(PodPhase::Awaited), false, Leftovers::OfThisVersion),
            (Some(PodPhase::Failed), true, Leftovers::None),
            (Some(PodPhase::Captured), false, Leftovers::None),
        ] {
            let found = protection(pods.iter(), "node-1", |uid| match uid.as_str() {
                "strict" => Protection::of_pod(phase, is_refused),
                // Nobody waits for those that may be open.
                _ => Protection::Missing,
            });
            assert_eq!(Leftovers::OfAnyVersion.after(found), left, "{phase:?}");
        }
    }

    #[test]
    fn pods_of_other_nodes_hold_nothing_here() {
        let pods = [pod("strict", MtlsMode::Strict)];
        let found = protection(pods.iter(), "node-2", |_| Protection::Missing);
        assert_eq!(found, Protection::Complete);
    }
}
