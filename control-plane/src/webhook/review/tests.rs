use serde_json::json;

use super::*;
use crate::inject::apply_patch;
use crate::kinds::ProxyMode;
use crate::source::manifest::parse as manifests;
use crate::source::{Event, Origin};

const SHOP: &str =
    "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {weft.dev/mesh: enabled}}}";

/// A cluster with these objects.
fn cluster(text: &str) -> Cluster {
    let cluster = Cluster::of_directory();
    let objects = manifests(text).unwrap().into_iter();
    let events = objects.map(|object| Event::Applied(Origin::new(), object));
    cluster.apply_events(events.collect());
    cluster
}

/// A reviewer who knows these objects, and injects sidecars where somebody asks for one.
fn reviewer(text: &str) -> Reviewer {
    reviewer_in_mode(text, ProxyMode::Auto)
}

fn reviewer_in_mode(text: &str, mode: ProxyMode) -> Reviewer {
    let injection = InjectionOptions::with_mode(mode);
    Reviewer {
        cluster: Arc::new(cluster(text).with_sidecars(injection.sidecars())),
        injection,
    }
}

fn review(object: Value, old: Option<Value>) -> Value {
    review_in(&reviewer(SHOP), object, old)
}

fn review_in(reviewer: &Reviewer, object: Value, old: Option<Value>) -> Value {
    let kind = object["kind"].clone();
    let version = object["apiVersion"].as_str().unwrap();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": { "group": group, "version": version, "kind": kind },
            "resource": { "group": group, "version": version, "resource": "things" },
            "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
            "userInfo": {}, "object": object, "oldObject": old,
            "namespace": object["metadata"]["namespace"],
        },
    });
    serde_json::to_value(validate(review.to_string().as_bytes(), reviewer)).unwrap()
}

fn pod(mode: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "generateName": "web-", "annotations": { "weft.dev/mtls-mode": mode } },
        "spec": { "containers": [] },
    })
}

#[test]
fn a_pod_that_no_node_was_chosen_for_is_checked_by_its_annotations() {
    assert_eq!(review(pod("strict"), None)["response"]["allowed"], true);
    let refused = review(pod("mutual"), None);
    assert_eq!(refused["response"]["allowed"], false);
    assert_eq!(refused["response"]["uid"], "u-1");
    let message = refused["response"]["status"]["message"].as_str().unwrap();
    assert!(message.contains("weft.dev/mtls-mode"), "{message}");
    assert!(message.contains("`permissive` or `strict`"), "{message}");
}

/// A pod that has kubelet ask 10.0.0.8 in its name.
fn probing(namespace: &str, mesh: Value) -> Value {
    let probe = json!({ "httpGet": { "path": "/", "port": 80, "host": "10.0.0.8" } });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "web", "namespace": namespace, "annotations": mesh },
        "spec": { "containers": [{ "name": "web", "readinessProbe": probe }] },
    })
}

#[test]
fn a_pod_of_the_mesh_that_has_somebody_else_probed_is_refused() {
    let (none, enabled) = (json!({}), json!({ "weft.dev/mesh": "enabled" }));
    for pod in [
        probing("shop", none.clone()),
        probing("elsewhere", enabled.clone()),
    ] {
        let refused = review(pod, None);
        assert_eq!(refused["response"]["allowed"], false);
        let message = refused["response"]["status"]["message"].as_str().unwrap();
        let field = "spec.containers[0].readinessProbe.httpGet.host";
        assert!(message.contains(field), "{message}");
    }
    let disabled = json!({ "weft.dev/mesh": "disabled" });
    let mut in_host_network = probing("shop", none.clone());
    in_host_network["spec"]["hostNetwork"] = json!(true);
    let allowed = [
        probing("elsewhere", none.clone()),
        probing("shop", disabled),
        in_host_network,
    ];
    for pod in allowed {
        assert_eq!(review(pod, None)["response"]["allowed"], true);
    }
    // Probes of a pod never change, and whoever labels one can't mend them.
    let old = probing("shop", none);
    assert_eq!(review(old.clone(), Some(old))["response"]["allowed"], true);
}

