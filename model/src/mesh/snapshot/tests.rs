use proptest::prelude::*;

use super::*;
use crate::address::OriginalDestination;
use crate::fixtures::{endpoint, route, service, workload};

fn mesh(changes: impl IntoIterator<Item = Change>) -> Mesh {
    let mut mesh = Mesh::default();
    changes.into_iter().for_each(|change| mesh.apply(change));
    mesh
}

#[test]
fn a_reused_address_belongs_to_the_new_pod_whatever_the_order_of_changes() {
    let old = workload("old", "10.0.1.5", "node-1");
    let new = workload("new", "10.0.1.5", "node-2");
    let mesh = mesh([
        Change::Workload(old.clone()),
        Change::Workload(new),
        Change::WorkloadRemoved(old.uid),
    ]);
    let owner = mesh
        .workload_by_address("10.0.1.5".parse().unwrap())
        .unwrap();
    assert_eq!(&*owner.name, "new");
}

fn any_change() -> impl Strategy<Value = Change> {
    let name = "[ab]";
    let address = prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "fd00::1"]);
    prop_oneof![
        (name, address.clone()).prop_map(|(n, a)| Change::Workload(workload(&n, a, "node-1"))),
        name.prop_map(|n| Change::WorkloadRemoved(WorkloadUid::from(n.as_str()))),
        (name, address.clone()).prop_map(|(n, a)| Change::Service(service(&n, a, 80))),
        name.prop_map(|n| Change::ServiceRemoved(NamespacedName::new("default", &n))),
        (name, address.clone(), name).prop_map(|(s, a, w)| Change::Endpoint(endpoint(
            &s,
            a,
            Some(&w),
            (80, 8080)
        ))),
        (name, address)
            .prop_map(|(s, a)| Change::EndpointRemoved(endpoint(&s, a, None, (80, 80)).key)),
        (name, name).prop_map(|(n, s)| Change::Route(route(&n, &s))),
        name.prop_map(|n| Change::RouteRemoved(route(&n, "a").key)),
    ]
}

proptest! {
    /// Every index points at a resource that exists, whatever happened before.
    #[test]
    fn indexes_never_outlive_their_resources(changes in prop::collection::vec(any_change(), 0..40)) {
        let mesh = mesh(changes);
        mesh.workloads.assert_consistent();
        mesh.services.assert_consistent();
        mesh.endpoints.assert_consistent();
        for name in ["a", "b"] {
            let (service, parent) = (NamespacedName::new("default", name), route(name, name));
            let mut routes = ["a", "b"].into_iter().filter_map(|r| mesh.route(&route(r, name).key));
            let attached = routes.any(|route| route.parents == parent.parents);
            let holds = mesh.route_table(&service, 80, "any").is_some();
            prop_assert_eq!(holds, attached && mesh.service(&service).is_some());
        }
    }

    /// A change applied twice is the same as once, so a stream may repeat itself.
    #[test]
    fn repeating_the_last_change_changes_nothing(changes in prop::collection::vec(any_change(), 1..20)) {
        let once = mesh(changes.clone());
        let mut twice = once.clone();
        twice.apply(changes.last().unwrap().clone());
        for address in ["10.0.0.1:80", "10.0.0.2:80", "[fd00::1]:80"] {
            let destination = OriginalDestination::new(address.parse().unwrap());
            prop_assert_eq!(once.resolve("node-1", destination), twice.resolve("node-1", destination));
        }
    }
}
