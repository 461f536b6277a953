mod access_log;
mod authorization_policies;
mod floor;
mod last_good;
mod network_policies;
mod policies;
mod request_authentications;
mod routes;

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;
use weft_model::NamespacedName;
use weft_model::mesh::Change;
use weft_model::mtls::MtlsMode;
use weft_model::service::Endpoint;
use weft_model::workload::{Enrolment, Workload};

use super::*;
use crate::kinds::ServiceAccountObject;
use crate::publish::Resources;
use crate::publish::resources::ResourceKey;
use crate::source::manifest::parse;

fn pod(name: &str, address: &str, extra: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: shop, labels: {{ app: web }}, annotations: {{ {extra} }} }}\n\
         spec: {{ nodeName: node-1, serviceAccountName: web, containers: [{{ name: c, ports: [{{ name: http, containerPort: 8080 }}] }}] }}\n\
         status: {{ podIPs: [{{ ip: {address} }}] }}\n"
    )
}

const NODE: &str = "---\napiVersion: v1\nkind: Node\nmetadata: { name: node-1, labels: { \
    topology.kubernetes.io/region: eu-west-1, topology.kubernetes.io/zone: eu-west-1a } }\n";

const ENABLED: &str = "weft.dev/mesh: enabled";
const SERVICE: &str = "---\napiVersion: v1\nkind: Service\nmetadata: { name: web, namespace: shop }\n\
    spec: { clusterIP: 10.96.0.1, selector: { app: web }, ports: [{ port: 80, targetPort: http }] }\n";

/// An index, and the resources that follow from it.
#[derive(Default)]
struct Bed {
    index: Index,
    resources: Resources,
}

impl Bed {
    fn apply(&mut self, origin: &str, text: &str) {
        for object in parse(text).unwrap() {
            self.index
                .handle_event(Event::Applied(origin.to_owned(), object));
        }
        self.settle();
    }

    fn delete(&mut self, origin: &str, text: &str) {
        for object in parse(text).unwrap() {
            self.index
                .handle_event(Event::Deleted(origin.to_owned(), object.key()));
        }
        self.settle();
    }

    /// What became different.
    fn settle(&mut self) -> Vec<Change> {
        let changes = self.index.changes();
        self.resources.apply(changes.clone());
        changes
    }

    fn changes(&self) -> Vec<Change> {
        let all = self.resources.after(None);
        all.map(|(_, versioned)| versioned.change.clone()).collect()
    }

    fn workloads(&self) -> Vec<Workload> {
        let workload = |change| match change {
            Change::Workload(workload) => Some(workload),
            _ => None,
        };
        self.changes().into_iter().filter_map(workload).collect()
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        let endpoint = |change| match change {
            Change::Endpoint(endpoint) => Some(endpoint),
            _ => None,
        };
        self.changes().into_iter().filter_map(endpoint).collect()
    }

    fn versions(&self) -> Vec<(ResourceKey, String)> {
        let all = self.resources.after(None);
        all.map(|(key, versioned)| (key.clone(), versioned.version.clone()))
            .collect()
    }

    fn conflicts(&self) -> Vec<String> {
        self.index.conflicts().map(ToString::to_string).collect()
    }
}

fn bed(files: &[(&str, &str)]) -> Bed {
    let mut bed = Bed::default();
    for (origin, text) in files {
        bed.apply(origin, text);
    }
    bed
}

#[test]
fn a_selector_makes_endpoints_of_ready_pods_on_their_named_port() {
    let text = format!(
        "{}{}{SERVICE}",
        pod("a", "10.0.0.1", ENABLED),
        pod("b", "10.0.0.2", "")
    );
    let endpoints = bed(&[("all.yaml", &text)]).endpoints();
    assert_eq!(endpoints.len(), 2);
    assert!(
        endpoints
            .iter()
            .all(|endpoint| endpoint.ports == [(80, 8080)] && endpoint.ready)
    );
}

#[test]
fn a_workload_is_where_its_node_is_whichever_comes_first() {
    let zone = |bed: &Bed| bed.workloads()[0].locality.zone.to_string();
    let pod = pod("a", "10.0.0.1", ENABLED);
    let mut bed = bed(&[("pod.yaml", &pod)]);
    assert_eq!(zone(&bed), "");
    bed.apply("node.yaml", NODE);
    assert_eq!(zone(&bed), "eu-west-1a");
    assert_eq!(&*bed.workloads()[0].locality.region, "eu-west-1");
    bed.apply("node.yaml", &NODE.replace("1a", "1b"));
    assert_eq!(zone(&bed), "eu-west-1b");
    // Another node is none of its business.
    bed.apply("other.yaml", &NODE.replace("node-1", "node-2"));
    assert!(bed.settle().is_empty());
    bed.delete("node.yaml", NODE);
    assert_eq!(zone(&bed), "");
}