#[test]
fn a_key_that_is_misspelt_or_belongs_elsewhere_is_refused_with_the_right_one() {
    let with = |kind: &str, place: &str, key: &str| {
        let object = json!({
            "apiVersion": "v1", "kind": kind,
            "metadata": { "name": "shop", "namespace": "shop", place: { key: "strict" } },
            "spec": { "containers": [{ "name": "web", "image": "web" }] },
        });
        review(object, None)["response"].clone()
    };
    let refused = [
        ("Pod", "labels", "weft.dev/mesh", "an annotation of a Pod"),
        (
            "Pod",
            "annotations",
            "weft.dev/egress-mode",
            "an annotation of a Namespace",
        ),
        ("Pod", "annotations", "weft.dev/mtls", "weft.dev/mtls-mode"),
        (
            "Namespace",
            "annotations",
            "weft.dev/mesh",
            "a label of a Namespace",
        ),
        (
            "Namespace",
            "labels",
            "weft.dev/mtls-mode",
            "an annotation of a Namespace",
        ),
    ];
    for (kind, place, key, right) in refused {
        let answer = with(kind, place, key);
        assert_eq!(answer["allowed"], false, "{kind} {place} {key}");
        let message = answer["status"]["message"].as_str().unwrap();
        assert!(message.contains(right), "{message}");
    }
    assert_eq!(with("Pod", "labels", "app")["allowed"], true);
}

#[test]
fn an_old_mistake_keeps_nobody_from_changing_something_else() {
    let mut labelled = pod("mutual");
    labelled["metadata"]["labels"] = json!({ "app": "web" });
    let answer = review(labelled, Some(pod("mutual")));
    assert_eq!(answer["response"]["allowed"], true);
    let another = review(pod("encrypted"), Some(pod("mutual")));
    assert_eq!(another["response"]["allowed"], false);
}

#[test]
fn namespaces_and_mesh_configs_are_checked_too() {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "shop", "labels": { "weft.dev/mesh": "yes" } },
    });
    assert_eq!(review(namespace, None)["response"]["allowed"], false);
    let config = |domain: &str| {
        json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig",
            "metadata": { "name": "default" }, "spec": { "trustDomain": domain },
        })
    };
    assert_eq!(
        review(config("example.org"), None)["response"]["allowed"],
        true
    );
    assert_eq!(
        review(config("example_org/"), None)["response"]["allowed"],
        false
    );
    let external = |host: &str| {
        json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "ExternalService",
            "metadata": { "generateName": "pay-" },
            "spec": { "hosts": [host], "ports": [{ "number": 443, "protocol": "TLS" }] },
        })
    };
    assert_eq!(
        review(external("*.pay.example"), None)["response"]["allowed"],
        true
    );
    let refused = review(external("*"), None);
    let message = refused["response"]["status"]["message"].as_str().unwrap();
    assert!(message.contains("spec.hosts[0]"), "{message}");
}

fn route(parent: Value, rule: Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "generateName": "web-", "namespace": "shop" },
        "spec": { "parentRefs": [parent], "rules": [rule] },
    })
}

#[test]
fn routes_of_services_are_checked_for_what_their_schema_can_not_say() {
    let service = json!({ "group": "", "kind": "Service", "name": "web" });
    let refused = |rule: Value| review(route(service.clone(), rule), None)["response"].clone();
    let path = |kind: &str| json!([{ "path": { "type": kind, "value": "/a(" } }]);
    let answer = refused(json!({ "matches": path("RegularExpression") }));
    assert_eq!(answer["allowed"], false);
    let message = answer["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("spec.rules[0].matches[0].path.value"),
        "{message}"
    );
    let exposed = json!({ "exposeHeaders": ["*"], "allowCredentials": true });
    for rule in [
        json!({ "filters": [{ "type": "CORS", "cors": exposed }] }),
        json!({ "filters": [{ "type": "ExtensionRef", "extensionRef": {} }] }),
        json!({ "matches": [{ "path": { "type": "Exact", "value": "/a" } }], "filters": [{
            "type": "URLRewrite",
            "urlRewrite": { "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/" } },
        }] }),
    ] {
        assert_eq!(refused(rule.clone())["allowed"], false, "{rule}");
    }
    assert_eq!(
        refused(json!({ "matches": path("PathPrefix") }))["allowed"],
        true
    );
    // What isn't there may come yet.
    assert_eq!(
        refused(json!({ "backendRefs": [{ "name": "b" }] }))["allowed"],
        true
    );
    // What other people's Gateways do with it is their business.
    let gateway = json!({ "name": "edge" });
    let theirs = route(gateway, json!({ "matches": path("RegularExpression") }));
    assert_eq!(review(theirs, None)["response"]["allowed"], true);
}

