use proptest::prelude::*;
use weft_model::mesh::Change;
use weft_model::policy::MtlsMode;
use weft_model::service::Endpoint;
use weft_model::workload::{Enrolment, Workload};

use super::*;
use crate::manifest::parse;

fn pod(name: &str, address: &str, extra: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: shop, labels: {{ app: web }}, annotations: {{ {extra} }} }}\n\
         spec: {{ nodeName: node-1, serviceAccountName: web, containers: [{{ name: c, ports: [{{ name: http, containerPort: 8080 }}] }}] }}\n\
         status: {{ podIPs: [{{ ip: {address} }}] }}\n"
    )
}

const ENABLED: &str = "weft.dev/mesh: enabled";
const SERVICE: &str = "---\napiVersion: v1\nkind: Service\nmetadata: { name: web, namespace: shop }\n\
    spec: { clusterIP: 10.96.0.1, selector: { app: web }, ports: [{ port: 80, targetPort: http }] }\n";

fn index(files: &[(&str, &str)]) -> Index {
    let mut index = Index::default();
    for (origin, text) in files {
        index.apply((*origin).to_owned(), parse(text).unwrap());
    }
    index
}

fn workloads(index: &Index) -> Vec<Workload> {
    index.compute().0.workloads().cloned().collect()
}

fn endpoints(index: &Index) -> Vec<Endpoint> {
    let resources = index.compute().0;
    let endpoint = |versioned: &Versioned| match &versioned.change {
        Change::Endpoint(endpoint) => Some(endpoint.clone()),
        _ => None,
    };
    resources
        .iter()
        .filter_map(|(_, versioned)| endpoint(versioned))
        .collect()
}

#[test]
fn a_selector_makes_endpoints_of_ready_pods_on_their_named_port() {
    let text = format!(
        "{}{}{SERVICE}",
        pod("a", "10.0.0.1", ENABLED),
        pod("b", "10.0.0.2", "")
    );
    let endpoints = endpoints(&index(&[("all.yaml", &text)]));
    assert_eq!(endpoints.len(), 2);
    assert!(
        endpoints
            .iter()
            .all(|endpoint| endpoint.ports == [(80, 8080)] && endpoint.ready)
    );
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
    let endpoints = endpoints(&index(&[("all.yaml", &text)]));
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
fn a_pod_is_captured_only_once_its_node_says_so() {
    let mut index = index(&[("a.yaml", &pod("a", "10.0.0.1", ENABLED))]);
    assert_eq!(workloads(&index)[0].enrolment, Enrolment::Pending);
    index.set_captured(HashSet::from([WorkloadUid::from("shop/a")]));
    assert_eq!(workloads(&index)[0].enrolment, Enrolment::Captured);
    index.apply("a.yaml".into(), parse(&pod("a", "10.0.0.1", "")).unwrap());
    assert_eq!(workloads(&index)[0].enrolment, Enrolment::Outside);
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
    let all = workloads(&index(&[("m", mesh), ("n", namespace), ("p", &pods)]));
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
    let without = workloads(&index(&[("m", mesh), ("p", &pods)]));
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
    let index = index(&files);
    let (resources, conflicts) = index.compute();
    assert_eq!(resources.workloads().count(), 1);
    let texts: Vec<_> = conflicts.iter().map(ToString::to_string).collect();
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
}

#[test]
fn a_pod_that_ended_or_uses_the_host_network_is_no_workload() {
    let ended = pod("a", "10.0.0.1", ENABLED).replace("status: {", "status: { phase: Succeeded,");
    let host = pod("b", "10.0.0.2", ENABLED).replace("spec: {", "spec: { hostNetwork: true,");
    assert_eq!(workloads(&index(&[("x", &format!("{ended}{host}"))])), []);
}

#[test]
fn versions_follow_content_and_nothing_else() {
    let first = index(&[("a", &pod("a", "10.0.0.1", "")), ("s", SERVICE)])
        .compute()
        .0;
    let again = index(&[("z", &format!("{SERVICE}{}", pod("a", "10.0.0.1", "")))])
        .compute()
        .0;
    let versions = |resources: &Resources| -> Vec<_> {
        resources
            .iter()
            .map(|(key, versioned)| (key.clone(), versioned.version.clone()))
            .collect()
    };
    assert_eq!(versions(&first), versions(&again));
    let changed = index(&[("a", &pod("a", "10.0.0.2", "")), ("s", SERVICE)])
        .compute()
        .0;
    assert_ne!(versions(&first), versions(&changed));
}

proptest! {
    /// However objects came and went, only what is there now counts.
    #[test]
    fn history_does_not_matter(steps in prop::collection::vec((0usize..3, prop::option::of(1u8..4)), 0..20)) {
        let mut index = Index::default();
        let mut now = BTreeMap::new();
        for (file, content) in steps {
            let origin = format!("{file}.yaml");
            match content {
                Some(n) => {
                    let text = pod(&format!("p{n}"), &format!("10.0.0.{n}"), ENABLED);
                    index.apply(origin.clone(), parse(&text).unwrap());
                    now.insert(origin, text);
                }
                None => {
                    index.delete(&origin);
                    now.remove(&origin);
                }
            }
        }
        let mut fresh = Index::default();
        for (origin, text) in now.iter().rev() {
            fresh.apply(origin.clone(), parse(text).unwrap());
        }
        prop_assert_eq!(workloads(&index), workloads(&fresh));
    }
}
