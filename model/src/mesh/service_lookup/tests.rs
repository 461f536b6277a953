use super::*;
use crate::external::{ExternalPort, ExternalProtocol, ExternalService};
use crate::fixtures::{endpoint, service, workload};
use crate::mesh::change::Change;
use crate::mesh::resolution::{Resolution, Transport};
use crate::node::Node;
use crate::workload::Locality;

fn to(text: &str) -> OriginalDestination {
    OriginalDestination::new(text.parse().unwrap())
}

/// A Service at 203.0.113.10 and port 30080 of every node.
fn exposed(name: &str, address: &str) -> Service {
    let mut exposed = service(name, address, 80);
    exposed.ports[0].node_port = Some(30_080);
    Service {
        external_addresses: vec!["203.0.113.10".parse().unwrap()],
        ..exposed
    }
}

/// A mesh with one node, and such a Service with an endpoint on another.
fn mesh() -> Mesh {
    let mut mesh = Mesh::default();
    mesh.apply(Change::Node(Node {
        name: "node-1".into(),
        locality: Locality::default(),
        addresses: vec!["10.99.0.1".parse().unwrap()],
    }));
    mesh.apply(Change::Service(exposed("web", "10.96.0.1")));
    mesh.apply(Change::Workload(workload("web-1", "10.0.2.1", "node-2")));
    let pod = endpoint("web", "10.0.2.1", Some("web-1"), (80, 8080));
    mesh.apply(Change::Endpoint(pod));
    mesh
}

/// The name and port of the Service that a destination stands for.
fn dialled(mesh: &Mesh, destination: &str) -> Option<(String, u16)> {
    let dialled = mesh.dialled_service("default", to(destination))?;
    Some((dialled.service.key.name.to_string(), dialled.port))
}

fn web() -> Option<(String, u16)> {
    Some(("web".to_owned(), 80))
}

#[test]
fn a_service_is_reached_by_its_external_addresses_and_its_ports_of_nodes() {
    let mesh = mesh();
    for destination in ["10.96.0.1:80", "203.0.113.10:80", "10.99.0.1:30080"] {
        assert_eq!(dialled(&mesh, destination), web(), "{destination}");
        let resolved = mesh.resolve("node-1", "default", to(destination));
        let Ok(Resolution::Service {
            port, candidates, ..
        }) = resolved
        else {
            panic!("{destination}: {resolved:?}")
        };
        assert_eq!(port, 80);
        assert_eq!(candidates[0].address, "10.0.2.1:8080".parse().unwrap());
        assert!(matches!(candidates[0].transport, Transport::Tunnel { .. }));
    }
    // Other ports are not the Service's, and other addresses no nodes'.
    for unknown in [
        "203.0.113.10:81",
        "10.99.0.1:80",
        "203.0.113.10:30080",
        "10.99.0.2:30080",
    ] {
        let resolved = mesh.resolve("node-1", "default", to(unknown));
        let unknown = to(unknown).address();
        assert_eq!(resolved, Ok(Resolution::Unknown(unknown)));
    }
}

#[test]
fn what_a_service_no_longer_has_leads_nowhere() {
    let mut mesh = mesh();
    mesh.apply(Change::Service(service("web", "10.96.0.1", 80)));
    assert_eq!(dialled(&mesh, "203.0.113.10:80"), None);
    assert_eq!(dialled(&mesh, "10.99.0.1:30080"), None);
    mesh.apply(Change::Service(exposed("web", "10.96.0.1")));
    assert_eq!(dialled(&mesh, "10.99.0.1:30080"), web());
    mesh.apply(Change::NodeRemoved("node-1".into()));
    assert_eq!(dialled(&mesh, "10.99.0.1:30080"), None);
    mesh.apply(Change::ServiceRemoved(exposed("web", "10.96.0.1").key));
    assert_eq!(dialled(&mesh, "203.0.113.10:80"), None);
}

