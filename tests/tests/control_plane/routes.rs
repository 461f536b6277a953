//! Routes of the Gateway API: what agents are told of them, and what their status says
//! of Services as parents.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use weft_tests::cluster::Binaries;
use weft_tests::wait_for;

use crate::bed::{Bed, ControlPlane, LIMIT};
use crate::webhook::register;

/// Where the definitions of the experimental channel are.
fn crds() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let crds = Binaries::gateway_api_crds(workspace).unwrap();
    crds.join("experimental")
}

fn install_gateway_api(bed: &Bed) {
    let crds = crds();
    let install = ["apply", "--server-side", "-k", crds.to_str().unwrap()];
    bed.kubectl().run(&install).unwrap();
}

/// Applies something whose kind may have been installed just now.
fn apply_when_served(bed: &Bed, object: &Value) {
    wait_for("the kind to be served", LIMIT, || {
        let applied = bed.kubectl().apply(&object.to_string());
        applied.map_err(|error| error.to_string())
    })
    .unwrap();
}

fn service(name: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "shop" },
        "spec": { "ports": [{ "port": 80 }] },
    })
    .to_string()
}

/// A route that is attached to port 80 of Service web, and to a Gateway.
fn route(kind: &str, rule: &Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": {
            "parentRefs": [
                { "group": "", "kind": "Service", "name": "web", "port": 80 },
                { "name": "edge" },
            ],
            "rules": [rule],
        },
    })
}

fn to(backend: &str) -> Value {
    json!({ "backendRefs": [{ "name": backend, "port": 80 }] })
}

/// `status.parents` of route web.
fn parents(bed: &Bed, kind: &str) -> Result<Vec<Value>, String> {
    let get = ["get", kind, "web", "-n", "shop"];
    let route = bed.kubectl().json(&get);
    let route = route.map_err(|error| error.to_string())?;
    let parents = route.pointer("/status/parents").and_then(Value::as_array);
    parents.cloned().ok_or_else(|| route.to_string())
}

/// The conditions Accepted and ResolvedRefs of what the mesh says of route web, once both
/// have these statuses and reasons.
fn conditions(
    bed: &Bed,
    control_plane: &ControlPlane,
    kind: &str,
    expected: [(&str, &str); 2],
) -> [Value; 2] {
    wait_for(&format!("{kind}: {expected:?}"), LIMIT, || {
        let parents = parents(bed, kind)?;
        let mut own = parents.iter();
        let own = own.find(|parent| parent["controllerName"] == "weft.dev/mesh");
        let own = own.ok_or_else(|| format!("{parents:?}; {}", control_plane.log()))?;
        assert_eq!(own["parentRef"]["name"], "web");
        let conditions = own["conditions"].as_array().unwrap();
        let of = |name: &str| {
            let mut conditions = conditions.iter();
            conditions
                .find(|condition| condition["type"] == name)
                .cloned()
        };
        let both = [of("Accepted").unwrap(), of("ResolvedRefs").unwrap()];
        let seen = both.each_ref().map(|one| (&one["status"], &one["reason"]));
        let as_expected = seen
            .iter()
            .zip(expected)
            .all(|(seen, (status, reason))| *seen == (&json!(status), &json!(reason)));
        as_expected.then_some(both).ok_or_else(|| own.to_string())
    })
    .unwrap()
}

/// Waits until agents are told of a route, or not any more.
fn wait_until_told(control_plane: &ControlPlane, name: &str, told: bool) {
    wait_for(&format!("{name} to be told: {told}"), LIMIT, || {
        let resource = control_plane.workload(name);
        (resource.is_some() == told)
            .then_some(())
            .ok_or_else(|| format!("{resource:?}"))
    })
    .unwrap();
}

/// Waits for an event on an object of a kind, and gives its message.
fn wait_for_event(bed: &Bed, kind: &str) -> String {
    wait_for("an event", LIMIT, || {
        let events = bed.kubectl().json(&["get", "events", "-n", "shop"]);
        let events = events.map_err(|error| error.to_string())?;
        let mut items = events["items"].as_array().into_iter().flatten();
        let event = items.find(|event| event["involvedObject"]["kind"] == kind);
        let event = event.ok_or_else(|| events.to_string())?;
        Ok(event["message"].as_str().unwrap_or_default().to_owned())
    })
    .unwrap()
}

const RESOLVED: (&str, &str) = ("True", "ResolvedRefs");

