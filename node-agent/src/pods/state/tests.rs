use std::collections::BTreeSet;

use proptest::prelude::*;
use weft_model::NamespacedName;
use weft_model::authorization_policy::AuthorizationMembership;
use weft_model::egress::EgressMode;
use weft_model::mtls::MtlsMode;
use weft_model::node_access::NodeAccess;
use weft_model::workload::Enrolment;

use super::*;
use crate::pods::fixtures;

const FIRST: NamespaceIdentity = NamespaceIdentity {
    device: 4,
    inode: 1,
};
const SECOND: NamespaceIdentity = NamespaceIdentity {
    device: 4,
    inode: 2,
};

fn workload(account: &str, mtls_mode: MtlsMode) -> Arc<Workload> {
    Arc::new(Workload {
        identity: fixtures::identity(account),
        mtls_mode,
        ..fixtures::workload("web")
    })
}

fn web() -> Arc<Workload> {
    workload("web", MtlsMode::Permissive)
}

impl InNamespace for NamespaceIdentity {
    fn namespace(&self) -> NamespaceIdentity {
        *self
    }
}

/// A captured pod, as far as its states go.
#[derive(Clone, Debug, PartialEq)]
struct Pod(Arc<Workload>, NamespaceIdentity);

impl InNamespace for Pod {
    fn namespace(&self) -> NamespaceIdentity {
        self.1
    }
}

impl EnrolledAs for Pod {
    fn workload(&self) -> &Workload {
        &self.0
    }
}

type State = PodState<NamespaceIdentity, Pod, Pod>;

/// The world as the steps change it, with what must never be the case.
struct World {
    state: State,
    now: Instant,
    /// The control plane was last told that it is captured.
    reported: bool,
    finished: bool,
}

impl World {
    fn new() -> Self {
        Self {
            state: State::Untouched,
            now: Instant::now(),
            reported: false,
            finished: false,
        }
    }

    /// Does what a step says, as the executor does.
    fn perform(&mut self, step: Step, desired: &Desired, found: Option<NamespaceIdentity>) {
        let (state, reported) = match (step, desired, self.state.clone()) {
            (Step::Capture, Desired::Enrolled(workload), State::Untouched) => {
                assert_eq!(workload.refused_uncaptured(), None, "open until captured");
                let pod = Pod(Arc::clone(workload), found.unwrap());
                (State::Captured(pod), true)
            }
            (Step::Enforce, Desired::Enrolled(workload), State::Untouched) => {
                let pod = Pod(Arc::clone(workload), found.unwrap());
                (State::Enforced(pod), self.reported)
            }
            (Step::Enforce, Desired::Enrolled(workload), State::Enforced(pod)) => {
                let pod = Pod(Arc::clone(workload), pod.1);
                (State::Enforced(pod), self.reported)
            }
            (Step::Capture, Desired::Enrolled(workload), State::Enforced(pod)) => {
                let pod = Pod(Arc::clone(workload), pod.1);
                (State::Captured(pod), true)
            }
            (Step::FallBack, Desired::Enrolled(workload), State::Captured(pod)) => {
                let pod = Pod(Arc::clone(workload), pod.1);
                (State::Enforced(pod), false)
            }
            (Step::FallBack, Desired::Gone, State::Captured(pod)) => (State::Enforced(pod), false),
            (Step::LiftEnforcement, _, State::Enforced(_)) => (State::Untouched, self.reported),
            (Step::Update, Desired::Enrolled(workload), State::Captured(pod)) => {
                let pod = Pod(Arc::clone(workload), pod.1);
                (State::Captured(pod), self.reported)
            }
            (Step::StopOutbound, _, State::Captured(pod)) => {
                let until = self.now + INBOUND_GRACE;
                (State::Leaving { pod, until }, false)
            }
            (Step::Resume, Desired::Enrolled(workload), State::Leaving { pod, .. }) => {
                assert_eq!(workload.identity, pod.0.identity);
                (State::Captured(Pod(Arc::clone(workload), pod.1)), true)
            }
            (Step::AwaitGrace(until), _, leaving @ State::Leaving { .. }) => {
                self.now = until;
                (leaving, self.reported)
            }
            (Step::LeaveEnforced, _, State::Enforced(_) | State::Captured(_))
            | (Step::Release, _, State::Captured(_) | State::Leaving { .. }) => {
                (State::Untouched, false)
            }
            (Step::MarkOutside, Desired::Outside(_), State::Untouched) => {
                (State::Outside(found.unwrap()), self.reported)
            }
            (Step::UnmarkOutside, _, State::Outside(_)) => (State::Untouched, self.reported),
            (Step::Finish, Desired::Gone | Desired::Stopping { .. }, State::Untouched) => {
                self.finished = true;
                (State::Untouched, self.reported)
            }
            (step, _, state) => panic!("{step:?} makes no sense in {state:?}"),
        };
        if let Some(target) = step.target()
            && !self.finished
        {
            assert_eq!(state.name(), target, "after {step:?}");
        }
        (self.state, self.reported) = (state, reported);
    }