#[test]
fn agents_know_the_nodes_and_whom_a_slice_means_its_endpoints_for() {
    let mut bed = bed(&[("node.yaml", NODE)]);
    let nodes = |bed: &Bed| {
        let node = |change| match change {
            Change::Node(node) => Some((node.name.to_string(), node.locality.zone.to_string())),
            _ => None,
        };
        bed.changes()
            .into_iter()
            .filter_map(node)
            .collect::<Vec<_>>()
    };
    let named = |zone: &str| [("node-1".to_owned(), zone.to_owned())];
    assert_eq!(nodes(&bed), named("eu-west-1a"));
    bed.apply("node.yaml", &NODE.replace("1a", "1b"));
    assert_eq!(nodes(&bed), named("eu-west-1b"));
    bed.delete("node.yaml", NODE);
    assert!(nodes(&bed).is_empty());
    let endpoint = "{ addresses: [192.0.2.1], hints: { forZones: [{ name: a }] } }";
    let slice = slice("one", "{ port: 9090 }", endpoint);
    bed.apply("web.yaml", &format!("{SERVICE}{slice}"));
    assert_eq!(*bed.endpoints()[0].hints.zones, ["a".into()]);
}

#[test]
fn an_identity_ends_with_its_service_account_where_all_of_them_are_listed() {
    let mut bed = bed(&[("pod.yaml", &pod("a", "10.0.0.1", ENABLED))]);
    let identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
    let may = |bed: &Bed| bed.index.authorize_certificate(&identity, "node-1");
    assert_eq!(may(&bed), Ok(()), "nobody lists them");
    bed.index
        .handle_event(Event::Replaced(ServiceAccountObject::KIND, vec![], vec![]));
    assert_eq!(may(&bed), Err(CertificateDenied::NoServiceAccount));
    let account = Object::ServiceAccount(ServiceAccountObject {
        key: NamespacedName::new("shop", "web"),
    });
    let applied = Event::Applied(Origin::new(), account.clone());
    bed.index.handle_event(applied);
    assert_eq!(may(&bed), Ok(()));
    assert_eq!(
        bed.index.authorize_certificate(&identity, "node-2"),
        Err(CertificateDenied::NoPod)
    );
    bed.index
        .handle_event(Event::Deleted(Origin::new(), account.key()));
    assert_eq!(may(&bed), Err(CertificateDenied::NoServiceAccount));
}

#[test]
fn an_endpoint_slice_wins_over_the_selector() {
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
        metadata: { name: web-1, namespace: shop, labels: { kubernetes.io/service-name: web } }\n\
        ports: [{ port: 9090 }]\nendpoints: [{ addresses: [10.0.0.2], targetRef: { kind: Pod, name: b } }, { addresses: [192.0.2.1], conditions: { ready: false } }]\n";
    let text = format!(
        "{}{}{SERVICE}{slice}",
        pod("a", "10.0.0.1", ""),
        pod("b", "10.0.0.2", "")
    );
    let endpoints = bed(&[("all.yaml", &text)]).endpoints();
    let described: Vec<_> = endpoints
        .iter()
        .map(|e| {
            (
                e.key.address.to_string(),
                e.workload.is_some(),
                e.ready,
                e.ports.clone(),
            )
        })
        .collect();
    let expected = [
        ("10.0.0.2".to_owned(), true, true, vec![(80, 9090)]),
        ("192.0.2.1".to_owned(), false, false, vec![(80, 9090)]),
    ];
    assert_eq!(described, expected);
}

#[test]
fn an_endpoint_is_the_pod_that_its_slice_names_at_an_address_of_that_pod_only() {
    let is_pod = |address: &str, target: &str| {
        let endpoint = format!(
            "{{ addresses: [{address}], nodeName: node-9, targetRef: {{ kind: Pod, {target} }} }}"
        );
        let slice = slice("one", "{ port: 9090 }", &endpoint);
        let text = format!("{}{SERVICE}{slice}", pod("b", "10.0.0.2", ""));
        let endpoints = bed(&[("all.yaml", &text)]).endpoints();
        let [endpoint] = &endpoints[..] else {
            panic!("{endpoints:?}")
        };
        assert_eq!(endpoint.workload.is_none(), &*endpoint.node == "node-9");
        endpoint.workload.is_some()
    };
    assert!(is_pod("10.0.0.2", "name: b"));
    assert!(is_pod("10.0.0.2", "name: b, namespace: shop"));
    assert!(
        !is_pod("192.168.77.2", "name: b, namespace: shop"),
        "another network's"
    );
    assert!(
        !is_pod("10.0.0.2", "name: b, namespace: other"),
        "another pod"
    );
    // Nothing is sent in plaintext because a slice is behind its pod.
    assert!(is_pod("10.0.0.1", "name: b, uid: of-the-one-before"));
}

