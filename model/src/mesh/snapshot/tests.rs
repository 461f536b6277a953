use proptest::prelude::*;

use super::*;
use crate::address::OriginalDestination;
use crate::fixtures::{endpoint, route, service, workload};
use crate::service::ServicePort;
use crate::traffic::LocalRateLimit;
use crate::workload::Locality;

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

#[test]
fn an_endpoint_that_is_no_pod_is_one_at_its_ports_as_long_as_it_is_ready() {
    let there = |mesh: &Mesh, address: &str| mesh.is_endpoint(address.parse().unwrap());
    let api = endpoint("kubernetes", "10.99.0.1", None, (443, 6443));
    let other = endpoint("other", "10.99.0.1", None, (80, 8080));
    let pod = endpoint("web", "10.0.1.1", Some("pod"), (80, 8080));
    let mut mesh = mesh([api.clone(), other.clone(), pod].map(Change::Endpoint));
    assert!(there(&mesh, "10.99.0.1:6443") && there(&mesh, "10.99.0.1:8080"));
    assert!(there(&mesh, "[::ffff:10.99.0.1]:6443"));
    for no_endpoint in [
        "10.99.0.1:443",
        "10.99.0.1:10250",
        "10.99.0.2:6443",
        "10.0.1.1:8080",
    ] {
        assert!(!there(&mesh, no_endpoint), "{no_endpoint}");
    }
    let not_ready = Endpoint {
        ready: false,
        ..api.clone()
    };
    mesh.apply(Change::Endpoint(not_ready));
    assert!(!there(&mesh, "10.99.0.1:6443") && there(&mesh, "10.99.0.1:8080"));
    mesh.apply(Change::EndpointRemoved(other.key));
    assert!(!there(&mesh, "10.99.0.1:8080"));
    mesh.apply(Change::Endpoint(api));
    assert!(there(&mesh, "10.99.0.1:6443"));
}

/// A Service of that name whose port 80 has a name, which declares a protocol.
fn declaring(name: &str, port_name: &str) -> Change {
    let mut service = service(name, "10.96.0.1", 80);
    service.ports[0].name = port_name.into();
    Change::Service(service)
}

#[test]
fn a_port_of_a_workload_has_the_protocol_that_its_services_declare() {
    use DeclaredProtocol::{Http, Http2, Opaque, Unknown};
    let pod = WorkloadUid::from("pod");
    let endpoint = |service: &str| endpoint(service, "10.0.1.1", Some("pod"), (80, 8080));
    let mut mesh = mesh([
        declaring("a", "http"),
        Change::Endpoint(endpoint("a")),
        // Declared when it is already an endpoint.
        Change::Endpoint(endpoint("b")),
    ]);
    let declared = |mesh: &Mesh| mesh.declared_protocol(&pod, 8080);
    assert_eq!(declared(&mesh), Http);
    assert_eq!(mesh.declared_protocol(&pod, 80), Unknown, "no target port");
    let other = WorkloadUid::from("other");
    assert_eq!(mesh.declared_protocol(&other, 8080), Unknown);
    for (port_name, expected) in [
        ("grpc", Http),
        ("", Http),
        ("tcp-db", Opaque),
        ("web", Http),
        ("redis", Opaque),
    ] {
        mesh.apply(declaring("b", port_name));
        assert_eq!(declared(&mesh), expected, "{port_name}");
    }
    mesh.apply(Change::ServiceRemoved(endpoint("b").key.service));
    assert_eq!(declared(&mesh), Http);
    mesh.apply(declaring("b", "grpc"));
    mesh.apply(Change::EndpointRemoved(endpoint("a").key));
    assert_eq!(declared(&mesh), Http2);
    let not_ready = Endpoint {
        ready: false,
        ..endpoint("b")
    };
    mesh.apply(Change::Endpoint(not_ready));
    assert_eq!(declared(&mesh), Http2, "ready or not");
    mesh.apply(Change::EndpointRemoved(endpoint("b").key));
    assert_eq!(declared(&mesh), Unknown);
}

