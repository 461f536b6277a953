use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::*;
use crate::kinds::Object;
use crate::kinds::service::TargetPort;
use crate::kinds::tests::read_live;
use crate::source::manifest::parse;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  labels: { app: web, version: v1 }
  annotations:
    weft.dev/mesh: enabled
    weft.dev/mtls-mode: strict
    weft.dev/exclude-outbound-ports: '3306, 6379'
    weft.dev/exclude-outbound-cidrs: '10.0.0.0/8,fd00::/8'
spec:
  nodeName: node-1
  serviceAccountName: web
  containers: [{ name: web, ports: [{ name: http, containerPort: 8080 }] }]
status:
  podIPs: [{ ip: 10.244.1.3 }, { ip: 'fd00:10:244:1::3' }]
";

fn pod(text: &str) -> PodObject {
    match parse(text).unwrap().remove(0) {
        Object::Pod(pod) => pod,
        other => panic!("{other:?}"),
    }
}

#[test]
fn ports_of_sidecars_have_names_and_those_of_other_init_containers_do_not() {
    let text = POD.replace(
        "  containers:",
        "  initContainers:\n  - { name: side, restartPolicy: Always, ports: [\
           { name: metrics, containerPort: 9090 }, { name: http, containerPort: 9091 }] }\n  \
           - { name: first, ports: [{ name: init, containerPort: 9092 }] }\n  containers:",
    );
    let named = |name: &str| TargetPort::Name(name.to_owned()).of_pod(&pod(&text));
    assert_eq!(named("metrics"), Some(9090));
    assert_eq!(named("http"), Some(8080), "a container's own");
    assert_eq!(named("init"), None);
}

fn list(numbers: RangeInclusive<u8>, entry: impl Fn(u8) -> String) -> String {
    let entries: Vec<_> = numbers.map(entry).collect();
    entries.join(",")
}

fn complaint(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn a_pod_says_all_that_the_mesh_needs() {
    let pod = pod(POD);
    assert_eq!(pod.uid.as_str(), "shop/web");
    assert_eq!(
        (pod.node.as_str(), pod.service_account.as_deref()),
        ("node-1", Some("web"))
    );
    assert_eq!(pod.addresses.len(), 2);
    assert_eq!(
        (pod.wishes.mesh, pod.wishes.mtls_mode),
        (Some(true), Some(MtlsMode::Strict))
    );
    assert_eq!(pod.wishes.exclusions.ports, [3306, 6379]);
    assert_eq!(pod.wishes.exclusions.blocks.len(), 2);
    assert_eq!(pod.ports, [("http".to_owned(), 8080)]);
    assert_eq!(pod.readiness, Readiness::Ready);
    assert!(!pod.ended && !pod.host_network);
}

#[test]
fn a_pod_that_goes_or_is_not_ready_is_no_ready_endpoint() {
    let leaving = POD.replace(
        "  name: web\n",
        "  name: web\n  deletionTimestamp: 2026-01-01T00:00:00Z\n",
    );
    assert_eq!(pod(&leaving).readiness, Readiness::ServesWhileTerminating);
    let not_ready = format!("{POD}  conditions: [{{ type: Ready, status: 'False' }}]\n");
    assert_eq!(pod(&not_ready).readiness, Readiness::NotReady);
    assert!(pod(&format!("{POD}  phase: Succeeded\n")).ended);
}

#[test]
fn an_error_names_document_object_and_field() {
    let second = format!("{POD}---{}", POD.replace("10.244.1.3", "10.244.1.300"));
    let error = complaint(&second);
    assert!(
        error.contains("document 2 (Pod shop/web): field status.podIPs[0].ip"),
        "{error}"
    );
    let cases = [
        (POD.replace("nodeName: node-1", ""), "spec.nodeName"),
        (
            POD.replace("3306", "99999"),
            "weft.dev/exclude-outbound-ports",
        ),
        (
            POD.replace("3306", &list(1..=64, |port| port.to_string())),
            "field metadata.annotations[weft.dev/exclude-outbound-ports]: 65 entries, at most 64",
        ),
        (
            POD.replace("10.0.0.0/8", &list(1..=64, |n| format!("10.{n}.0.0/16"))),
            "field metadata.annotations[weft.dev/exclude-outbound-cidrs]: 65 entries, at most 64",
        ),
        (
            POD.replace("10.0.0.0/8", "10.0.0.1/8"),
            "did you mean 10.0.0.0/8",
        ),
        (
            POD.replace("mesh: enabled", "mesh: 'yes'"),
            "neither `enabled` nor `disabled`",
        ),
        (POD.replace("strict", "mutual"), "`permissive` or `strict`"),
        (
            POD.replace("containerPort: 8080", "containerPort: eighty"),
            "spec.containers[0].ports[0].containerPort",
        ),
        (POD.replace("kind: Pod", ""), "field kind: missing"),
    ];
    for (text, expected) in cases {
        let error = complaint(&text);
        assert!(error.contains(expected), "{expected} not in: {error}");
    }
}

fn live(change: impl FnOnce(&mut Value)) -> Read<PodObject> {
    let mut pod = json!({
        "metadata": { "name": "web", "namespace": "shop", "uid": "u-1", "annotations": {
            "weft.dev/netns": "/run/netns/other", "weft.dev/mtls-mode": "permissive",
        } },
        "spec": { "nodeName": "node-1", "containers": [] },
        "status": { "conditions": [{ "type": "weft.dev/Captured", "status": "True" }] },
    });
    change(&mut pod);
    read_live(PodObject::KIND, pod)
}

#[test]
fn a_live_pod_is_one_from_when_it_has_a_node() {
    let unscheduled = live(|pod| pod["spec"] = json!({ "containers": [] }));
    assert_eq!(unscheduled, Read::nothing());
    let pod = live(|_| {}).object.unwrap();
    assert_eq!(pod.readiness, Readiness::NotReady);
    assert!(pod.addresses.is_empty() && pod.captured);
    assert_eq!(pod.network_namespace, "", "no pod points at another's");
}

#[test]
fn a_mistake_of_a_live_pod_costs_what_it_is_made_in_and_never_its_protection() {
    let Read {
        object, problems, ..
    } = live(|pod| {
        pod["metadata"]["annotations"]["weft.dev/mtls-mode"] = json!("mutual");
    });
    assert_eq!(object.unwrap().wishes.mtls_mode, Some(MtlsMode::Strict));
    assert_eq!(problems.len(), 1, "{problems:?}");
}
