//! Requests under way, and policies that change.

use http::{HeaderMap, Method};
use weft_model::NamespacedName;
use weft_model::authorization_policy::{
    Action, AuthorizationMembership, AuthorizationPolicy, Rule,
};
use weft_model::mesh::Change;
use weft_model::workload::{Workload, WorkloadUid};

use super::*;
use crate::last_known::LastKnown;
use crate::memory::PodMemory;
use crate::upstream::RequestHead;

const MANY: usize = 10 * LOOKED_AT_ONCE;

fn policy(action: Action) -> Change {
    Change::AuthorizationPolicy(AuthorizationPolicy {
        key: NamespacedName::new("shop", "one"),
        action,
        is_dry_run: false,
        rules: vec![Rule::default()],
        authentication: None,
    })
}

fn mesh(pod: &Workload, action: Action) -> Mesh {
    let mut mesh = Mesh::default();
    mesh.apply_all([Change::Workload(pod.clone()), policy(action)]);
    mesh
}

fn pod() -> Workload {
    let identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
    Workload {
        authorization: Arc::new(AuthorizationMembership {
            policies: vec![NamespacedName::new("shop", "one")],
            ..AuthorizationMembership::default()
        }),
        ..Workload::new(WorkloadUid::from("web"), identity, "node-1")
    }
}

fn requests(under_way: &RequestsUnderWay) -> Vec<Arc<RequestUnderWay>> {
    let memory = Arc::<PodMemory>::default();
    let head = RequestHead {
        method: &Method::GET,
        path: "/",
        query: None,
        host: "web",
        headers: &HeaderMap::new(),
    };
    let request = || {
        let request = Arc::new(RequestUnderWay::new(&head, 0, &memory));
        under_way.enter(&request);
        request
    };
    (0..MANY).map(|_| request()).collect()
}

fn revoked(requests: &[Arc<RequestUnderWay>]) -> usize {
    requests
        .iter()
        .filter(|request| request.is_revoked())
        .count()
}

#[tokio::test]
async fn many_requests_are_looked_at_in_turns_with_others_and_none_is_left_out() {
    let under_way = Arc::<RequestsUnderWay>::default();
    let requests = requests(&under_way);
    let pod = Arc::new(pod());
    let deny = mesh(&pod, Action::Deny);
    let known = Arc::new(LastKnown::new(pod, &deny));
    let client = [10, 0, 0, 9].into();
    let subject = PolicySubject::new(&known, &Arc::default(), None, client, 80);
    under_way.revoke_denied(&subject, &deny);
    assert_eq!(revoked(&requests), LOOKED_AT_ONCE, "the rest later");
    // Whoever else has something to do has its turn before all of them were looked at.
    let mut turns = 0;
    while revoked(&requests) < MANY {
        let before = revoked(&requests);
        tokio::task::yield_now().await;
        assert!(revoked(&requests) - before <= LOOKED_AT_ONCE);
        turns += 1;
        assert!(turns < 100 * MANY, "{} are revoked", revoked(&requests));
    }
}

#[tokio::test]
async fn newer_policies_end_what_older_ones_have_begun() {
    let under_way = Arc::<RequestsUnderWay>::default();
    let requests = requests(&under_way);
    let pod = Arc::new(pod());
    let (deny, allow) = (mesh(&pod, Action::Deny), mesh(&pod, Action::Allow));
    let known = Arc::new(LastKnown::new(pod, &deny));
    let client = [10, 0, 0, 9].into();
    let subject = PolicySubject::new(&known, &Arc::default(), None, client, 80);
    under_way.revoke_denied(&subject, &deny);
    under_way.revoke_denied(&subject, &allow);
    for _ in 0..MANY {
        tokio::task::yield_now().await;
    }
    assert_eq!(revoked(&requests), LOOKED_AT_ONCE);
}