    /// Steps until there is nothing to do; returns them.
    fn run_to_rest(&mut self, desired: &Desired, found: Option<NamespaceIdentity>) -> Vec<Step> {
        let mut steps = Vec::new();
        while !self.finished {
            let step = self.state.next_step(desired, found, self.now);
            if matches!(step, Step::Idle | Step::AwaitNamespace) {
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
        world.run_to_rest(&Desired::Enrolled(web()), Some(FIRST)),
        [Step::Capture]
    );
    let steps = world.run_to_rest(&Desired::Gone, Some(FIRST));
    assert_eq!(steps[0], Step::StopOutbound);
    assert!(matches!(steps[1], Step::AwaitGrace(_)), "{steps:?}");
    assert_eq!(steps[2..], [Step::Release, Step::Finish]);
}

#[test]
fn a_pod_whose_namespace_was_replaced_is_captured_anew_without_waiting() {
    let mut world = World::new();
    let desired = Desired::Enrolled(web());
    world.run_to_rest(&desired, Some(FIRST));
    assert_eq!(
        world.run_to_rest(&desired, Some(SECOND)),
        [Step::Release, Step::Capture]
    );
    assert_eq!(world.state, State::Captured(Pod(web(), SECOND)));
}

#[test]
fn a_pod_stays_captured_while_its_namespace_has_no_name() {
    let mut world = World::new();
    let desired = Desired::Enrolled(web());
    world.run_to_rest(&desired, Some(FIRST));
    assert_eq!(world.run_to_rest(&desired, None), []);
}

#[test]
fn another_mode_is_applied_live_and_another_identity_from_scratch() {
    let mut world = World::new();
    world.run_to_rest(&Desired::Enrolled(web()), Some(FIRST));
    let strict = Desired::Enrolled(workload("web", MtlsMode::Strict));
    assert_eq!(world.run_to_rest(&strict, Some(FIRST)), [Step::Update]);
    let open = Desired::Enrolled(Arc::new(Workload {
        node_access: NodeAccess::All,
        ..Workload::clone(&workload("web", MtlsMode::Strict))
    }));
    assert_eq!(world.run_to_rest(&open, Some(FIRST)), [Step::Update]);
    let other = Desired::Enrolled(workload("other", MtlsMode::Permissive));
    world.run_to_rest(&Desired::Enrolled(web()), Some(FIRST));
    assert_eq!(
        world.run_to_rest(&other, Some(FIRST)),
        [Step::Release, Step::Capture]
    );
}

/// A permissive pod about which policies decide, or are only watched.
fn authorized(is_observed_only: bool) -> Arc<Workload> {
    let membership = AuthorizationMembership {
        policies: vec![NamespacedName::new("default", "web")],
        is_observed_only,
        ..AuthorizationMembership::default()
    };
    Arc::new(Workload {
        authorization: Arc::new(membership),
        ..Workload::clone(&web())
    })
}

/// Pods that may not be open, by why.
fn fail_closed() -> [Arc<Workload>; 3] {
    let registered_only = Workload {
        egress_mode: EgressMode::RegisteredOnly,
        ..Workload::clone(&web())
    };
    let strict = workload("web", MtlsMode::Strict);
    [strict, registered_only.into(), authorized(false)]
}

#[test]
fn a_pod_that_may_not_be_open_is_refused_before_it_is_captured() {
    for pod in fail_closed() {
        let mut world = World::new();
        let steps = world.run_to_rest(&Desired::Enrolled(pod), Some(FIRST));
        assert_eq!(steps, [Step::Enforce, Step::Capture]);
    }
}

#[test]
fn a_pod_that_may_not_be_open_stays_refused_while_its_capture_fails() {
    for pod in fail_closed() {
        let desired = Desired::Enrolled(Arc::clone(&pod));
        let refused = State::Enforced(Pod(pod, FIRST));
        for found in [None, Some(FIRST)] {
            let step = refused.next_step(&desired, found, Instant::now());
            assert_eq!(step, Step::Capture, "again");
        }
        let stopping = Desired::Stopping { is_pinned: true };
        let step = refused.next_step(&stopping, Some(FIRST), Instant::now());
        assert_eq!(step, Step::LeaveEnforced);
    }
}

#[test]
fn a_pod_that_may_not_be_open_gets_another_identity_without_a_gap() {
    let mut world = World::new();
    let [strict, ..] = fail_closed();
    world.run_to_rest(&Desired::Enrolled(strict), Some(FIRST));
    let other = Desired::Enrolled(workload("other", MtlsMode::Strict));
    assert_eq!(
        world.run_to_rest(&other, Some(FIRST)),
        [Step::FallBack, Step::Capture]
    );
}

#[test]
fn a_pod_that_leaves_the_mesh_or_may_be_open_is_refused_no_more() {
    let [strict, ..] = fail_closed();
    let refused = State::Enforced(Pod(strict, FIRST));
    for desired in [
        Desired::Outside(web()),
        Desired::Enrolled(web()),
        Desired::Stopping { is_pinned: false },
    ] {
        let step = refused.next_step(&desired, Some(FIRST), Instant::now());
        assert_eq!(step, Step::LiftEnforcement, "{desired:?}");
    }
}

#[test]
fn policies_that_come_and_go_change_what_is_refused_live() {
    let [with, without] = [authorized(false), web()];
    let observed = authorized(true);
    let step = |state: &State, wanted: &Arc<Workload>| {
        let wanted = Desired::Enrolled(Arc::clone(wanted));
        state.next_step(&wanted, Some(FIRST), Instant::now())
    };
    let captured = |pod: &Arc<Workload>| State::Captured(Pod(Arc::clone(pod), FIRST));
    assert_eq!(step(&captured(&without), &with), Step::Update);
    assert_eq!(step(&captured(&with), &without), Step::Update);
    assert_eq!(step(&captured(&without), &observed), Step::Idle);
    // As long as its capture fails.
    let refused = State::Enforced(Pod(Arc::clone(&with), FIRST));
    assert_eq!(step(&refused, &with), Step::Capture, "again");
    for open in [&without, &observed] {
        assert_eq!(step(&refused, open), Step::LiftEnforcement);
        assert_eq!(step(&State::Untouched, open), Step::Capture);
    }
    assert_eq!(step(&State::Untouched, &with), Step::Enforce);
    let strict = workload("web", MtlsMode::Strict);
    assert_eq!(step(&refused, &strict), Step::Enforce);
}

#[test]
fn a_deleted_pod_that_may_not_be_open_is_refused_for_as_long_as_it_runs() {
    for pod in fail_closed() {
        let mut world = World::new();
        world.run_to_rest(&Desired::Enrolled(pod), Some(FIRST));
        let steps = world.run_to_rest(&Desired::Gone, Some(FIRST));
        assert_eq!(steps, [Step::FallBack]);
        let steps = world.run_to_rest(&Desired::Gone, None);
        assert_eq!(steps, [Step::LiftEnforcement, Step::Finish]);
    }
    // Whose manifest is taken away leaves the mesh.
    let [strict, ..] = fail_closed();
    let named = Workload {
        network_namespace: "web".into(),
        ..Workload::clone(&strict)
    };
    let refused = State::Enforced(Pod(named.into(), FIRST));
    let step = refused.next_step(&Desired::Gone, Some(FIRST), Instant::now());
    assert_eq!(step, Step::LiftEnforcement);
}

#[test]
fn progress_of_the_enrolment_itself_changes_nothing() {
    let mut world = World::new();
    world.run_to_rest(&Desired::Enrolled(web()), Some(FIRST));
    let captured = Workload {
        enrolment: Enrolment::Captured,
        ..Workload::clone(&web())
    };
    assert_eq!(
        world.run_to_rest(&Desired::Enrolled(Arc::new(captured)), Some(FIRST)),
        []
    );
}

#[test]
fn a_pod_that_comes_back_while_leaving_is_captured_again_at_once() {
    let mut world = World::new();
    world.run_to_rest(&Desired::Enrolled(web()), Some(FIRST));
    world.perform(Step::StopOutbound, &Desired::Gone, Some(FIRST));
    let steps = world.run_to_rest(&Desired::Enrolled(web()), Some(FIRST));
    assert_eq!(steps, [Step::Resume]);
}

#[test]
fn a_pod_that_may_not_be_open_stays_enforced_without_the_agent_where_that_is_possible() {
    let [strict, registered_only, authorized] = fail_closed();
    for (pod, is_pinned, first) in [
        (&strict, true, Step::LeaveEnforced),
        (&registered_only, true, Step::LeaveEnforced),
        (&authorized, true, Step::LeaveEnforced),
        (&authorized, false, Step::StopOutbound),
        (&strict, false, Step::StopOutbound),
        (&web(), true, Step::StopOutbound),
    ] {
        let mut world = World::new();
        world.run_to_rest(&Desired::Enrolled(Arc::clone(pod)), Some(FIRST));
        let steps = world.run_to_rest(&Desired::Stopping { is_pinned }, Some(FIRST));
        assert_eq!(steps[0], first, "{pod:?}, is_pinned: {is_pinned}");
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
        1 => any::<bool>().prop_map(|is_pinned| Desired::Stopping { is_pinned }),
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
            world.run_to_rest(&desired, found);
            let captured = matches!(world.state, State::Captured(_));
            prop_assert_eq!(captured, world.reported);
            match (&desired, &world.state) {
                (Desired::Enrolled(wanted), State::Captured(Pod(current, namespace))) => {
                    prop_assert_eq!(wanted, current);
                    prop_assert!(found.is_none_or(|found| found == *namespace));
                }
                (Desired::Enrolled(_) | Desired::Outside(_), State::Untouched) => {
                    prop_assert!(found.is_none());
                }
                (Desired::Outside(_), State::Outside(namespace)) => {
                    prop_assert_eq!(found, Some(*namespace));
                }
                (Desired::Gone | Desired::Stopping { .. }, State::Untouched) => {
                    prop_assert!(world.finished);
                }
                (Desired::Gone, State::Enforced(Pod(current, namespace))) => {
                    prop_assert_eq!(current.mtls_mode, MtlsMode::Strict);
                    prop_assert_eq!(found, Some(*namespace), "it runs");
                }
                (desired, state) => prop_assert!(false, "{desired:?} but {state:?}"),
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
            let step = world.state.next_step(&desired, found, world.now);
            if !matches!(step, Step::Idle | Step::AwaitNamespace) {
                world.perform(step, &desired, found);
            }
            prop_assert_eq!(matches!(world.state, State::Captured(_)), world.reported);
        }
    }
}

/// Every state, for whatever else may be.
fn states(now: Instant) -> Vec<State> {
    let pods =
        [MtlsMode::Permissive, MtlsMode::Strict].map(|mode| Pod(workload("web", mode), FIRST));
    let mut states = vec![State::Untouched, State::Outside(FIRST)];
    for pod in pods {
        states.push(State::Enforced(pod.clone()));
        states.push(State::Captured(pod.clone()));
        for until in [now, now + INBOUND_GRACE] {
            states.push(State::Leaving {
                pod: pod.clone(),
                until,
            });
        }
    }
    states
}

/// Every wish.
fn wishes() -> Vec<Desired> {
    let mut wishes = vec![Desired::Gone];
    for is_pinned in [false, true] {
        wishes.push(Desired::Stopping { is_pinned });
    }
    for mode in [MtlsMode::Permissive, MtlsMode::Strict] {
        for account in ["web", "other"] {
            wishes.push(Desired::Enrolled(workload(account, mode)));
            wishes.push(Desired::Outside(workload(account, mode)));
        }
    }
    wishes
}

/// Every way from a state to another, as a line of a Mermaid diagram.
fn transitions() -> BTreeSet<String> {
    let now = Instant::now();
    let mut lines = BTreeSet::from(["[*] --> Untouched".to_owned()]);
    for state in states(now) {
        for desired in wishes() {
            for found in [None, Some(FIRST), Some(SECOND)] {
                let step = state.next_step(&desired, found, now);
                let from = state.name();
                lines.extend(match step.target() {
                    Some(StateName::Finished) => Some(format!("{from:?} --> [*]: {step:?}")),
                    Some(to) => Some(format!("{from:?} --> {to:?}: {step:?}")),
                    None => None,
                });
            }
        }
    }
    lines
}

#[test]
fn the_picture_in_the_architecture_is_what_the_code_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../ARCHITECTURE.md");
    let text = std::fs::read_to_string(path).unwrap();
    let diagram = text
        .split("stateDiagram-v2\n")
        .nth(1)
        .expect("a diagram of states");
    let diagram = diagram.split("```").next().unwrap();
    let drawn: BTreeSet<_> = diagram.lines().map(|line| line.trim().to_owned()).collect();
    let drawn: BTreeSet<_> = drawn
        .into_iter()
        .filter(|line| line.contains("-->"))
        .collect();
    let expected = transitions();
    let lines: Vec<_> = expected.iter().map(|line| format!("  {line}\n")).collect();
    assert_eq!(drawn, expected, "draw this:\n{}", lines.concat());
}