#[test]
fn of_several_that_want_an_address_the_oldest_has_it() {
    let mut mesh = mesh();
    let created = |name: &str, address: &str, created: i64| {
        Change::Service(Service {
            created,
            ..exposed(name, address)
        })
    };
    mesh.apply(created("web", "10.96.0.1", 20));
    mesh.apply(created("newer", "10.96.0.2", 30));
    for destination in ["203.0.113.10:80", "10.99.0.1:30080"] {
        assert_eq!(dialled(&mesh, destination), web(), "{destination}");
    }
    mesh.apply(created("older", "10.96.0.3", 10));
    let older = Some(("older".to_owned(), 80));
    assert_eq!(dialled(&mesh, "203.0.113.10:80"), older);
    mesh.apply(Change::ServiceRemoved(exposed("older", "10.96.0.3").key));
    assert_eq!(dialled(&mesh, "203.0.113.10:80"), web());
    // They share an address by their ports.
    let mut other = exposed("other", "10.96.0.4");
    other.ports[0].port = 443;
    mesh.apply(Change::Service(other));
    let other = Some(("other".to_owned(), 443));
    assert_eq!(dialled(&mesh, "203.0.113.10:443"), other);
    assert_eq!(dialled(&mesh, "203.0.113.10:80"), web());
}

#[test]
fn no_service_takes_the_address_of_somebody_else() {
    let mut mesh = mesh();
    let address = |text: &str| text.parse().unwrap();
    let greedy = Service {
        external_addresses: vec![
            address("10.96.0.1"),
            address("10.0.2.1"),
            address("10.99.0.1"),
            address("198.51.100.1"),
        ],
        ..service("greedy", "10.96.0.9", 80)
    };
    mesh.apply(Change::Service(greedy));
    assert_eq!(dialled(&mesh, "10.96.0.1:80"), web(), "another Service's");
    assert_eq!(dialled(&mesh, "10.0.2.1:80"), None, "a pod's");
    assert_eq!(dialled(&mesh, "10.99.0.1:80"), None, "a node's");
    let greedy = Some(("greedy".to_owned(), 80));
    assert_eq!(dialled(&mesh, "198.51.100.1:80"), greedy);
    let external = ExternalService {
        addresses: vec!["198.51.100.0/24".parse().unwrap()],
        ..external()
    };
    mesh.apply(Change::ExternalService(external));
    assert_eq!(
        dialled(&mesh, "198.51.100.1:80"),
        None,
        "an external service's"
    );
    let elsewhere = mesh.dialled_service("bank", to("198.51.100.1:80"));
    assert!(elsewhere.is_some(), "which is there for its own namespace");
}

fn external() -> ExternalService {
    ExternalService {
        key: crate::name::NamespacedName::new("default", "partner"),
        is_mesh_wide: false,
        hosts: vec!["partner.example".parse().unwrap()],
        addresses: Vec::new(),
        ports: vec![ExternalPort {
            name: "".into(),
            number: 80,
            protocol: ExternalProtocol::Tcp,
            target_port: 80,
        }],
        endpoints: Vec::new(),
        tls: None,
    }
}

#[test]
fn an_endpoint_that_is_a_port_of_a_node_leads_to_its_service() {
    let mut mesh = mesh();
    for (name, address) in [("node-1", "10.99.0.1"), ("node-2", "10.99.0.2")] {
        mesh.apply(Change::Node(Node {
            name: name.into(),
            locality: Locality::default(),
            addresses: vec![address.parse().unwrap()],
        }));
        let chained = endpoint("chained", address, None, (80, 30_080));
        mesh.apply(Change::Endpoint(chained));
        let plain = endpoint("plain", address, None, (80, 9_100));
        mesh.apply(Change::Endpoint(plain));
    }
    let itself = endpoint("web", "10.99.0.1", None, (80, 30_080));
    mesh.apply(Change::Endpoint(itself));
    mesh.apply(Change::Service(service("chained", "10.96.0.2", 80)));
    mesh.apply(Change::Service(service("plain", "10.96.0.3", 80)));
    let reached = |address: &str| {
        let Ok(Resolution::Service { candidates, .. }) =
            mesh.resolve("node-1", "default", to(address))
        else {
            panic!("{address}")
        };
        let described = candidates.iter().map(|candidate| {
            let is_tunnel = matches!(candidate.transport, Transport::Tunnel { .. });
            (candidate.address.to_string(), is_tunnel)
        });
        described.collect::<Vec<_>>()
    };
    let pod = ("10.0.2.1:8080".to_owned(), true);
    // That Service has a node port of its own as an endpoint: it is followed once.
    let itself = ("10.99.0.1:30080".to_owned(), false);
    assert_eq!(reached("10.96.0.2:80"), [pod.clone(), itself]);
    assert_eq!(reached("10.96.0.1:80"), [pod]);
    let plain = ["10.99.0.1:9100", "10.99.0.2:9100"].map(|text| (text.to_owned(), false));
    assert_eq!(reached("10.96.0.3:80"), plain);
}