#[test]
fn the_protocol_of_an_address_follows_the_workload_that_has_it() {
    let (old, new) = (WorkloadUid::from("old"), WorkloadUid::from("new"));
    let endpoint = |pod| endpoint("a", "10.0.1.1", Some(pod), (80, 8080));
    let mesh = mesh([
        declaring("a", "http"),
        Change::Endpoint(endpoint("old")),
        Change::Endpoint(endpoint("new")),
    ]);
    assert_eq!(
        mesh.declared_protocol(&old, 8080),
        DeclaredProtocol::Unknown
    );
    assert_eq!(mesh.declared_protocol(&new, 8080), DeclaredProtocol::Http);
}

/// A Service with a virtual address, the other ones as external ones, and a port of nodes.
fn exposed(name: &str, address: &str, created: i64) -> Change {
    let mut service = service(name, address, 80);
    service.ports[0].node_port = Some(30_080);
    let others = ["10.0.0.1", "10.0.0.2", "fd00::1"].map(|other| other.parse().unwrap());
    Change::Service(Service {
        external_addresses: others.to_vec(),
        created,
        ..service
    })
}

#[test]
fn a_service_takes_an_entry_for_each_address_and_each_port_not_for_each_pair() {
    let mut large = service("a", "10.96.0.1", 80);
    let ports = (1..=1000).map(|port| ServicePort {
        port,
        node_port: Some(30_000 + port),
        ..large.ports[0].clone()
    });
    large.ports = ports.collect();
    let addresses = (0..1500u32).map(|n| std::net::Ipv4Addr::from(0xc633_0000 + n).into());
    large.external_addresses = addresses.collect();
    let mut mesh = mesh([Change::Service(large.clone())]);
    assert_eq!(mesh.services.claims(), 1500 + 1000);
    let destination = OriginalDestination::new("198.51.0.7:1000".parse().unwrap());
    let dialled = mesh.dialled_service("default", destination).unwrap();
    assert_eq!((&dialled.service.key, dialled.port), (&large.key, 1000));
    mesh.apply(Change::ServiceRemoved(large.key));
    assert_eq!(mesh.services.claims(), 0);
}

#[test]
fn a_pod_that_is_a_thousand_endpoints_costs_what_these_cost_apart() {
    let mut large = service("a", "10.96.0.1", 80);
    let ports = (1..=1000).map(|port| ServicePort {
        port,
        app_protocol: "http".into(),
        ..large.ports[0].clone()
    });
    large.ports = ports.collect();
    let mut mesh = mesh([Change::Service(large.clone())]);
    let began = std::time::Instant::now();
    for n in 0..1000u32 {
        let address = std::net::Ipv4Addr::from(0x0a01_0000 + n).to_string();
        let mut endpoint = endpoint("a", &address, Some("pod"), (80, 80));
        endpoint.ports = (1..=1000).map(|port| (port, port)).collect();
        mesh.apply(Change::Endpoint(endpoint));
    }
    mesh.apply(Change::Service(large));
    // Compiled together with each other they took minutes.
    assert!(began.elapsed() < std::time::Duration::from_secs(30));
    let uid = WorkloadUid::from("pod");
    assert_eq!(mesh.declared_protocol(&uid, 1000), DeclaredProtocol::Http);
}

#[test]
fn a_change_copies_no_index_that_it_is_not_about() {
    let before = mesh([
        exposed("a", "10.96.0.1", 0),
        Change::Workload(workload("a", "10.0.1.1", "node-1")),
        Change::Endpoint(endpoint("a", "10.0.1.1", Some("a"), (80, 8080))),
        Change::Node(node("node-1", "10.99.0.1")),
    ]);
    let mut after = before.clone();
    after.apply(Change::Service(service("b", "10.96.0.2", 80)));
    assert!(
        after
            .service(&NamespacedName::new("default", "b"))
            .is_some()
    );
    assert!(
        before
            .service(&NamespacedName::new("default", "b"))
            .is_none()
    );
    assert!(Arc::ptr_eq(&before.workloads, &after.workloads));
    assert!(Arc::ptr_eq(&before.endpoints, &after.endpoints));
    assert!(Arc::ptr_eq(&before.nodes, &after.nodes));
    assert!(before.services.shares_claims_with(&after.services));
}