#[test]
fn an_endpoint_ahead_of_its_pods_addresses_is_that_pod() {
    let endpoint = "{ addresses: [10.0.0.2], targetRef: { kind: Pod, name: b } }";
    let text = format!("{SERVICE}{}", slice("one", "{ port: 9090 }", endpoint));
    let mut bed = bed(&[("all.yaml", &text)]);
    assert!(bed.endpoints()[0].workload.is_none());
    for mut object in parse(&pod("b", "10.0.0.2", "")).unwrap() {
        if let Object::Pod(pod) = &mut object {
            pod.addresses.clear();
        }
        let applied = Event::Applied(Origin::new(), object);
        bed.index.handle_event(applied);
    }
    bed.settle();
    assert!(bed.endpoints()[0].workload.is_some());
}

#[test]
fn what_another_service_proxy_looks_after_is_left_to_it() {
    let named = |what: &str| {
        let label = "service.kubernetes.io/service-proxy-name: other";
        let labelled = what.replace("labels: {", &format!("labels: {{ {label},"));
        labelled.replace(
            "namespace: shop }",
            &format!("namespace: shop, labels: {{ {label} }} }}"),
        )
    };
    let own = slice("one", "{ port: 9090 }", "{ addresses: [192.0.2.1] }");
    let other = slice("two", "{ port: 9090 }", "{ addresses: [192.0.2.2] }");
    let both = bed(&[("all.yaml", &format!("{SERVICE}{own}{other}"))]);
    let services = |bed: &Bed| {
        let is_service = |change: &Change| matches!(change, Change::Service(_));
        bed.changes()
            .iter()
            .filter(|change| is_service(change))
            .count()
    };
    let text = format!("{SERVICE}{own}{}", named(&other));
    let endpoints = bed(&[("all.yaml", &text)]).endpoints();
    let [endpoint] = &endpoints[..] else {
        panic!("{endpoints:?}")
    };
    assert_eq!(endpoint.key.address, IpAddr::from([192, 0, 2, 1]));
    let theirs = bed(&[("all.yaml", &format!("{}{own}", named(SERVICE)))]);
    assert_eq!((services(&both), services(&theirs)), (1, 0));
    assert_eq!((both.endpoints().len(), theirs.endpoints().len()), (2, 0));
}

#[test]
fn a_slice_of_a_headless_service_serves_no_other() {
    let slice = slice("one", "{ port: 9090 }", "{ addresses: [192.0.2.1] }");
    let slice = slice.replace("labels: {", "labels: { service.kubernetes.io/headless: '',");
    let endpoints = |service: &str| {
        let text = format!("{service}{slice}");
        bed(&[("all.yaml", &text)]).endpoints().len()
    };
    assert_eq!(endpoints(SERVICE), 0);
    assert_eq!(endpoints(&SERVICE.replace("10.96.0.1", "None")), 1);
}

/// A slice of the Service `web`.
fn slice(name: &str, ports: &str, endpoints: &str) -> String {
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         metadata: {{ name: {name}, namespace: shop, labels: {{ kubernetes.io/service-name: web }} }}\n\
         ports: [{ports}]\nendpoints: [{endpoints}]\n"
    )
}

#[test]
fn an_address_in_two_slices_is_one_endpoint_and_as_good_as_the_better_one_says() {
    let endpoints = |slices: [String; 2]| {
        let service = SERVICE.replace(
            "ports: [{ port: 80, targetPort: http }]",
            "ports: [{ name: a, port: 80 }, { name: b, port: 81 }]",
        );
        let text = format!("{service}{}{}", slices[0], slices[1]);
        let endpoints = bed(&[("all.yaml", &text)]).endpoints();
        let of_address = |e: Endpoint| (e.key.address.to_string(), e.ports, e.ready);
        endpoints.into_iter().map(of_address).collect::<Vec<_>>()
    };
    let ready = "{ addresses: [192.0.2.1] }";
    let not_ready = "{ addresses: [192.0.2.1], conditions: { ready: false } }";
    let (a, b) = ("{ name: a, port: 8080 }", "{ name: b, port: 8081 }");
    let address = || "192.0.2.1".to_owned();
    for slices in [
        [slice("one", a, not_ready), slice("two", a, ready)],
        [slice("one", a, ready), slice("two", a, not_ready)],
    ] {
        assert_eq!(endpoints(slices), [(address(), vec![(80, 8080)], true)]);
    }
    let both = endpoints([slice("one", a, ready), slice("two", b, ready)]);
    assert_eq!(both, [(address(), vec![(80, 8080), (81, 8081)], true)]);
    let one = endpoints([slice("one", a, not_ready), slice("two", b, ready)]);
    assert_eq!(one, [(address(), vec![(81, 8081)], true)]);
}

