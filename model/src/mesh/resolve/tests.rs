use super::*;
use crate::fixtures::{endpoint, service, workload};
use crate::mesh::change::Change;
use crate::name::NamespacedName;
use crate::workload::WorkloadUid;

fn to(text: &str) -> OriginalDestination {
    OriginalDestination::new(text.parse().unwrap())
}

fn mesh(changes: impl IntoIterator<Item = Change>) -> Mesh {
    let mut mesh = Mesh::default();
    changes.into_iter().for_each(|change| mesh.apply(change));
    mesh
}

fn shop() -> Mesh {
    mesh([
        Change::Workload(workload("web-1", "10.0.1.1", "node-1")),
        Change::Workload(workload("web-2", "10.0.2.1", "node-2")),
        Change::Workload(Workload {
            enrolment: Enrolment::Outside,
            ..workload("old", "10.0.2.9", "node-2")
        }),
        Change::Service(service("web", "10.96.0.1", 80)),
        Change::Endpoint(endpoint("web", "10.0.1.1", Some("web-1"), (80, 8080))),
        Change::Endpoint(endpoint("web", "10.0.2.1", Some("web-2"), (80, 8080))),
    ])
}

#[test]
fn a_service_address_gives_its_endpoints_on_their_target_port() {
    let Ok(Resolution::Service {
        service,
        candidates,
        ..
    }) = shop().resolve("node-1", "default", to("10.96.0.1:80"))
    else {
        panic!("not a service")
    };
    assert_eq!(service.key.to_string(), "default/web");
    let found: Vec<_> = candidates
        .iter()
        .map(|c| (c.address.to_string(), &c.transport))
        .collect();
    assert_eq!(found[0].0, "10.0.1.1:8080");
    assert!(matches!(found[0].1, Transport::SameNode { .. }));
    assert_eq!(found[1].0, "10.0.2.1:8080");
    let Transport::Tunnel { gateway, workload } = found[1].1 else {
        panic!("no tunnel")
    };
    assert_eq!(gateway.to_string(), "10.0.2.1:15008");
    assert_eq!(workload.identity.service_account(), "web-2");
}

#[test]
fn a_port_of_a_service_leads_to_all_its_ports_at_an_endpoint() {
    let mut mesh = shop();
    mesh.apply(Change::Endpoint(Endpoint {
        ports: vec![(80, 8080), (81, 8082), (80, 8081)],
        ..endpoint("web", "10.0.2.1", Some("web-2"), (80, 8080))
    }));
    let service = mesh.service(&NamespacedName::new("default", "web"));
    let candidates = mesh.service_candidates("node-1", service.unwrap(), 80, true);
    let candidates = candidates.unwrap();
    let found: Vec<_> = candidates.iter().map(|c| c.address.to_string()).collect();
    assert_eq!(found, ["10.0.1.1:8080", "10.0.2.1:8080", "10.0.2.1:8081"]);
    for candidate in &candidates[1..] {
        let Transport::Tunnel { gateway, .. } = &candidate.transport else {
            panic!("{candidate:?}")
        };
        assert_eq!(gateway.to_string(), "10.0.2.1:15008");
    }
}

#[test]
fn a_service_with_local_traffic_only_is_reached_on_the_clients_node_or_not_at_all() {
    let mut mesh = shop();
    mesh.apply(Change::Service(Service {
        is_node_local: true,
        ..service("web", "10.96.0.1", 80)
    }));
    let addresses = |node: &str| match mesh.resolve(node, "default", to("10.96.0.1:80"))? {
        Resolution::Service { candidates, .. } => {
            Ok(candidates.iter().map(|c| c.address.to_string()).collect())
        }
        other => panic!("{other:?}"),
    };
    let on_node = |node: &str| -> Result<Vec<String>, Unroutable> { addresses(node) };
    assert_eq!(on_node("node-1").unwrap(), ["10.0.1.1:8080"]);
    assert_eq!(on_node("node-2").unwrap(), ["10.0.2.1:8080"]);
    let nowhere = on_node("node-3").unwrap_err();
    assert!(matches!(nowhere, Unroutable::NoEndpoints { .. }));
}

