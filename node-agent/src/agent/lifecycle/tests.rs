use super::*;
use proptest::prelude::*;
use weft_model::SpiffeId;
use weft_model::mtls::MtlsMode;
use weft_model::workload::{CaptureExclusions, Enrolment, WorkloadLabels, WorkloadUid};

const FIRST: NamespaceIdentity = NamespaceIdentity {
    device: 4,
    inode: 1,
};
const SECOND: NamespaceIdentity = NamespaceIdentity {
    device: 4,
    inode: 2,
};

fn workload(account: &str, mtls_mode: MtlsMode) -> Arc<Workload> {
    let trust_domain = "cluster.local".parse().unwrap();
    Arc::new(Workload {
        uid: WorkloadUid::from("web"),
        name: "web".into(),
        identity: SpiffeId::new(trust_domain, "default", account).unwrap(),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        node: "node-1".into(),
        enrolment: Enrolment::Pending,
        mtls_mode,
        egress_mode: Default::default(),
        exclusions: CaptureExclusions::default(),
        locality: Default::default(),
        network_namespace: "".into(),
        labels: WorkloadLabels::default(),
    })
}

fn web() -> Arc<Workload> {
    workload("web", MtlsMode::Permissive)
}

/// The world as the steps change it, with what must never be the case.
struct World {
    actual: Actual,
    now: Instant,
    /// What the control plane was last told.
    reported: bool,
    finished: bool,
}

impl World {
    fn new() -> Self {
        Self {
            actual: Actual::Untouched,
            now: Instant::now(),
            reported: false,
            finished: false,
        }
    }

    /// Does what a step says, as the executor does.
    fn perform(&mut self, step: Step, desired: &Desired, found: Option<NamespaceIdentity>) {
        self.actual = match (step, desired, self.actual.clone()) {
            (Step::Capture, Desired::Enrolled(workload), Actual::Untouched) => {
                self.reported = true;
                Actual::Captured(Arc::clone(workload), found.unwrap())
            }
            (Step::Update, Desired::Enrolled(workload), Actual::Captured(_, namespace)) => {
                Actual::Captured(Arc::clone(workload), namespace)
            }
            (Step::StopOutbound, _, Actual::Captured(workload, namespace)) => {
                self.reported = false;
                Actual::Leaving(workload, namespace, self.now + INBOUND_GRACE)
            }
            (Step::Resume, Desired::Enrolled(workload), Actual::Leaving(current, namespace, _)) => {
                assert_eq!(workload.identity, current.identity);
                self.reported = true;
                Actual::Captured(Arc::clone(workload), namespace)
            }
            (Step::Linger(until), _, leaving @ Actual::Leaving(..)) => {
                self.now = until;
                leaving
            }
            (Step::LeaveEnforced, _, Actual::Captured(..)) => {
                self.reported = false;
                Actual::Untouched
            }
            (Step::Release, _, Actual::Captured(..) | Actual::Leaving(..)) => {
                self.reported = false;
                Actual::Untouched
            }
            (Step::KnowOutside, Desired::Outside(_), Actual::Untouched) => {
                Actual::KnownOutside(found.unwrap())
            }
            (Step::ForgetOutside, _, Actual::KnownOutside(_)) => Actual::Untouched,
            (Step::Finish, Desired::Gone | Desired::Stopping { .. }, Actual::Untouched) => {
                self.finished = true;
                Actual::Untouched
            }
            (step, _, actual) => panic!("{step:?} makes no sense in {actual:?}"),
        };
    }

    /// Steps until there is nothing to do; returns them.
    fn settle(&mut self, desired: &Desired, found: Option<NamespaceIdentity>) -> Vec<Step> {
        let mut steps = Vec::new();
        while !self.finished {
            let step = next(desired, &self.actual, found, self.now);
            if matches!(step, Step::Rest | Step::AwaitNamespace) {
                return steps;
            }
            assert!(steps.len() < 10, "doesn't settle: {steps:?}");
            self.perform(step, desired, found);
            steps.push(step);
        }
        steps
    }
}

#[test]
fn a_pod_leaves_outbound_first_and_inbound_after_a_grace() {
    let mut world = World::new();
    assert_eq!(
        world.settle(&Desired::Enrolled(web()), Some(FIRST)),
        [Step::Capture]
    );
    let steps = world.settle(&Desired::Gone, Some(FIRST));
    assert_eq!(steps[0], Step::StopOutbound);
    assert!(matches!(steps[1], Step::Linger(_)), "{steps:?}");
    assert_eq!(steps[2..], [Step::Release, Step::Finish]);
}

#[test]
fn a_pod_whose_namespace_was_replaced_is_captured_anew_without_waiting() {
    let mut world = World::new();
    let desired = Desired::Enrolled(web());
    world.settle(&desired, Some(FIRST));
    assert_eq!(
        world.settle(&desired, Some(SECOND)),
        [Step::Release, Step::Capture]
    );
    assert_eq!(world.actual, Actual::Captured(web(), SECOND));
}