#[test]
fn an_address_has_all_ports_that_slices_give_one_port_of_the_service() {
    let endpoints = |endpoints: [&str; 2]| {
        let one = slice("one", "{ port: 8080 }", endpoints[0]);
        let two = slice("two", "{ port: 8081 }", endpoints[1]);
        let endpoints = bed(&[("all.yaml", &format!("{SERVICE}{one}{two}"))]).endpoints();
        let [endpoint] = &endpoints[..] else {
            panic!("{endpoints:?}")
        };
        (endpoint.ports.clone(), endpoint.ready)
    };
    let ready = "{ addresses: [192.0.2.1] }";
    let not_ready = "{ addresses: [192.0.2.1], conditions: { ready: false } }";
    let leaving = "{ addresses: [192.0.2.1], conditions: { ready: false, serving: true, terminating: true } }";
    let (first, second) = ((80, 8080), (80, 8081));
    assert_eq!(endpoints([ready, ready]), (vec![first, second], true));
    assert_eq!(endpoints([leaving, leaving]), (vec![first, second], true));
    for worse in [not_ready, leaving] {
        assert_eq!(endpoints([ready, worse]), (vec![first], true));
        assert_eq!(endpoints([worse, ready]), (vec![second], true));
    }
    assert_eq!(endpoints([not_ready, leaving]), (vec![second], true));
    let none = (vec![first, second], false);
    assert_eq!(endpoints([not_ready, not_ready]), none);
}

#[test]
fn endpoints_on_their_way_out_serve_the_ports_that_no_other_serves() {
    let service = SERVICE.replace(
        "ports: [{ port: 80, targetPort: http }]",
        "ports: [{ name: a, port: 80 }, { name: b, port: 81 }]",
    );
    let leaving = "{ addresses: [192.0.2.1], conditions: { ready: false, serving: true, terminating: true } }";
    let (a, b) = ("{ name: a, port: 8080 }", "{ name: b, port: 8081 }");
    let both = slice("one", &format!("{a}, {b}"), leaving);
    let ready = slice("two", a, "{ addresses: [192.0.2.2] }");
    let text = format!("{service}{both}{ready}");
    let endpoints = bed(&[("all.yaml", &text)]).endpoints();
    let served: Vec<_> = endpoints.iter().map(|e| (&e.ports[..], e.ready)).collect();
    let expected: [(&[(u16, u16)], bool); 2] = [(&[(81, 8081)], true), (&[(80, 8080)], true)];
    assert_eq!(served, expected);
    // Clients that may use those of their node only get the other one, too.
    assert_eq!(endpoints[0].terminating_ports, [(80, 8080), (81, 8081)]);
}

#[test]
fn an_endpoint_without_a_pod_is_on_the_node_that_its_slice_says() {
    let here = "{ addresses: [192.0.2.1], nodeName: node-1 }";
    let pod_there =
        "{ addresses: [10.0.0.2], nodeName: node-1, targetRef: { kind: Pod, name: b } }";
    let slice = slice("one", "{ port: 9090 }", &format!("{here}, {pod_there}"));
    let text = format!("{}{SERVICE}{slice}", pod("b", "10.0.0.2", ""));
    let endpoints = bed(&[("all.yaml", &text)]).endpoints();
    let nodes: Vec<_> = endpoints.iter().map(|e| &*e.node).collect();
    assert_eq!(nodes, ["", "node-1"], "a pod's node goes with the pod");
}