#[test]
fn local_traffic_goes_to_what_is_on_its_way_out_before_it_is_refused() {
    let local = Service {
        is_node_local: true,
        ..service("web", "10.96.0.1", 80)
    };
    let leaving = |ready: bool, terminating: &[(u16, u16)]| {
        Change::Endpoint(Endpoint {
            ready,
            terminating_ports: terminating.to_vec(),
            ..endpoint("web", "10.0.1.1", Some("web-1"), (80, 8080))
        })
    };
    let mut mesh = shop();
    mesh.apply(Change::Service(local));
    let resolved = |mesh: &Mesh, node| mesh.resolve(node, "default", to("10.96.0.1:80")).is_ok();
    for unusable in [&[][..], &[(81, 8081)]] {
        mesh.apply(leaving(false, unusable));
        assert!(!resolved(&mesh, "node-1"));
    }
    mesh.apply(leaving(false, &[(80, 8080)]));
    assert!(resolved(&mesh, "node-1") && resolved(&mesh, "node-2"));
    // Others go to the one that is ready.
    mesh.apply(Change::Service(service("web", "10.96.0.1", 80)));
    let Ok(Resolution::Service { candidates, .. }) =
        mesh.resolve("node-1", "default", to("10.96.0.1:80"))
    else {
        panic!("not a service")
    };
    assert_eq!(candidates.len(), 1);
    assert_eq!(candidates[0].address, "10.0.2.1:8080".parse().unwrap());
}

#[test]
fn an_endpoint_that_is_no_pod_is_local_to_the_node_that_it_names() {
    let node = "node-1".into();
    let outside = endpoint("web", "192.0.2.1", None, (80, 8080));
    let mesh = mesh([
        Change::Service(Service {
            is_node_local: true,
            ..service("web", "10.96.0.1", 80)
        }),
        Change::Endpoint(Endpoint { node, ..outside }),
    ]);
    assert!(
        mesh.resolve("node-1", "default", to("10.96.0.1:80"))
            .is_ok()
    );
    let elsewhere = mesh
        .resolve("node-2", "default", to("10.96.0.1:80"))
        .unwrap_err();
    assert!(matches!(elsewhere, Unroutable::NoEndpoints { .. }));
}

#[test]
fn a_pod_of_another_node_that_is_not_captured_is_no_reason_against_local_traffic() {
    let mut mesh = shop();
    mesh.apply(Change::Service(Service {
        is_node_local: true,
        ..service("web", "10.96.0.1", 80)
    }));
    mesh.apply(Change::Workload(Workload {
        enrolment: Enrolment::Pending,
        mtls_mode: MtlsMode::Strict,
        ..workload("web-1", "10.0.1.1", "node-1")
    }));
    let resolved = |node| {
        mesh.resolve(node, "default", to("10.96.0.1:80"))
            .unwrap_err()
    };
    assert!(matches!(
        resolved("node-1"),
        Unroutable::NotCapturedYet { .. }
    ));
    assert!(matches!(resolved("node-3"), Unroutable::NoEndpoints { .. }));
}

#[test]
fn a_service_is_reached_in_the_family_that_was_dialled_where_it_has_endpoints_of_it() {
    let mut mesh = shop();
    let sixth = endpoint("web", "fd00::1", Some("web-2"), (80, 8080));
    mesh.apply(Change::Endpoint(sixth.clone()));
    let addresses = |mesh: &Mesh| match mesh.resolve("node-1", "default", to("10.96.0.1:80")) {
        Ok(Resolution::Service { candidates, .. }) => candidates
            .iter()
            .map(|c| c.address.ip())
            .collect::<Vec<_>>(),
        other => panic!("not a service: {other:?}"),
    };
    let found = addresses(&mesh);
    assert!(
        found.len() == 2 && found.iter().all(std::net::IpAddr::is_ipv4),
        "{found:?}"
    );
    for address in ["10.0.1.1", "10.0.2.1"] {
        mesh.apply(Change::EndpointRemoved(
            endpoint("web", address, None, (80, 8080)).key,
        ));
    }
    assert_eq!(addresses(&mesh), [sixth.key.address]);
}

#[test]
fn a_pod_address_goes_to_that_pod_and_no_other() {
    let Ok(Resolution::Workload(candidate)) = shop().resolve("node-1", "default", to("10.0.2.1:9"))
    else {
        panic!("not a workload")
    };
    assert_eq!(candidate.address.to_string(), "10.0.2.1:9");
    assert!(matches!(candidate.transport, Transport::Tunnel { .. }));
}

#[test]
fn what_is_outside_the_mesh_goes_as_it_was_sent() {
    let mesh = shop();
    let Ok(Resolution::Workload(old)) = mesh.resolve("node-1", "default", to("10.0.2.9:80")) else {
        panic!("not a workload")
    };
    assert!(matches!(
        &old.transport,
        Transport::Plaintext { workload: Some(pod) } if *pod.name == *"old"
    ));
    let unknown = mesh.resolve("node-1", "default", to("192.0.2.1:443"));
    assert_eq!(
        unknown,
        Ok(Resolution::Unknown("192.0.2.1:443".parse().unwrap()))
    );
}