#[tokio::test(flavor = "multi_thread")]
async fn a_routes_status_follows_it_and_its_services_whenever_the_gateway_api_was_installed() {
    let bed = Bed::new();
    let control_plane = bed.start("a");
    bed.namespace("shop", &json!({}));
    install_gateway_api(&bed);
    apply_when_served(&bed, &route("HTTPRoute", &to("web")));
    let conditions = |expected| conditions(&bed, &control_plane, "httproute", expected);
    conditions([("False", "NoMatchingParent"), ("False", "BackendNotFound")]);
    bed.kubectl().apply(&service("web")).unwrap();
    let [accepted, _] = conditions([("True", "Accepted"), RESOLVED]);
    assert_eq!(accepted["observedGeneration"], 1);
    wait_until_told(&control_plane, "HTTPRoute/shop/web", true);

    let changed = route("HTTPRoute", &to("api"));
    bed.kubectl().apply(&changed.to_string()).unwrap();
    let [still, refs] = conditions([("True", "Accepted"), ("False", "BackendNotFound")]);
    assert_eq!(
        (&still["observedGeneration"], &refs["observedGeneration"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(still["lastTransitionTime"], accepted["lastTransitionTime"]);
    let message = refs["message"].as_str().unwrap();
    assert!(
        message.contains("spec.rules[0].backendRefs[0]: there is no Service shop/api"),
        "{message}"
    );
    bed.kubectl().apply(&service("api")).unwrap();
    conditions([("True", "Accepted"), RESOLVED]);
    bed.kubectl()
        .run(&["delete", "service", "web", "-n", "shop"])
        .unwrap();
    conditions([("False", "NoMatchingParent"), RESOLVED]);
    wait_until_told(&control_plane, "HTTPRoute/shop/web", false);
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_give_way_to_each_other_and_entries_of_others_stay() {
    let bed = Bed::new();
    bed.namespace("shop", &json!({}));
    install_gateway_api(&bed);
    bed.kubectl().apply(&service("web")).unwrap();
    apply_when_served(&bed, &route("TCPRoute", &to("web")));
    let theirs = json!({
        "controllerName": "example.com/gateway",
        "parentRef": { "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge" },
        "conditions": [{
            "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
            "lastTransitionTime": "2020-01-01T00:00:00Z",
        }],
    });
    let patch = json!({ "status": { "parents": [theirs] } }).to_string();
    let of_status = ["--subresource=status", "--type=merge", "-p", &patch];
    let patched = [
        ["patch", "tcproute", "web", "-n", "shop"].as_slice(),
        &of_status,
    ]
    .concat();
    bed.kubectl().run(&patched).unwrap();
    let control_plane = bed.start("a");
    let conditions = |kind, accepted| conditions(&bed, &control_plane, kind, [accepted, RESOLVED]);
    conditions("tcproute", ("True", "Accepted"));
    apply_when_served(&bed, &route("GRPCRoute", &to("web")));
    conditions("grpcroute", ("True", "Accepted"));
    let [lost, _] = conditions("tcproute", ("False", "Conflicted"));
    let message = lost["message"].as_str().unwrap();
    assert!(
        message.contains("GRPCRoute/shop/web counts instead"),
        "{message}"
    );
    assert_eq!(parents(&bed, "tcproute").unwrap()[0], theirs);
    bed.kubectl()
        .run(&["delete", "grpcroute", "web", "-n", "shop"])
        .unwrap();
    conditions("tcproute", ("True", "Accepted"));

    // Whoever has no Service as parent any more isn't spoken of.
    let mut elsewhere = route("TCPRoute", &to("web"));
    elsewhere["spec"]["parentRefs"] = json!([{ "name": "edge" }]);
    bed.kubectl().apply(&elsewhere.to_string()).unwrap();
    wait_for("only the other's entry", LIMIT, || {
        let parents = parents(&bed, "tcproute")?;
        (parents == [theirs.clone()])
            .then_some(())
            .ok_or_else(|| format!("{parents:?}"))
    })
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_follow_is_refused_at_admission_and_costs_its_route_alone_past_it() {
    let bed = Bed::new();
    bed.namespace("shop", &json!({}));
    install_gateway_api(&bed);
    bed.kubectl().apply(&service("web")).unwrap();
    apply_when_served(&bed, &route("TCPRoute", &to("web")));
    let control_plane = bed.start("a");
    let rule = json!({ "matches": [{ "path": { "type": "RegularExpression", "value": "/(" } }] });
    let bad = route("HTTPRoute", &rule);
    bed.kubectl().apply(&bad.to_string()).unwrap();
    let conditions = |kind, expected| conditions(&bed, &control_plane, kind, expected);
    let unsupported = [("False", "UnsupportedValue"), ("Unknown", "Pending")];
    let [accepted, _] = conditions("httproute", unsupported);
    let message = accepted["message"].as_str().unwrap();
    let field = "spec.rules[0].matches[0].path.value";
    assert!(message.contains(field), "{message}");
    wait_until_told(&control_plane, "TCPRoute/shop/web", true);
    wait_until_told(&control_plane, "HTTPRoute/shop/web", false);
    conditions("tcproute", [("True", "Accepted"), RESOLVED]);
    let event = wait_for_event(&bed, "HTTPRoute");
    assert!(event.contains(field), "{event}");

    register(&bed, &control_plane);
    let mut second = bad.clone();
    second["metadata"]["name"] = json!("second");
    let refused = bed.kubectl().apply(&second.to_string());
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains(field) && error.contains("not a regular expression"),
        "{error}"
    );
    // What a Gateway makes of it is its business.
    second["spec"]["parentRefs"] = json!([{ "name": "edge" }]);
    bed.kubectl().apply(&second.to_string()).unwrap();
    let mended = route("HTTPRoute", &to("web"));
    bed.kubectl().apply(&mended.to_string()).unwrap();
    conditions("httproute", [("True", "Accepted"), RESOLVED]);
    wait_until_told(&control_plane, "HTTPRoute/shop/web", true);
    conditions("tcproute", [("False", "Conflicted"), RESOLVED]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_grant_of_the_cluster_permits_and_its_end_refuses() {
    let bed = Bed::new();
    for namespace in ["shop", "bank"] {
        bed.namespace(namespace, &json!({}));
    }
    install_gateway_api(&bed);
    bed.kubectl().apply(&service("web")).unwrap();
    let ledger = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "ledger", "namespace": "bank" },
        "spec": { "ports": [{ "port": 80 }] },
    });
    bed.kubectl().apply(&ledger.to_string()).unwrap();
    let rule = json!({
        "backendRefs": [{ "name": "ledger", "namespace": "bank", "port": 80 }],
    });
    apply_when_served(&bed, &route("HTTPRoute", &rule));
    let control_plane = bed.start("a");
    let conditions = |refs| {
        let expected = [("True", "Accepted"), refs];
        conditions(&bed, &control_plane, "httproute", expected)
    };
    conditions(("False", "RefNotPermitted"));
    let from = json!({
        "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "shop",
    });
    let grant = json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
        "metadata": { "name": "from-shop", "namespace": "bank" },
        "spec": {
            "from": [from],
            "to": [{ "group": "", "kind": "Service", "name": "ledger" }],
        },
    });
    apply_when_served(&bed, &grant);
    conditions(RESOLVED);
    let delete = ["delete", "referencegrant", "from-shop", "-n", "bank"];
    bed.kubectl().run(&delete).unwrap();
    conditions(("False", "RefNotPermitted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_an_older_gateway_api_is_understood() {
    let bed = Bed::new();
    bed.namespace("shop", &json!({}));
    let path = crds().join("gateway.networking.k8s.io_tcproutes.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let mut definition: Value = serde_saphyr::from_str(&text).unwrap();
    // As before version 1.6, where the kind was an alpha.
    let versions = definition["spec"]["versions"].as_array_mut().unwrap();
    versions.retain(|version| version["name"] == "v1alpha2");
    let [version] = versions.as_mut_slice() else {
        panic!("{versions:?}")
    };
    version["storage"] = json!(true);
    version["served"] = json!(true);
    bed.kubectl().apply(&definition.to_string()).unwrap();
    bed.kubectl().apply(&service("web")).unwrap();
    let mut route = route("TCPRoute", &to("web"));
    route["apiVersion"] = json!("gateway.networking.k8s.io/v1alpha2");
    apply_when_served(&bed, &route);
    let control_plane = bed.start("a");
    conditions(
        &bed,
        &control_plane,
        "tcproute",
        [("True", "Accepted"), RESOLVED],
    );
    wait_until_told(&control_plane, "TCPRoute/shop/web", true);
}