#[test]
fn endpoints_on_their_way_out_serve_where_no_other_is_ready() {
    let ready = |endpoints: &str| {
        let slice = slice("web-1", "{ port: 9090 }", endpoints);
        let endpoints = bed(&[("all.yaml", &format!("{SERVICE}{slice}"))]).endpoints();
        let ready = endpoints.iter().filter(|endpoint| endpoint.ready);
        ready
            .map(|endpoint| endpoint.key.address.to_string())
            .collect::<Vec<_>>()
    };
    let leaving = "{ addresses: [192.0.2.1], conditions: { ready: false, serving: true, terminating: true } }";
    let gone = "{ addresses: [192.0.2.2], conditions: { ready: false, serving: false, terminating: true } }";
    let unsaid = "{ addresses: [192.0.2.3] }";
    let failing = "{ addresses: [192.0.2.4], conditions: { ready: false } }";
    let serve_while_terminating = |endpoints: &str| {
        let slice = slice("web-1", "{ port: 9090 }", endpoints);
        let endpoints = bed(&[("all.yaml", &format!("{SERVICE}{slice}"))]).endpoints();
        let serving = endpoints.iter().map(|e| !e.terminating_ports.is_empty());
        serving.collect::<Vec<_>>()
    };
    let said = serve_while_terminating(&format!("{leaving}, {gone}, {unsaid}, {failing}"));
    assert_eq!(said, [true, false, false, false]);
    assert_eq!(
        ready(&format!("{leaving}, {gone}, {failing}")),
        ["192.0.2.1"]
    );
    assert_eq!(ready(&format!("{leaving}, {unsaid}")), ["192.0.2.3"]);
    assert!(ready(&format!("{gone}, {failing}")).is_empty());
    let published = "{ addresses: [192.0.2.5], conditions: { ready: true, terminating: true } }";
    assert_eq!(ready(&format!("{leaving}, {published}")), ["192.0.2.5"]);
}

#[test]
fn a_pod_is_captured_only_once_its_own_node_says_so() {
    let mut bed = bed(&[("a.yaml", &pod("a", "10.0.0.1", ENABLED))]);
    assert_eq!(bed.workloads()[0].enrolment, Enrolment::Pending);
    let says = |node: &str| CapturedPods::from([("shop/a".into(), [node.into()].into())]);
    bed.index.set_captured(says("node-2"));
    bed.settle();
    assert_eq!(bed.workloads()[0].enrolment, Enrolment::Pending);
    bed.index.set_captured(says("node-1"));
    bed.settle();
    assert_eq!(bed.workloads()[0].enrolment, Enrolment::Captured);
    bed.apply("a.yaml", &pod("a", "10.0.0.1", ""));
    assert_eq!(bed.workloads()[0].enrolment, Enrolment::Outside);
    bed.apply("a.yaml", &pod("a", "10.0.0.1", ENABLED));
    bed.index.set_captured(CapturedPods::new());
    bed.settle();
    assert_eq!(bed.workloads()[0].enrolment, Enrolment::Pending);
}

#[test]
fn the_pod_wins_over_its_namespace_and_that_over_the_mesh() {
    let mesh = "---\napiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: { name: default }\nspec: { trustDomain: example.org, mtls: { mode: Strict } }\n";
    let namespace = "---\napiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { weft.dev/mesh: enabled }, annotations: { weft.dev/mtls-mode: permissive } }\n";
    let disabled = "weft.dev/mesh: disabled, weft.dev/mtls-mode: strict";
    let pods = format!(
        "{}{}",
        pod("a", "10.0.0.1", ""),
        pod("b", "10.0.0.2", disabled)
    );
    let all = bed(&[("m", mesh), ("n", namespace), ("p", &pods)]).workloads();
    assert_eq!(
        (all[0].enrolment, all[0].mtls_mode),
        (Enrolment::Pending, MtlsMode::Permissive)
    );
    assert_eq!(
        (all[1].enrolment, all[1].mtls_mode),
        (Enrolment::Outside, MtlsMode::Strict)
    );
    assert_eq!(
        all[0].identity.to_string(),
        "spiffe://example.org/ns/shop/sa/web"
    );
    let without = bed(&[("m", mesh), ("p", &pods)]).workloads();
    assert_eq!(
        (without[0].enrolment, without[0].mtls_mode),
        (Enrolment::Outside, MtlsMode::Strict)
    );
}

#[test]
fn two_pods_cannot_have_one_address_and_two_objects_not_one_name() {
    let files = [
        ("1.yaml", &*pod("a", "10.0.0.1", "")),
        ("2.yaml", &*pod("b", "10.0.0.1", "")),
        ("3.yaml", &*pod("a", "10.0.0.3", "")),
    ];
    let mut bed = bed(&files);
    let described = |bed: &Bed| -> Vec<_> {
        let all = bed.workloads();
        let described = all
            .iter()
            .map(|w| (w.name.to_string(), w.addresses.clone()));
        described.collect()
    };
    let at = |name: &str, address: &str| (name.to_owned(), vec![address.parse().unwrap()]);
    let nowhere = ("b".to_owned(), Vec::<IpAddr>::new());
    assert_eq!(described(&bed), [at("a", "10.0.0.1"), nowhere]);
    let texts = bed.conflicts();
    assert!(
        texts
            .iter()
            .any(|t| t.starts_with("2.yaml: Pod shop/b has the address 10.0.0.1"))
    );
    assert!(
        texts
            .iter()
            .any(|t| t.starts_with("3.yaml: Pod shop/a is also in 1.yaml"))
    );
    // Whoever waited moves up.
    bed.delete("1.yaml", files[0].1);
    assert_eq!(described(&bed), [at("a", "10.0.0.3"), at("b", "10.0.0.1")]);
    assert!(bed.conflicts().is_empty());
}

