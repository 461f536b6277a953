//! TrafficPolicies of a real API server: what it refuses, what agents are told, and what
//! the status says.

use serde_json::{Value, json};
use weft_proto::v1::{Resource, resource};
use weft_tests::wait_for;

use crate::bed::{Bed, LIMIT};

fn policy(name: &str, spec: &Value) -> String {
    let mut spec = spec.clone();
    if spec.get("targetRef").is_none() {
        spec["targetRef"] = json!({ "kind": "Service", "name": "web" });
    }
    json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "TrafficPolicy",
        "metadata": { "name": name, "namespace": "shop" }, "spec": spec,
    })
    .to_string()
}

fn service() -> String {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "clusterIP": "10.96.0.77", "ports": [{ "port": 80 }] },
    })
    .to_string()
}

fn wait_for_reason(bed: &Bed, name: &str, reason: &str) -> Value {
    let get = ["get", "trafficpol", name, "-n", "shop"];
    wait_for(&format!("{name} to be {reason}"), LIMIT, || {
        let object = bed.kubectl().json(&get);
        let object = object.map_err(|error| error.to_string())?;
        let condition = &object["status"]["conditions"][0];
        let current = condition["observedGeneration"] == object["metadata"]["generation"];
        match current && condition["reason"] == reason {
            true => Ok(condition.clone()),
            false => Err(condition.to_string()),
        }
    })
    .unwrap()
}

fn is_policy(resource: &Resource) -> bool {
    matches!(
        resource.resource,
        Some(resource::Resource::TrafficPolicy(_))
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_told_of_the_oldest_policy_of_a_service_and_every_author_of_his_own() {
    let bed = Bed::new();
    let control_plane = bed.start("a");
    bed.namespace("shop", &json!({}));
    let token = bed.agent_token("node-1");
    let agent = bed.agent(&control_plane, "node-1", &token).await;
    let mut stream = agent.subscribe().await.unwrap();
    stream.synchronize().await;

    let spec = json!({ "loadBalancer": { "type": "RoundRobin" }, "slowStart": "30s" });
    bed.kubectl().apply(&policy("first", &spec)).unwrap();
    wait_for_reason(&bed, "first", "TargetNotFound");
    bed.kubectl().apply(&service()).unwrap();
    let told = stream.changed(is_policy).await;
    assert_eq!(told.name, "shop/web");
    let Some(resource::Resource::TrafficPolicy(content)) = told.resource else {
        panic!("no policy")
    };
    assert_eq!(content.slow_start_us, Some(30_000_000));
    let accepted = wait_for_reason(&bed, "first", "Accepted");
    assert_eq!(accepted["status"], "True");

    // Ages are of whole seconds: of the same age, the name decides.
    bed.kubectl().apply(&policy("second", &json!({}))).unwrap();
    let refused = wait_for_reason(&bed, "second", "Conflicted");
    assert_eq!(refused["status"], "False");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("shop/first"), "{message}");
    // Columns: name, Service, balancer, accepted, reason, age.
    let table = ["get", "trafficpol", "-n", "shop", "--no-headers"];
    bed.kubectl()
        .wait("the table", LIMIT, &table, |text| {
            let first = text.lines().next().unwrap_or_default();
            let columns: Vec<_> = first.split_whitespace().collect();
            columns.starts_with(&["first", "web", "RoundRobin", "True", "Accepted"])
        })
        .unwrap();

    bed.kubectl()
        .run(&["delete", "trafficpol", "first", "-n", "shop"])
        .unwrap();
    wait_for_reason(&bed, "second", "Accepted");
    let told = stream.changed(is_policy).await;
    assert_eq!(told.name, "shop/web");
    bed.kubectl()
        .run(&["delete", "trafficpol", "second", "-n", "shop"])
        .unwrap();
    let gone = stream.removed("shop/web").await;
    assert_eq!(gone.kind(), weft_proto::v1::ResourceKind::TrafficPolicy);
}

/// Specs that the schema refuses, each with words of the reason.
fn meaningless() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({ "targetRef": { "kind": "Pod", "name": "web" } }),
            "supported values: \"Service\"",
        ),
        (
            json!({ "loadBalancer": { "type": "Maglev" } }),
            "spec.loadBalancer.type",
        ),
        (
            json!({ "loadBalancer": { "type": "ConsistentHash" } }),
            "what ConsistentHash goes by",
        ),
        (
            json!({ "loadBalancer": { "type": "ConsistentHash", "hash": {} } }),
            "spec.loadBalancer.hash",
        ),
        (json!({ "slowStart": "1 hour" }), "spec.slowStart"),
        (
            json!({ "limits": { "requests": -1 } }),
            "spec.limits.requests",
        ),
        (
            json!({ "circuitBreaker": { "probes": 1 } }),
            "what opens it",
        ),
        (json!({ "outlierDetection": {} }), "what ejects an endpoint"),
        (
            json!({ "retryBudget": { "percent": 101 } }),
            "retryBudget.percent",
        ),
        (json!({ "retry": { "codes": [200] } }), "spec.retry.codes"),
        (json!({ "faults": [{}] }), "either a delay or an abort"),
        (
            json!({ "faults": [{ "delay": "1s", "percent": 100.5 }] }),
            "percent",
        ),
        (
            json!({ "rateLimit": { "local": { "requests": 0 } } }),
            "spec.rateLimit.local.requests",
        ),
        (
            json!({ "rateLimit": { "global": { "domain": "d", "descriptors": [] } } }),
            "spec.rateLimit.global.descriptors",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_refuses_what_means_nothing() {
    let bed = Bed::new();
    bed.namespace("shop", &json!({}));
    for (spec, why) in meaningless() {
        let error = bed.kubectl().apply(&policy("web", &spec)).unwrap_err();
        assert!(error.to_string().contains(why), "{spec}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_refuses_what_the_schema_can_not() {
    let bed = Bed::new();
    let _control_plane = bed.start("a");
    bed.namespace("shop", &json!({}));
    bed.kubectl().apply(&service()).unwrap();
    let longer = json!({ "timeouts": { "request": "1s", "backendRequest": "2s" } });
    bed.kubectl().apply(&policy("web", &longer)).unwrap();
    let refused = wait_for_reason(&bed, "web", "Invalid");
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("spec.timeouts.backendRequest"),
        "{message}"
    );
    let shorter = json!({ "timeouts": { "request": "2s", "backendRequest": "1s" } });
    bed.kubectl().apply(&policy("web", &shorter)).unwrap();
    wait_for_reason(&bed, "web", "Accepted");
}
