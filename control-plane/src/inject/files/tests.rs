use super::*;
use crate::inject::{Addition, injection as inject_pod};
use crate::kinds::ProxyMode;

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: shop }
spec:
  replicas: 2
  template:
    metadata: { labels: { app: web, answer: 'yes' } }
    spec: { containers: [{ name: web, image: web }] }
";

fn options() -> InjectionOptions {
    InjectionOptions::with_mode(ProxyMode::Sidecar)
}

fn inject(text: &str) -> Vec<Value> {
    let text = inject_text(text, "default", &options()).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

fn first_init(object: &Value, pod: &str) -> String {
    let name = object.pointer(&format!("{pod}/spec/initContainers/0/name"));
    name.and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[test]
fn every_kind_that_makes_pods_is_injected_and_nothing_else_is_touched() {
    for (kind, pod) in [
        ("Deployment", "/spec/template"),
        ("ReplicaSet", "/spec/template"),
        ("StatefulSet", "/spec/template"),
        ("DaemonSet", "/spec/template"),
        ("ReplicationController", "/spec/template"),
        ("Job", "/spec/template"),
        ("CronJob", "/spec/jobTemplate/spec/template"),
        ("PodTemplate", "/template"),
        ("Pod", ""),
    ] {
        let mut object = json!({ "kind": kind, "apiVersion": "v1", "metadata": { "name": "web" } });
        let mut at = &mut object;
        for part in pod.split('/').filter(|part| !part.is_empty()) {
            at[part] = json!({});
            at = &mut at[part];
        }
        at["spec"] = json!({ "containers": [{ "name": "web", "image": "web" }] });
        let injected = inject(&object.to_string());
        assert_eq!(first_init(&injected[0], pod), "weft-init", "{kind}");
    }
    let other =
        json!({ "kind": "ConfigMap", "apiVersion": "v1", "data": { "on": "yes", "n": "1" } });
    assert_eq!(inject(&other.to_string()), [other]);
}

#[test]
fn documents_and_lists_are_injected_one_by_one() {
    let list = json!({ "kind": "List", "apiVersion": "v1", "items": [
        { "kind": "Service", "apiVersion": "v1" },
        serde_saphyr::from_str::<Value>(DEPLOYMENT).unwrap(),
    ] });
    let text = format!("{DEPLOYMENT}---\n# nothing\n---\n{list}\n");
    let injected = inject(&text);
    assert_eq!(injected.len(), 2);
    assert_eq!(first_init(&injected[0], "/spec/template"), "weft-init");
    assert_eq!(
        first_init(&injected[1]["items"][1], "/spec/template"),
        "weft-init"
    );
    // Once is enough, and texts stay texts.
    let once = inject_text(&text, "default", &options()).unwrap();
    assert_eq!(inject_text(&once, "default", &options()).unwrap(), once);
    assert_eq!(
        injected[0]["spec"]["template"]["metadata"]["labels"]["answer"],
        "yes"
    );
}

#[test]
fn a_file_is_injected_as_the_webhook_injects_its_pods() {
    let injected = inject(DEPLOYMENT);
    let template = &injected[0]["spec"]["template"];
    let mut pod = serde_saphyr::from_str::<Value>(DEPLOYMENT).unwrap()["spec"]["template"].clone();
    pod["spec"]["serviceAccountName"] = json!("default");
    let object: DynamicObject = serde_json::from_value(pod.clone()).unwrap();
    let cluster = Cluster::of_directory();
    let admitted = cluster.admitted_pod("shop", &object, true).unwrap();
    let additions: Vec<Addition> = inject_pod("shop", &pod, &admitted, &options()).unwrap();
    for addition in additions {
        addition.apply(&mut pod);
    }
    readiness_gate(&pod.clone()).apply(&mut pod);
    for list in ["initContainers", "containers", "volumes", "readinessGates"] {
        assert_eq!(template["spec"][list], pod["spec"][list], "{list}");
    }
}

#[test]
fn what_the_file_says_of_namespaces_and_the_mesh_holds() {
    let outside = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n---";
    assert_eq!(
        first_init(
            &inject(&format!("{outside}{DEPLOYMENT}"))[1],
            "/spec/template"
        ),
        ""
    );
    let floor = "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: { name: default }\n\
                 spec: { floor: { optOut: Forbidden } }\n---";
    let asking = DEPLOYMENT.replace(
        "labels: {",
        "annotations: { weft.dev/sidecar-image: other }, labels: {",
    );
    let enrolled = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { weft.dev/mesh: enabled } }\n---";
    let error = inject_text(
        &format!("{floor}\n{enrolled}{asking}"),
        "default",
        &options(),
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("document 3 (Deployment web): "),
        "{error}"
    );
    assert!(error.contains("weft.dev/sidecar-image"), "{error}");
}

#[test]
fn a_mistake_names_document_object_and_field() {
    let wrong = DEPLOYMENT.replace(
        "labels: {",
        "annotations: { weft.dev/mode: both }, labels: {",
    );
    let error = inject_text(&format!("{DEPLOYMENT}---{wrong}"), "default", &options());
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("document 2 (Deployment web): "),
        "{error}"
    );
    assert!(
        error.contains("metadata.annotations[weft.dev/mode]"),
        "{error}"
    );
    let error = inject_text("a: [", "default", &options()).unwrap_err();
    assert!(matches!(error, FileError::Syntax(_)), "{error}");
}

#[test]
fn a_probe_of_somebody_else_is_refused_as_at_admission() {
    let probing = DEPLOYMENT.replace(
        "image: web }",
        "image: web, readinessProbe: { httpGet: { path: /, port: 80, host: 10.0.0.8 } } }",
    );
    let error = inject_text(&probing, "default", &options()).unwrap_err();
    let error = error.to_string();
    let field = "spec.containers[0].readinessProbe.httpGet.host";
    assert!(error.contains(field), "{error}");
    let outside = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n---";
    inject_text(&format!("{outside}{probing}"), "default", &options()).unwrap();
}