#[test]
fn a_pod_whose_address_another_one_lists_stays_in_the_mesh() {
    let strict = "weft.dev/mesh: enabled, weft.dev/mtls-mode: strict";
    let victim = pod("victim", "10.0.0.1", strict);
    // The newest has it, as of a pod that is ending and one that has got its address.
    let newer = "namespace: shop, creationTimestamp: '2026-01-01T00:00:00Z',";
    let thief = pod("thief", "10.0.0.1", "").replace("namespace: shop,", newer);
    let thief = thief.replace("node-1", "node-2");
    let bed = bed(&[("1.yaml", &victim), ("2.yaml", &thief)]);
    let all = bed.workloads();
    let found = all.iter().find(|workload| &*workload.name == "victim");
    let found = found.unwrap();
    assert_eq!(
        (found.enrolment, found.mtls_mode, found.addresses.len()),
        (Enrolment::Pending, MtlsMode::Strict, 0)
    );
    let conflicts = bed.conflicts();
    assert!(
        conflicts[0].contains("Pod shop/victim is not reached by it"),
        "{conflicts:?}"
    );
}

#[test]
fn a_change_costs_what_it_concerns_and_a_repetition_nothing() {
    let pods: Vec<_> = (1..100)
        .map(|n| pod(&format!("p{n}"), &format!("10.0.0.{n}"), ENABLED))
        .collect();
    let mut bed = bed(&[("pods", &pods.concat()), ("service", SERVICE)]);
    let objects = parse(&pods[7]).unwrap();
    for object in objects {
        bed.index
            .handle_event(Event::Applied("pods".into(), object));
    }
    assert_eq!(bed.settle(), []);
    let moved = pods[7].replace("10.0.0.8", "10.0.1.8");
    for object in parse(&moved).unwrap() {
        bed.index
            .handle_event(Event::Applied("pods".into(), object));
    }
    let changes = bed.settle();
    assert_eq!(
        changes.len(),
        3,
        "workload, new endpoint, old endpoint: {changes:?}"
    );
}

#[test]
fn a_relist_takes_away_what_is_gone_and_says_nothing_of_the_rest() {
    let objects = |names: &[u8]| {
        let texts = names
            .iter()
            .map(|n| pod(&format!("p{n}"), &format!("10.0.0.{n}"), ENABLED));
        parse(&texts.collect::<String>()).unwrap()
    };
    let mut bed = Bed::default();
    bed.index.handle_event(Event::Replaced(
        PodObject::KIND,
        objects(&[1, 2, 3]),
        vec![],
    ));
    assert_eq!(bed.settle().len(), 3);
    bed.index.handle_event(Event::Replaced(
        PodObject::KIND,
        objects(&[1, 3, 4]),
        vec![],
    ));
    let changes = bed.settle();
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert_eq!(
        changes[1],
        Change::WorkloadRemoved(WorkloadUid::from("shop/p2"))
    );
}

#[test]
fn a_pod_that_ended_or_uses_the_host_network_is_no_workload() {
    let ended = pod("a", "10.0.0.1", ENABLED).replace("status: {", "status: { phase: Succeeded,");
    let host = pod("b", "10.0.0.2", ENABLED).replace("spec: {", "spec: { hostNetwork: true,");
    let both = format!("{ended}{host}");
    assert_eq!(bed(&[("x", &both)]).workloads(), []);
}

#[test]
fn versions_follow_content_and_nothing_else() {
    let first = bed(&[("a", &pod("a", "10.0.0.1", "")), ("s", SERVICE)]);
    let again = format!("{SERVICE}{}", pod("a", "10.0.0.1", ""));
    assert_eq!(first.versions(), bed(&[("z", &again)]).versions());
    let changed = bed(&[("a", &pod("a", "10.0.0.2", "")), ("s", SERVICE)]);
    assert_ne!(first.versions(), changed.versions());
}