#[test]
fn a_pod_stays_captured_while_its_namespace_has_no_name() {
    let mut world = World::new();
    let desired = Desired::Enrolled(web());
    world.settle(&desired, Some(FIRST));
    assert_eq!(world.settle(&desired, None), []);
}

#[test]
fn another_mode_is_applied_live_and_another_identity_from_scratch() {
    let mut world = World::new();
    world.settle(&Desired::Enrolled(web()), Some(FIRST));
    let strict = Desired::Enrolled(workload("web", MtlsMode::Strict));
    assert_eq!(world.settle(&strict, Some(FIRST)), [Step::Update]);
    let other = Desired::Enrolled(workload("other", MtlsMode::Strict));
    assert_eq!(
        world.settle(&other, Some(FIRST)),
        [Step::Release, Step::Capture]
    );
}

#[test]
fn progress_of_the_enrolment_itself_changes_nothing() {
    let mut world = World::new();
    world.settle(&Desired::Enrolled(web()), Some(FIRST));
    let captured = Workload {
        enrolment: Enrolment::Captured,
        ..Workload::clone(&web())
    };
    assert_eq!(
        world.settle(&Desired::Enrolled(Arc::new(captured)), Some(FIRST)),
        []
    );
}

#[test]
fn a_pod_that_comes_back_while_leaving_is_captured_again_at_once() {
    let mut world = World::new();
    world.settle(&Desired::Enrolled(web()), Some(FIRST));
    world.perform(Step::StopOutbound, &Desired::Gone, Some(FIRST));
    let steps = world.settle(&Desired::Enrolled(web()), Some(FIRST));
    assert_eq!(steps, [Step::Resume]);
}

#[test]
fn a_strict_pod_stays_enforced_without_the_agent_where_that_is_possible() {
    for (mode, pinned, first) in [
        (MtlsMode::Strict, true, Step::LeaveEnforced),
        (MtlsMode::Strict, false, Step::StopOutbound),
        (MtlsMode::Permissive, true, Step::StopOutbound),
    ] {
        let mut world = World::new();
        world.settle(&Desired::Enrolled(workload("web", mode)), Some(FIRST));
        let steps = world.settle(&Desired::Stopping { pinned }, Some(FIRST));
        assert_eq!(steps[0], first, "{mode}, pinned: {pinned}");
        assert_eq!(steps.last(), Some(&Step::Finish));
    }
}

fn any_desired() -> impl Strategy<Value = Desired> {
    let any_workload = (0u8..2, any::<bool>()).prop_map(|(account, strict)| {
        let mode = if strict {
            MtlsMode::Strict
        } else {
            MtlsMode::Permissive
        };
        workload(["web", "other"][usize::from(account)], mode)
    });
    prop_oneof![
        3 => any_workload.clone().prop_map(Desired::Enrolled),
        1 => any_workload.prop_map(Desired::Outside),
        1 => Just(Desired::Gone),
        1 => any::<bool>().prop_map(|pinned| Desired::Stopping { pinned }),
    ]
}

fn any_found() -> impl Strategy<Value = Option<NamespaceIdentity>> {
    prop_oneof![Just(None), Just(Some(FIRST)), Just(Some(SECOND))]
}

proptest! {
    /// Whatever happens in whatever order, the steps settle, and then what is wanted
    /// is the case and what was reported is true.
    #[test]
    fn every_history_ends_as_wanted(
        history in prop::collection::vec((any_desired(), any_found()), 1..20),
    ) {
        let mut world = World::new();
        for (desired, found) in history {
            world.finished = false;
            world.settle(&desired, found);
            let captured = matches!(world.actual, Actual::Captured(..));
            prop_assert_eq!(captured, world.reported);
            match (&desired, &world.actual) {
                (Desired::Enrolled(wanted), Actual::Captured(current, namespace)) => {
                    prop_assert_eq!(wanted, current);
                    prop_assert!(found.is_none_or(|found| found == *namespace));
                }
                (Desired::Enrolled(_) | Desired::Outside(_), Actual::Untouched) => {
                    prop_assert!(found.is_none());
                }
                (Desired::Outside(_), Actual::KnownOutside(namespace)) => {
                    prop_assert_eq!(found, Some(*namespace));
                }
                (Desired::Gone | Desired::Stopping { .. }, Actual::Untouched) => {
                    prop_assert!(world.finished);
                }
                (desired, actual) => prop_assert!(false, "{desired:?} but {actual:?}"),
            }
        }
    }

    /// Between two steps anything may change; no step is ever impossible.
    #[test]
    fn changes_between_steps_never_lead_astray(
        history in prop::collection::vec((any_desired(), any_found()), 1..60),
    ) {
        let mut world = World::new();
        for (desired, found) in history {
            let step = next(&desired, &world.actual, found, world.now);
            if !matches!(step, Step::Rest | Step::AwaitNamespace) {
                world.perform(step, &desired, found);
            }
            prop_assert_eq!(matches!(world.actual, Actual::Captured(..)), world.reported);
        }
    }
}