fn node(name: &str, address: &str) -> Node {
    Node {
        name: name.into(),
        locality: Locality::default(),
        addresses: vec![address.parse().unwrap()],
    }
}

fn any_change() -> impl Strategy<Value = Change> {
    let name = "[ab]";
    let address = prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "fd00::1"]);
    prop_oneof![
        (name, address.clone()).prop_map(|(n, a)| Change::Workload(workload(&n, a, "node-1"))),
        name.prop_map(|n| Change::WorkloadRemoved(WorkloadUid::from(n.as_str()))),
        (name, address.clone()).prop_map(|(n, a)| Change::Service(service(&n, a, 80))),
        (name, address.clone(), 0i64..3).prop_map(|(n, a, created)| exposed(&n, a, created)),
        (name, address.clone()).prop_map(|(n, a)| Change::Node(node(&n, a))),
        name.prop_map(|n| Change::NodeRemoved(n.into())),
        (name, "http|tcp").prop_map(|(n, port)| declaring(&n, &port)),
        name.prop_map(|n| Change::ServiceRemoved(NamespacedName::new("default", &n))),
        (name, address.clone(), prop::option::of(name))
            .prop_map(|(s, a, w)| Change::Endpoint(endpoint(&s, a, w.as_deref(), (80, 8080)))),
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
        mesh.nodes.assert_consistent();
        mesh.protocols.assert_consistent(&mesh.services, &mesh.endpoints);
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
        for address in ["10.0.0.1:80", "10.0.0.2:80", "[fd00::1]:80", "10.0.0.1:30080"] {
            let destination = OriginalDestination::new(address.parse().unwrap());
            prop_assert_eq!(once.resolve("node-1", "default", destination), twice.resolve("node-1", "default", destination));
        }
    }
}

#[test]
fn the_rate_limits_of_all_services_that_lead_to_a_port_concern_it() {
    let limit = |requests| LocalRateLimit {
        requests,
        interval: std::time::Duration::from_secs(1),
        burst: requests,
    };
    let policy = |name: &str, of_client, of_all| {
        Change::TrafficPolicy(Box::new(TrafficPolicy {
            local_rate_limit: of_client,
            instance_rate_limit: of_all,
            ..TrafficPolicy::new(service(name, "10.96.0.1", 80).key)
        }))
    };
    let pod = WorkloadUid::from("pod");
    let to = |name: &str, address: &str, ports| {
        Change::Endpoint(endpoint(name, address, Some("pod"), ports))
    };
    let mesh = mesh([
        policy("a", Some(limit(10)), None),
        policy("b", Some(limit(20)), Some(limit(5))),
        policy("other", Some(limit(1)), Some(limit(1))),
        to("a", "10.0.1.1", (80, 8080)),
        to("a", "fd00::1", (80, 8080)),
        to("b", "10.0.1.1", (81, 8080)),
        to("without", "10.0.1.1", (80, 8080)),
        to("other", "10.0.1.1", (80, 9090)),
    ]);
    let limits = mesh.receiving_rate_limits(&pod, 8080);
    let named = |limits: &[(&NamespacedName, LocalRateLimit)]| -> Vec<_> {
        let each = limits.iter();
        each.map(|(service, limit)| (service.name.to_string(), *limit))
            .collect()
    };
    let [a, b] =
        [("a", 10), ("b", 20)].map(|(name, rate)| (name.to_owned(), limit(rate).with_room()));
    assert_eq!(named(&limits.of_client), [a, b]);
    assert_eq!(named(&limits.of_all), [("b".to_owned(), limit(5))]);
    assert_eq!(
        named(&mesh.receiving_rate_limits(&pod, 9090).of_client).len(),
        1
    );
    assert!(mesh.receiving_rate_limits(&pod, 7070).is_empty());
    let stranger = WorkloadUid::from("stranger");
    assert!(mesh.receiving_rate_limits(&stranger, 8080).is_empty());
}