/// Documents that refer to each other in every way that there is.
fn document(choice: u8, n: u8) -> String {
    let slice = |service: &str, pod: u8| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
             metadata: {{ name: s{n}, namespace: shop, labels: {{ kubernetes.io/service-name: {service} }} }}\n\
             ports: [{{ port: 9090 }}]\nendpoints: [{{ addresses: [10.0.0.{pod}], targetRef: {{ kind: Pod, name: p{pod} }} }}]\n"
        )
    };
    let pod = |address: u8, extra| pod(&format!("p{n}"), &format!("10.0.0.{address}"), extra);
    let mode = if n.is_multiple_of(2) {
        "strict"
    } else {
        "permissive"
    };
    match choice {
        0 => pod(n, ENABLED),
        1 => pod(n, ""),
        // The address of another.
        2 => pod(n.saturating_sub(1), ENABLED),
        3 => pod(n, ENABLED).replace("status: {", "status: { phase: Failed,"),
        4 => pod(n, ENABLED).replace("metadata: {", "metadata: { uid: shared,"),
        5 => SERVICE.replace("name: web,", &format!("name: web{n},")),
        6 => slice(&format!("web{n}"), n),
        7 => slice("web1", n),
        8 => format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{ name: shop, labels: {{ weft.dev/mesh: enabled, mode: {mode} }}, annotations: {{ weft.dev/mtls-mode: {mode} }} }}\n"
        ),
        9 => format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{ name: policy{n}, namespace: shop }}\n\
             spec: {{ podSelector: {{}}, ingress: [{{ from: [{{ podSelector: {{}} }}, {{ namespaceSelector: {{ matchLabels: {{ mode: {mode} }} }} }}] }}] }}\n"
        ),
        _ => format!(
            "---\napiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {{ name: default }}\nspec: {{ mtls: {{ mode: {mode} }} }}\n"
        ),
    }
}

const PAY: &str = "---\napiVersion: weft.dev/v1alpha1\nkind: ExternalService\nmetadata: { name: pay, namespace: NAMESPACE }\n\
    spec: { hosts: [pay.example], ports: [{ number: 443, protocol: TLS }] }\n";

#[test]
fn external_services_come_change_and_go_and_those_of_the_mesh_are_for_everybody() {
    let told = |bed: &Bed| {
        let externals = bed.changes().into_iter().filter_map(|change| match change {
            Change::ExternalService(service) => {
                Some((service.key.to_string(), service.is_mesh_wide))
            }
            _ => None,
        });
        externals.collect::<Vec<_>>()
    };
    let (shop, own) = (
        PAY.replace("NAMESPACE", "shop"),
        PAY.replace("NAMESPACE", "weft-system"),
    );
    let mut bed = bed(&[("a.yaml", &format!("{shop}{own}"))]);
    let wanted = [
        ("shop/pay".to_owned(), false),
        ("weft-system/pay".to_owned(), true),
    ];
    assert_eq!(told(&bed), wanted);
    let before = bed.versions();
    bed.apply("a.yaml", &shop.replace("443", "8443"));
    assert_ne!(bed.versions(), before);
    bed.delete("a.yaml", &shop);
    assert_eq!(told(&bed), wanted[1..]);
}

#[test]
fn a_namespace_overrides_what_workloads_may_reach_outside() {
    use weft_model::egress::EgressMode::{AllowAny, RegisteredOnly};
    let mode = |bed: &Bed| bed.workloads()[0].egress_mode;
    let mut bed = bed(&[("pod.yaml", &pod("a", "10.0.0.1", ENABLED))]);
    assert_eq!(mode(&bed), AllowAny);
    let config = "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: { name: default }\n\
        spec: { egress: { mode: RegisteredOnly } }\n";
    bed.apply("config.yaml", config);
    assert_eq!(mode(&bed), RegisteredOnly);
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, annotations: { weft.dev/egress-mode: AllowAny } }\n";
    bed.apply("namespace.yaml", namespace);
    assert_eq!(mode(&bed), AllowAny);
    bed.delete("config.yaml", config);
    bed.apply(
        "namespace.yaml",
        &namespace.replace("AllowAny", "RegisteredOnly"),
    );
    assert_eq!(mode(&bed), RegisteredOnly);
    let error = parse(&namespace.replace("AllowAny", "allow")).unwrap_err();
    assert!(
        error.to_string().contains("weft.dev/egress-mode"),
        "{error}"
    );
}