#[test]
fn a_traffic_policy_is_refused_for_what_its_schema_can_not_say() {
    let policy = |timeout: &str| {
        json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "TrafficPolicy",
            "metadata": { "name": "web", "namespace": "shop" },
            "spec": {
                "targetRef": { "kind": "Service", "name": "web" },
                "timeouts": { "request": "1s", "backendRequest": timeout },
            },
        })
    };
    assert_eq!(review(policy("1s"), None)["response"]["allowed"], true);
    let refused = review(policy("2s"), None);
    assert_eq!(refused["response"]["allowed"], false);
    let message = refused["response"]["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("spec.timeouts.backendRequest"),
        "{message}"
    );
}

/// Somebody may have added them to the rules.
#[test]
fn kinds_that_ask_nothing_of_the_mesh_are_let_through_as_they_are() {
    for (version, kind) in [
        ("v1", "Service"),
        ("v1", "ServiceAccount"),
        ("v1", "Node"),
        ("v1", "ConfigMap"),
        ("discovery.k8s.io/v1", "EndpointSlice"),
    ] {
        let object = json!({
            "apiVersion": version, "kind": kind, "metadata": { "generateName": "web-" },
            "spec": { "ports": [{ "port": 80 }] }, "addressType": "IPv4", "endpoints": [],
        });
        assert_eq!(review(object, None)["response"]["allowed"], true, "{kind}");
    }
}

#[test]
fn what_is_no_review_is_refused_with_words() {
    let answer = validate(b"{}", &reviewer(""));
    let answer = serde_json::to_value(answer).unwrap();
    assert_eq!(answer["response"]["allowed"], false);
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(message.contains("AdmissionReview"), "{message}");
}

const MESH: &str = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { weft.dev/mesh: enabled } }\n---\n\
    apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: { name: default }\n\
    spec: { floor: { mtlsMode: strict, optOut: Forbidden, exclusions: { ports: ['3306'] } } }\n";

fn request(object: &Value, old: Option<&Value>) -> Vec<u8> {
    let kind = object["kind"].as_str().unwrap();
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "namespace": "shop", "name": "web",
            "kind": { "group": "", "version": "v1", "kind": kind },
            "resource": { "group": "", "version": "v1", "resource": "things" },
            "operation": if old.is_some() { "UPDATE" } else { "CREATE" },
            "userInfo": {}, "object": object, "oldObject": old,
        },
    });
    review.to_string().into_bytes()
}

fn pod_with(annotations: &Value, spec: &Value) -> Value {
    let metadata = json!({ "name": "web", "namespace": "shop", "annotations": annotations });
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec })
}

