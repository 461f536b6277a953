use weft_model::workload::Enrolment;

use super::*;
use crate::pods::fixtures::{enrolled_as, workload};

fn enrolled(name: &str) -> Arc<Workload> {
    enrolled_as(name, Enrolment::Pending)
}

fn outside(name: &str) -> Arc<Workload> {
    enrolled_as(name, Enrolment::Outside)
}

fn on_another_node(name: &str) -> Arc<Workload> {
    Arc::new(Workload {
        node: "node-2".into(),
        ..workload(name)
    })
}

fn wanted(workloads: &[&Arc<Workload>]) -> BTreeMap<WorkloadUid, Arc<Workload>> {
    pods_of_node(workloads.iter().copied(), "node-1")
}

fn tracked(pods: &[(&str, &Desired, bool)]) -> BTreeMap<WorkloadUid, TrackedPod> {
    let tracked = pods.iter().map(|&(uid, desired, has_ended)| {
        let desired = desired.clone();
        (WorkloadUid::from(uid), TrackedPod { desired, has_ended })
    });
    tracked.collect()
}

#[test]
fn each_new_pod_of_this_node_gets_a_task_whether_it_is_in_the_mesh_or_not() {
    let (web, api) = (enrolled("web"), outside("api"));
    let elsewhere = on_another_node("elsewhere");
    let actions = reconcile(&wanted(&[&web, &api, &elsewhere]), &tracked(&[]));
    assert_eq!(actions, [Action::Start(api), Action::Start(web)]);
}

#[test]
fn a_task_is_told_what_is_wanted_only_when_that_has_changed() {
    let web = enrolled("web");
    let outside = outside("web");
    let known = tracked(&[("web", &Desired::Enrolled(Arc::clone(&web)), false)]);
    assert_eq!(reconcile(&wanted(&[&web]), &known), []);
    assert_eq!(
        reconcile(&wanted(&[&outside]), &known),
        [Action::SetDesired(
            web.uid.clone(),
            Desired::Outside(outside)
        )]
    );
}

#[test]
fn a_pod_that_is_gone_or_on_another_node_by_now_is_told_to_go_and_kept_until_it_has() {
    let web = enrolled("web");
    let moved = on_another_node("web");
    let known = tracked(&[("web", &Desired::Enrolled(Arc::clone(&web)), false)]);
    let gone = [Action::SetDesired(web.uid.clone(), Desired::Gone)];
    assert_eq!(reconcile(&wanted(&[]), &known), gone);
    assert_eq!(reconcile(&wanted(&[&moved]), &known), gone);
    let leaving = tracked(&[("web", &Desired::Gone, false)]);
    assert_eq!(reconcile(&wanted(&[]), &leaving), []);
    let ended = tracked(&[("web", &Desired::Gone, true)]);
    assert_eq!(
        reconcile(&wanted(&[]), &ended),
        [Action::Forget(web.uid.clone())]
    );
}

#[test]
fn a_pod_that_comes_back_is_told_while_its_task_runs_and_started_anew_afterwards() {
    let web = enrolled("web");
    let leaving = tracked(&[("web", &Desired::Gone, false)]);
    assert_eq!(
        reconcile(&wanted(&[&web]), &leaving),
        [Action::SetDesired(
            web.uid.clone(),
            Desired::Enrolled(Arc::clone(&web))
        )]
    );
    let ended = tracked(&[("web", &Desired::Gone, true)]);
    assert_eq!(
        reconcile(&wanted(&[&web]), &ended),
        [Action::Forget(web.uid.clone()), Action::Start(web)]
    );
}

#[test]
fn a_pod_with_a_sidecar_is_left_alone_whichever_of_both_is_known_first() {
    let sidecar = Arc::new(Workload {
        is_sidecar: true,
        ..Arc::unwrap_or_clone(enrolled_as("web", Enrolment::Captured))
    });
    let desired = Desired::Outside(Arc::clone(&sidecar));
    assert_eq!(Desired::for_workload(&sidecar), desired);
    // The node's agent had it before the floor said that its sidecar counts.
    let known = tracked(&[("web", &Desired::Enrolled(enrolled("web")), false)]);
    let actions = reconcile(&wanted(&[&sidecar]), &known);
    assert_eq!(actions, [Action::SetDesired(sidecar.uid.clone(), desired)]);
}
