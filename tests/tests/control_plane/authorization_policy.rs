//! AuthorizationPolicies of a real API server: what it refuses, what agents are told, and what the
//! status says.

use serde_json::{Value, json};
use weft_proto::v1::{AuthorizationAction, Resource, resource};
use weft_tests::wait_for;

use crate::bed::{Bed, LIMIT};

fn policy(name: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "AuthorizationPolicy",
        "metadata": { "name": name, "namespace": "shop" }, "spec": spec,
    })
    .to_string()
}

fn wait_for_status(bed: &Bed, name: &str, reason: &str, workloads: u64) -> Value {
    let get = ["get", "authzpol", name, "-n", "shop"];
    wait_for(&format!("{name} to be {reason}"), LIMIT, || {
        let object = bed.kubectl().json(&get);
        let object = object.map_err(|error| error.to_string())?;
        let condition = &object["status"]["conditions"][0];
        let is_current = condition["observedGeneration"] == object["metadata"]["generation"];
        let has_count = object["status"]["workloads"] == workloads;
        match is_current && has_count && condition["reason"] == reason {
            true => Ok(condition.clone()),
            false => Err(object["status"].to_string()),
        }
    })
    .unwrap()
}

fn is_policy(resource: &Resource) -> bool {
    matches!(
        resource.resource,
        Some(resource::Resource::AuthorizationPolicy(_))
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_of_a_pod_is_told_of_its_authorization_policies_and_the_author_how_many_it_selects()
 {
    let bed = Bed::new();
    let control_plane = bed.start("a");
    bed.namespace("shop", &json!({ "weft.dev/mesh": "enabled" }));
    let token = bed.agent_token("node-1");
    let agent = bed.agent(&control_plane, "node-1", &token).await;
    let mut stream = agent.subscribe().await.unwrap();
    stream.synchronize().await;

    let spec = json!({
        "action": "DENY",
        "rules": [{ "from": [{ "namespaces": ["test"] }], "to": [{ "paths": ["/admin/{**}"] }] }],
    });
    bed.kubectl().apply(&policy("first", &spec)).unwrap();
    let accepted = wait_for_status(&bed, "first", "Accepted", 0);
    assert_eq!(accepted["status"], "True");
    bed.pod("shop", "web", "node-1", "default");
    let told = stream.changed(is_policy).await;
    assert_eq!(told.name, "shop/first");
    let Some(resource::Resource::AuthorizationPolicy(content)) = told.resource else {
        panic!("no policy")
    };
    assert_eq!(content.action(), AuthorizationAction::Deny);
    wait_for_status(&bed, "first", "Accepted", 1);

    let of_nothing = json!({ "targetRefs": [{ "kind": "Service", "name": "web" }] });
    bed.kubectl().apply(&policy("second", &of_nothing)).unwrap();
    let refused = wait_for_status(&bed, "second", "TargetNotFound", 0);
    assert_eq!(refused["status"], "False");
    bed.kubectl()
        .run(&["delete", "authzpol", "first", "-n", "shop"])
        .unwrap();
    let gone = stream.removed("shop/first").await;
    let kind = weft_proto::v1::ResourceKind::AuthorizationPolicy;
    assert_eq!(gone.kind(), kind);
}

/// Specs that the schema refuses, each with words of the reason.
fn meaningless() -> Vec<(Value, &'static str)> {
    let selector = json!({ "matchLabels": { "app": "web" } });
    let rule = |rule: Value| json!({ "rules": [rule] });
    vec![
        (json!({ "action": "CUSTOM" }), "supported values"),
        (
            json!({ "selector": selector, "targetRefs": [{ "kind": "Service", "name": "web" }] }),
            "not by both",
        ),
        (json!({ "targetRefs": [] }), "spec.targetRefs"),
        (rule(json!({ "from": [] })), "spec.rules[0].from"),
        (
            rule(json!({ "to": [{ "ports": [70000] }] })),
            "spec.rules[0].to[0].ports[0]",
        ),
        (
            rule(json!({ "when": [{ "claim": "a", "values": ["b"] }] })),
            "claim",
        ),
    ]
}

#[test]
fn an_authorization_policy_that_can_not_be_meant_is_refused_with_its_field() {
    let bed = Bed::new();
    bed.namespace("shop", &json!({}));
    for (spec, words) in meaningless() {
        let refused = bed.kubectl().apply(&policy("bad", &spec)).unwrap_err();
        let refused = refused.to_string();
        assert!(refused.contains(words), "{spec}: {refused}");
    }
}