#[test]
fn wishes_below_the_floor_are_refused_by_the_name_of_their_field() {
    let reviewer = reviewer(MESH);
    let spec = json!({ "containers": [], "serviceAccountName": "web" });
    let answered = |annotations: Value, old: Option<&Value>| {
        let pod = pod_with(&annotations, &spec);
        let answer = validate(&request(&pod, old), &reviewer);
        let answer = serde_json::to_value(answer).unwrap();
        let status = &answer["response"]["status"]["message"];
        status.as_str().unwrap_or_default().to_owned()
    };
    for (name, value) in [
        ("weft.dev/mtls-mode", "permissive"),
        ("weft.dev/mesh", "disabled"),
        ("weft.dev/exclude-outbound-ports", "3306,5432"),
        ("weft.dev/exclude-outbound-cidrs", "0.0.0.0/0"),
    ] {
        let said = answered(json!({ name: value }), None);
        assert!(
            said.contains(&format!("metadata.annotations[{name}]")),
            "{said}"
        );
        let old = pod_with(&json!({ name: value }), &spec);
        assert_eq!(answered(json!({ name: value, "a": "b" }), Some(&old)), "");
    }
    assert_eq!(
        answered(json!({ "weft.dev/exclude-outbound-ports": "3306" }), None),
        ""
    );
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "shop", "annotations": { "weft.dev/mtls-mode": "permissive" } },
    });
    let answer = validate(&request(&namespace, None), &reviewer);
    assert!(
        !serde_json::to_value(answer).unwrap()["response"]["allowed"]
            .as_bool()
            .unwrap()
    );
}

#[test]
fn only_new_pods_that_are_to_be_in_the_mesh_get_the_readiness_gate_and_only_once() {
    let reviewer = reviewer(MESH);
    let patch = |object: &Value, old: Option<&Value>| {
        let answer = mutate(&request(object, old), &reviewer);
        assert!(answer.response.as_ref().unwrap().allowed);
        let patch = answer.response.unwrap().patch?;
        Some(serde_json::from_slice::<Value>(&patch).unwrap())
    };
    let spec = |more: Value| {
        let mut spec = json!({ "containers": [], "serviceAccountName": "web" });
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        spec
    };
    let gate = json!({ "conditionType": "weft.dev/Captured" });
    let plain = pod_with(&json!({}), &spec(json!({})));
    let added = json!([{ "op": "add", "path": "/spec/readinessGates", "value": [gate] }]);
    assert_eq!(patch(&plain, None), Some(added));
    assert_eq!(patch(&plain, Some(&plain)), None);
    let another = spec(json!({ "readinessGates": [{ "conditionType": "a.example/Ready" }] }));
    let added = json!([{ "op": "add", "path": "/spec/readinessGates/-", "value": gate }]);
    assert_eq!(patch(&pod_with(&json!({}), &another), None), Some(added));
    for outside in [
        pod_with(&json!({}), &spec(json!({ "readinessGates": [gate] }))),
        pod_with(&json!({}), &spec(json!({ "hostNetwork": true }))),
        pod_with(&json!({}), &json!({ "containers": [] })),
        pod_with(
            &json!({ "kubernetes.io/config.mirror": "1" }),
            &spec(json!({})),
        ),
    ] {
        assert_eq!(patch(&outside, None), None, "{outside}");
    }
    // The floor forbids it to leave, so it is in.
    let leaving = pod_with(&json!({ "weft.dev/mesh": "disabled" }), &spec(json!({})));
    assert!(patch(&leaving, None).is_some());
}

#[test]
fn a_pod_of_a_namespace_that_was_labelled_just_now_gets_its_gate() {
    // It has heard of no namespace yet.
    let reviewer = reviewer("");
    let spec = json!({ "containers": [], "serviceAccountName": "web" });
    let gated = |annotations: &Value, review: Review| {
        let answer = review(&request(&pod_with(annotations, &spec), None)[..], &reviewer);
        answer.response.unwrap().patch.is_some()
    };
    assert!(gated(&json!({}), mutate_in_mesh));
    assert!(!gated(&json!({}), mutate));
    let disabled = json!({ "weft.dev/mesh": "disabled" });
    assert!(!gated(&disabled, mutate_in_mesh));
}

/// What the additions of a review make of the pod.
fn injected(pod: &Value, reviewer: &Reviewer, review: Review) -> Value {
    let answer = review(&request(pod, None), reviewer).response.unwrap();
    assert!(answer.allowed, "{answer:?}");
    let mut pod = pod.clone();
    if let Some(patch) = answer.patch {
        apply_patch(&serde_json::from_slice(&patch).unwrap(), &mut pod);
    }
    pod
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    let containers = pod["spec"][list].as_array();
    let containers = containers.into_iter().flatten();
    let names = containers.map(|container| container["name"].as_str().unwrap().to_owned());
    names.collect()
}