#[test]
fn a_service_without_the_port_or_without_ready_endpoints_is_refused() {
    let mut mesh = shop();
    assert!(matches!(
        mesh.resolve("node-1", "default", to("10.96.0.1:81")),
        Err(Unroutable::NoSuchPort { port: 81, .. })
    ));
    for address in ["10.0.1.1", "10.0.2.1"] {
        let endpoint = endpoint("web", address, None, (80, 8080));
        mesh.apply(Change::Endpoint(Endpoint {
            ready: false,
            ..endpoint
        }));
    }
    assert!(matches!(
        mesh.resolve("node-1", "default", to("10.96.0.1:80")),
        Err(Unroutable::NoEndpoints { .. })
    ));
}

#[test]
fn a_strict_pod_that_is_not_captured_yet_never_gets_plaintext() {
    let pending = Workload {
        enrolment: Enrolment::Pending,
        mtls_mode: MtlsMode::Strict,
        ..workload("late", "10.0.2.3", "node-2")
    };
    let mut mesh = mesh([Change::Workload(pending.clone())]);
    let refused = mesh.resolve("node-1", "default", to("10.0.2.3:80"));
    assert!(matches!(refused, Err(Unroutable::NotCapturedYet { .. })));
    mesh.apply(Change::Workload(Workload {
        mtls_mode: MtlsMode::Permissive,
        ..pending
    }));
    let Ok(Resolution::Workload(candidate)) = mesh.resolve("node-1", "default", to("10.0.2.3:80"))
    else {
        panic!("not a workload")
    };
    assert!(matches!(candidate.transport, Transport::Plaintext { .. }));
}

#[test]
fn a_ports_own_mode_says_how_it_is_reached() {
    let pod = |enrolment| Workload {
        enrolment,
        mtls_mode: MtlsMode::Strict,
        port_modes: "80=permissive,81=disabled".parse().unwrap(),
        ..workload("web", "10.0.2.3", "node-2")
    };
    let transport = |enrolment, node: &str, port: u16| {
        let mesh = mesh([Change::Workload(pod(enrolment))]);
        match mesh.resolve(node, "default", to(&format!("10.0.2.3:{port}"))) {
            Ok(Resolution::Workload(candidate)) => match candidate.transport {
                Transport::Plaintext { .. } => "plaintext",
                Transport::Tunnel { .. } => "tunnel",
                Transport::SameNode { .. } => "same node",
                Transport::Tls { .. } => "tls",
            },
            Err(Unroutable::NotCapturedYet { .. }) => "refused",
            other => panic!("{other:?}"),
        }
    };
    for (enrolment, node, transports) in [
        (
            Enrolment::Captured,
            "node-1",
            ["tunnel", "plaintext", "tunnel"],
        ),
        (
            Enrolment::Captured,
            "node-2",
            ["same node", "plaintext", "same node"],
        ),
        (
            Enrolment::Pending,
            "node-1",
            ["plaintext", "plaintext", "refused"],
        ),
    ] {
        let found = [80, 81, 82].map(|port| transport(enrolment, node, port));
        assert_eq!(found, transports, "{enrolment:?} from {node}");
    }
}

#[test]
fn an_endpoint_of_a_removed_pod_never_reaches_the_next_owner_of_its_address_as_a_tunnel() {
    let mut mesh = shop();
    mesh.apply(Change::WorkloadRemoved(WorkloadUid::from("web-2")));
    mesh.apply(Change::Workload(workload("intruder", "10.0.2.1", "node-2")));
    let Ok(Resolution::Service { candidates, .. }) =
        mesh.resolve("node-1", "default", to("10.96.0.1:80"))
    else {
        panic!("not a service")
    };
    let names: Vec<_> = candidates
        .iter()
        .filter_map(Candidate::workload)
        .map(|w| &*w.name)
        .collect();
    assert!(!names.contains(&"intruder"), "{names:?}");
}

#[test]
fn a_connection_is_kept_for_the_same_peer_whatever_its_labels() {
    let candidate = |mesh: &Mesh| {
        let address = "10.0.2.1:8080".parse().unwrap();
        mesh.candidate_for_address("node-1", address).unwrap()
    };
    let mut mesh = shop();
    let before = candidate(&mesh);
    let labelled = |enrolment, uid: &str| {
        let mut pod = workload(uid, "10.0.2.1", "node-2");
        pod.labels.version = "v2".into();
        Change::Workload(Workload { enrolment, ..pod })
    };
    mesh.apply(labelled(Enrolment::Captured, "web-2"));
    assert!(candidate(&mesh).reaches_same_peer(&before));
    mesh.apply(labelled(Enrolment::Outside, "web-2"));
    assert!(!candidate(&mesh).reaches_same_peer(&before), "in the clear");
    mesh.apply(labelled(Enrolment::Captured, "successor"));
    assert!(!candidate(&mesh).reaches_same_peer(&before), "someone else");
    let outside = Candidate::outside_mesh(before.address);
    assert!(!outside.reaches_same_peer(&before) && outside.reaches_same_peer(&outside));
}