#[test]
fn a_pod_overrides_what_it_takes_from_its_node_and_so_does_its_namespace() {
    let access = |bed: &Bed| bed.workloads()[0].node_access.to_string();
    let probing = |annotations: &str| {
        let pod = pod("a", "10.0.0.1", annotations);
        let probe = "name: c, livenessProbe: { tcpSocket: { port: 81 } },";
        pod.replacen("name: c,", probe, 1)
    };
    let mut bed = bed(&[("pod.yaml", &probing(ENABLED))]);
    assert_eq!(access(&bed), "tcp :81");
    let config = "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: { name: default }\n\
        spec: { mtls: { nodeAccess: all } }\n";
    bed.apply("config.yaml", config);
    assert_eq!(access(&bed), "all");
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, annotations: { weft.dev/node-access: probes } }\n";
    bed.apply("namespace.yaml", namespace);
    assert_eq!(access(&bed), "tcp :81");
    let all = format!("{ENABLED}, weft.dev/node-access: all");
    bed.apply("pod.yaml", &probing(&all));
    assert_eq!(access(&bed), "all");
    bed.apply("pod.yaml", &probing("weft.dev/mesh: disabled"));
    assert_eq!(
        access(&bed),
        "no probes",
        "nobody asks for those of pods outside"
    );
    let error = parse(&namespace.replace("access: probes", "access: ports")).unwrap_err();
    assert!(
        error.to_string().contains("weft.dev/node-access"),
        "{error}"
    );
}

#[test]
fn a_pod_overrides_how_long_connections_may_be_silent_and_so_does_its_namespace() {
    let hour = std::time::Duration::from_secs(3600);
    let limits = |bed: &Bed| {
        let limits = bed.workloads()[0].idle_limits;
        (limits.open, limits.half_closed)
    };
    let of_pod = |annotation: &str| {
        let pod = pod("a", "10.0.0.1", ENABLED);
        pod.replacen(
            "annotations: {",
            &format!("annotations: {{ {annotation},"),
            1,
        )
    };
    let mut bed = bed(&[("pod.yaml", &pod("a", "10.0.0.1", ENABLED))]);
    assert_eq!(limits(&bed), (None, None));
    let config = "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: { name: default }\n\
        spec: { connections: { idleTimeout: 2h, halfClosedTimeout: 1h } }\n";
    bed.apply("config.yaml", config);
    assert_eq!(limits(&bed), (Some(2 * hour), Some(hour)));
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, annotations: { weft.dev/idle-timeout: 1h } }\n";
    bed.apply("namespace.yaml", namespace);
    assert_eq!(limits(&bed), (Some(hour), Some(hour)));
    bed.apply("pod.yaml", &of_pod("weft.dev/idle-timeout: 0s"));
    assert_eq!(limits(&bed), (Some(hour - hour), Some(hour)));
    let error = parse(&namespace.replace("1h", "soon")).unwrap_err();
    assert!(
        error.to_string().contains("weft.dev/idle-timeout"),
        "{error}"
    );
}

proptest! {
    /// However objects came and went, and however that was told, only what is there
    /// now counts.
    #[test]
    fn history_does_not_matter(
        steps in prop::collection::vec((0usize..3, 0u8..11, 1u8..4, any::<bool>(), any::<bool>()), 0..40),
        captured in prop::collection::vec(1u8..4, 0..3),
    ) {
        let captured: CapturedPods = captured
            .iter()
            .map(|n| (WorkloadUid::from(format!("shop/p{n}").as_str()), ["node-1".into()].into()))
            .collect();
        let mut lived = Bed::default();
        let mut now = BTreeMap::new();
        for (origin, choice, n, delete, settle) in steps {
            let origin = format!("{origin}.yaml");
            for object in parse(&document(choice, n)).unwrap() {
                let key = object.key();
                if delete {
                    now.remove(&(origin.clone(), key.clone()));
                    lived.index.handle_event(Event::Deleted(origin.clone(), key));
                } else {
                    now.insert((origin.clone(), key), object.clone());
                    lived.index.handle_event(Event::Applied(origin.clone(), object));
                }
            }
            if settle {
                lived.settle();
                lived.index.set_captured(captured.clone());
            }
        }
        lived.index.set_captured(captured.clone());
        lived.settle();
        let mut fresh = Bed::default();
        fresh.index.set_captured(captured);
        for ((origin, _), object) in now.into_iter().rev() {
            fresh.index.handle_event(Event::Applied(origin, object));
        }
        fresh.settle();
        prop_assert_eq!(lived.changes(), fresh.changes());
        prop_assert_eq!(lived.conflicts(), fresh.conflicts());
        for workload in fresh.workloads() {
            let enrolled = lived.index.authorize_certificate(&workload.identity, &workload.node).is_ok();
            let expected = fresh.workloads().iter().any(|other| {
                other.identity == workload.identity && other.enrolment.is_enrolled()
            });
            prop_assert_eq!(enrolled, expected);
        }
    }
}