#[test]
fn a_new_pod_gets_a_sidecar_where_its_mode_says_so_and_once() {
    let reviewer = reviewer(SHOP);
    let spec = json!({ "containers": [{ "name": "web" }], "serviceAccountName": "web" });
    let asking = pod_with(&json!({ "weft.dev/mode": "sidecar" }), &spec);
    let pod = injected(&asking, &reviewer, inject_in_mesh);
    assert_eq!(names(&pod, "initContainers"), ["weft-init", "weft-proxy"]);
    assert_eq!(injected(&pod, &reviewer, inject_in_mesh), pod);
    let not_asking = pod_with(&json!({}), &spec);
    assert_eq!(injected(&not_asking, &reviewer, inject_in_mesh), not_asking);
    // Nor does a change of one that is there.
    let update = inject(&request(&asking, Some(&asking)), &reviewer);
    assert!(update.response.unwrap().patch.is_none());
}

#[test]
fn a_pod_that_would_pass_its_sidecar_is_refused_with_the_field() {
    let reviewer = reviewer_in_mode(SHOP, ProxyMode::Sidecar);
    let web = json!({ "name": "web", "securityContext": { "runAsUser": 1337 } });
    let spec = json!({ "containers": [web], "serviceAccountName": "web" });
    let answer = inject(&request(&pod_with(&json!({}), &spec), None), &reviewer);
    let answer = serde_json::to_value(answer).unwrap();
    assert_eq!(answer["response"]["allowed"], false);
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("spec.containers[0].securityContext.runAsUser"),
        "{message}"
    );
}

#[test]
fn what_is_no_pod_is_neither_changed_nor_refused() {
    let reviewer = reviewer_in_mode(SHOP, ProxyMode::Sidecar);
    for object in [
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": {}, "spec": {} }),
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": { "containers": 7 } }),
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": {} }),
    ] {
        assert_eq!(injected(&object, &reviewer, inject_in_mesh), object);
    }
}

/// A container that can't become the proxy's user.
fn bound_spec() -> Value {
    let bound = json!({
        "runAsUser": 1000, "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
    });
    let web = json!({ "name": "web", "securityContext": bound });
    json!({ "containers": [web], "serviceAccountName": "web" })
}

#[test]
fn nobody_is_let_in_later_who_leads_around_a_sidecar_where_nobody_may_leave() {
    let reviewer = reviewer_in_mode(MESH, ProxyMode::Sidecar);
    let pod = pod_with(&json!({}), &bound_spec());
    let genuine = injected(&pod, &reviewer, inject_in_mesh);
    let mut debugged = genuine.clone();
    let answer = |debugged: &Value| {
        let answer = validate(&request(debugged, Some(&genuine)), &reviewer);
        serde_json::to_value(answer).unwrap()["response"].clone()
    };
    debugged["spec"]["ephemeralContainers"] = json!([{ "name": "debugger" }]);
    let refused = answer(&debugged);
    assert_eq!(refused["allowed"], false);
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(message.contains("spec.ephemeralContainers[0]"), "{message}");
    debugged["spec"]["ephemeralContainers"][0]["securityContext"] =
        debugged["spec"]["containers"][0]["securityContext"].clone();
    assert_eq!(answer(&debugged)["allowed"], true);
}

