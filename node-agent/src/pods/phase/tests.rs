use weft_model::workload::Enrolment;

use super::*;
use crate::pods::fixtures::enrolled_as;

fn desired(enrolment: Enrolment) -> Desired {
    Desired::for_workload(&enrolled_as("web", enrolment))
}

fn failed() -> CaptureAttempt {
    CaptureAttempt::Failed("no address".into())
}

#[test]
fn an_enrolled_pod_is_pending_until_an_attempt_has_ended() {
    let enrolled = desired(Enrolment::Pending);
    for (attempt, phase) in [
        (CaptureAttempt::None, PodPhase::Pending),
        (CaptureAttempt::AwaitsNamespace, PodPhase::Awaited),
        (failed(), PodPhase::Failed),
    ] {
        // It may still be marked as outside: that is taken back first.
        for state in [StateName::Untouched, StateName::Outside] {
            assert_eq!(PodPhase::derive(state, &enrolled, &attempt), phase);
        }
    }
}

#[test]
fn a_pod_stays_captured_or_on_its_way_out_whatever_fails_meanwhile() {
    for desired in [
        desired(Enrolment::Captured),
        desired(Enrolment::Outside),
        Desired::Gone,
        Desired::Stopping { is_pinned: true },
    ] {
        for attempt in [CaptureAttempt::None, failed()] {
            for (state, phase) in [
                (StateName::Captured, PodPhase::Captured),
                (StateName::Leaving, PodPhase::Leaving),
            ] {
                assert_eq!(PodPhase::derive(state, &desired, &attempt), phase);
            }
        }
    }
}

#[test]
fn a_pod_outside_of_the_mesh_is_outside_also_when_the_kernel_could_not_be_told() {
    let outside = desired(Enrolment::Outside);
    for attempt in [CaptureAttempt::None, failed()] {
        for state in [StateName::Untouched, StateName::Outside] {
            assert_eq!(
                PodPhase::derive(state, &outside, &attempt),
                PodPhase::Outside
            );
        }
    }
}
