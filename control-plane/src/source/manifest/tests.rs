use proptest::prelude::*;
use weft_model::mtls::MtlsMode;
use weft_model::service::ServiceKind;

use super::*;
use crate::kinds::{PodObject, TargetPort};

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

fn complaint(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn a_pod_says_all_that_the_mesh_needs() {
    let pod = pod(POD);
    assert_eq!(pod.uid.as_str(), "shop/web");
    assert_eq!(
        (pod.node.as_str(), pod.service_account.as_str()),
        ("node-1", "web")
    );
    assert_eq!(pod.addresses.len(), 2);
    assert_eq!(
        (pod.mesh, pod.mtls_mode),
        (Some(true), Some(MtlsMode::Strict))
    );
    assert_eq!(pod.exclusions.ports, [3306, 6379]);
    assert_eq!(pod.exclusions.blocks.len(), 2);
    assert_eq!(pod.ports, [("http".to_owned(), 8080)]);
    assert!(pod.ready && !pod.ended && !pod.host_network);
}

#[test]
fn a_pod_that_goes_or_is_not_ready_is_no_ready_endpoint() {
    let leaving = POD.replace(
        "  name: web\n",
        "  name: web\n  deletionTimestamp: 2026-01-01T00:00:00Z\n",
    );
    assert!(!pod(&leaving).ready);
    let not_ready = format!("{POD}  conditions: [{{ type: Ready, status: 'False' }}]\n");
    assert!(!pod(&not_ready).ready);
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

#[test]
fn broken_yaml_names_its_document_and_line() {
    let error = complaint(&format!("{POD}---\nkind: [unclosed\n---\nkind: Pod\n"));
    assert!(error.starts_with("document 2: "), "{error}");
    assert!(error.contains("line"), "{error}");
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec:
  clusterIPs: [10.96.0.1, 'fd00:10:96::1']
  selector: { app: web }
  ports:
    - { name: http, port: 80, targetPort: http, appProtocol: http }
    - { name: dns, port: 53, protocol: UDP }
    - { name: admin, port: 9000 }
";

#[test]
fn a_service_keeps_its_tcp_ports_and_addresses() {
    let Object::Service(object) = parse(SERVICE).unwrap().remove(0) else {
        panic!()
    };
    let ServiceKind::ClusterIp(addresses) = &object.service.kind else {
        panic!()
    };
    assert_eq!(addresses.len(), 2);
    let targets = [
        (80, TargetPort::Name("http".into())),
        (9000, TargetPort::Number(9000)),
    ];
    assert_eq!(object.targets, targets);
    assert_eq!(&*object.service.hostname, "web.shop.svc.cluster.local");
}

#[test]
fn a_service_without_an_address_is_told_what_to_do() {
    let error = complaint(&SERVICE.replace("clusterIPs: [10.96.0.1, 'fd00:10:96::1']", ""));
    assert!(
        error.contains("spec.clusterIP: missing; a directory allocates none"),
        "{error}"
    );
    let headless = SERVICE.replace(
        "clusterIPs: [10.96.0.1, 'fd00:10:96::1']",
        "clusterIP: None",
    );
    let Object::Service(object) = parse(&headless).unwrap().remove(0) else {
        panic!()
    };
    assert_eq!(object.service.kind, ServiceKind::Headless);
}

#[test]
fn mesh_config_refuses_fields_that_it_does_not_know() {
    let config = |spec: &str| {
        format!(
            "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {{ name: default }}\nspec: {spec}\n"
        )
    };
    let Object::MeshConfig(object) = parse(&config(
        "{ trustDomain: example.org, mtls: { mode: Strict } }",
    ))
    .unwrap()
    .remove(0) else {
        panic!()
    };
    assert_eq!(object.mtls_mode, Some(MtlsMode::Strict));
    assert!(complaint(&config("{ mtls: { mod: Strict } }")).contains("spec.mtls"));
    assert!(complaint(&config("{ trustDomain: 'Not One' }")).contains("spec.trustDomain"));
}

#[test]
fn lists_are_opened_and_foreign_kinds_passed_over() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- { apiVersion: v1, kind: Namespace, metadata: { name: shop, labels: { weft.dev/mesh: enabled } } }\n- { apiVersion: v1, kind: ConfigMap, metadata: { name: x } }\n";
    let objects = parse(list).unwrap();
    assert!(matches!(&objects[..], [Object::Namespace(namespace)] if namespace.mesh == Some(true)));
    assert_eq!(parse("---\n---\n"), Ok(vec![]));
}

proptest! {
    #[test]
    fn no_text_panics(text in "[a-z:{}\\[\\]\\- \n'\"&*!|>#%@]{0,120}") {
        let _ = parse(&text);
    }
}