#[test]
fn where_nobody_may_leave_only_an_injected_sidecar_takes_the_agents_place() {
    let reviewer = reviewer_in_mode(MESH, ProxyMode::Sidecar);
    let refused = |pod: &Value| {
        let answer = validate(&request(pod, None), &reviewer);
        let answer = serde_json::to_value(answer).unwrap();
        let message = &answer["response"]["status"]["message"];
        message.as_str().map(str::to_owned)
    };
    let spec = bound_spec();
    let genuine = injected(&pod_with(&json!({}), &spec), &reviewer, inject_in_mesh);
    assert_eq!(refused(&genuine), None);
    let mut root = genuine.clone();
    root["spec"]["containers"][0]["securityContext"] = json!({ "runAsUser": 0 });
    let said = refused(&root).unwrap();
    assert!(said.contains("allowPrivilegeEscalation"), "{said}");
    let by_hand = json!({
        "containers": [{ "name": "weft-proxy", "image": "weft/sidecar:0.1.0" }],
        "serviceAccountName": "web",
    });
    let said = refused(&pod_with(&json!({}), &by_hand)).unwrap();
    assert!(said.contains("spec.floor.optOut"), "{said}");
    for (path, value) in [
        (
            "/spec/initContainers/1/image",
            json!("elsewhere/sidecar:0.1.0"),
        ),
        (
            "/spec/initContainers/0/args",
            json!(["init", "--exclude-outbound-cidrs=0.0.0.0/0"]),
        ),
        (
            "/spec/initContainers/0/args",
            json!(["init", "--exclude-inbound-ports=80"]),
        ),
        (
            "/spec/initContainers/0/args",
            json!(["init", "--exclude-inbound-cidrs=0.0.0.0/0"]),
        ),
    ] {
        let mut forged = genuine.clone();
        *forged.pointer_mut(path).unwrap() = value.clone();
        if path.ends_with("image") {
            *forged.pointer_mut("/spec/initContainers/0/image").unwrap() = value;
        }
        assert!(refused(&forged).is_some(), "{path}");
    }
    for (annotation, value) in [
        ("weft.dev/sidecar-image", "8080"),
        ("weft.dev/sidecar-capture", "tproxy"),
        ("weft.dev/exclude-inbound-ports", "8080"),
        ("weft.dev/exclude-inbound-cidrs", "192.0.2.0/24"),
    ] {
        let pod = pod_with(&json!({ annotation: value }), &spec);
        let said = refused(&pod).unwrap();
        assert!(said.contains(annotation), "{said}");
        // Nor is it followed where nobody refuses it.
        let pod = injected(&pod, &reviewer, inject_in_mesh);
        let init = &pod["spec"]["initContainers"][0];
        assert_eq!(init["image"], "weft/sidecar:0.1.0");
        assert_eq!(init["args"], json!(["init"]));
    }
}

#[test]
fn a_rule_that_looks_at_requests_on_a_port_without_any_is_refused_with_the_reason() {
    let reviewer = reviewer(
        "{apiVersion: v1, kind: Pod, metadata: {name: db, namespace: shop, labels: {app: db}}, \
         spec: {nodeName: n, containers: []}, status: {podIP: 10.0.0.1}}\n---\n\
         {apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, \
         spec: {clusterIP: 10.96.0.1, selector: {app: db}, ports: [{name: tcp, port: 5432}]}}",
    );
    let policy = |operation: Value| {
        json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "AuthorizationPolicy",
            "metadata": { "generateName": "db-", "namespace": "shop" },
            "spec": { "rules": [{ "to": [operation] }] },
        })
    };
    let refused = policy(json!({ "ports": [5432], "methods": ["GET"] }));
    let review = review_in(&reviewer, refused.clone(), None);
    assert_eq!(review["response"]["allowed"], false);
    let message = review["response"]["status"]["message"].as_str().unwrap();
    assert!(message.contains("spec.rules[0].to[0]"), "{message}");
    assert!(message.contains("port 5432 of pod shop/db"), "{message}");
    // One that is there can be labelled.
    let again = review_in(&reviewer, refused.clone(), Some(refused));
    assert_eq!(again["response"]["allowed"], true);
    for allowed in [json!({ "ports": [5432] }), json!({ "methods": ["GET"] })] {
        let review = review_in(&reviewer, policy(allowed), None);
        assert_eq!(review["response"]["allowed"], true, "{review}");
    }
    let unreadable = policy(json!({ "paths": ["no-path"] }));
    let review = review_in(&reviewer, unreadable, None);
    let message = review["response"]["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("spec.rules[0].to[0].paths[0]"),
        "{message}"
    );
}
