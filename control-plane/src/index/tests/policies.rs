//! TrafficPolicies among other objects.

use serde_json::json;

use weft_model::NamespacedName;

use super::*;
use crate::kinds::tests::read_live;
use crate::kinds::{ServiceObject, TrafficPolicyObject};

fn apply(index: &mut Index, object: Object) -> Vec<Change> {
    index.handle_event(Event::Applied(Origin::new(), object));
    index.changes()
}

fn service(cluster_ip: &str) -> Object {
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: web, namespace: shop }}\n\
         spec: {{ clusterIP: \"{cluster_ip}\", ports: [{{ port: 80 }}] }}\n"
    );
    parse(&text).unwrap().remove(0)
}

fn policy(name: &str, created: &str, spec: serde_json::Value) -> Object {
    let object = json!({
        "metadata": {
            "name": name, "namespace": "shop", "generation": 1,
            "creationTimestamp": format!("2026-01-{created}T00:00:00Z"),
        },
        "spec": spec,
    });
    let read = read_live::<TrafficPolicyObject>(TrafficPolicyObject::KIND, object);
    read.object.unwrap().into()
}

fn of_web() -> serde_json::Value {
    json!({ "targetRef": { "kind": "Service", "name": "web" } })
}

fn delete(index: &mut Index, kind: Kind, name: &str) -> Vec<Change> {
    let name = NamespacedName::new("shop", name);
    let key = ObjectKey { kind, name };
    index.handle_event(Event::Deleted(Origin::new(), key));
    index.changes()
}

fn reason(index: &Index, name: &str) -> &'static str {
    let status = index
        .policy_statuses()
        .get(&NamespacedName::new("shop", name));
    status.map_or("none", |status| status.reason)
}

#[test]
fn a_service_follows_the_oldest_policy_and_the_next_when_that_goes() {
    let mut index = Index::default();
    apply(&mut index, service("10.96.0.7"));
    apply(&mut index, policy("young", "03", of_web()));
    assert_eq!(reason(&index, "young"), "Accepted");
    let mut spec = of_web();
    spec["slowStart"] = json!("7s");
    let changes = apply(&mut index, policy("old", "02", spec));
    let [Change::TrafficPolicy(told)] = changes.as_slice() else {
        panic!("{changes:?}")
    };
    assert_eq!(told.slow_start, Some(std::time::Duration::from_secs(7)));
    assert_eq!(reason(&index, "young"), "Conflicted");
    assert_eq!(index.conflicts().count(), 1);
    delete(&mut index, TrafficPolicyObject::KIND, "old");
    assert_eq!(
        (reason(&index, "young"), reason(&index, "old")),
        ("Accepted", "none")
    );
    assert_eq!(index.conflicts().count(), 0);
    let web = NamespacedName::new("shop", "web");
    let changes = delete(&mut index, TrafficPolicyObject::KIND, "young");
    assert_eq!(changes, [Change::TrafficPolicyRemoved(web)]);
}

#[test]
fn a_policy_waits_for_its_service() {
    let mut index = Index::default();
    assert_eq!(apply(&mut index, policy("web", "01", of_web())), []);
    assert_eq!(reason(&index, "web"), "TargetNotFound");
    let changes = apply(&mut index, service("10.96.0.7"));
    assert!(matches!(
        changes.as_slice(),
        [Change::Service(_), Change::TrafficPolicy(_)]
    ));
    let changes = delete(&mut index, ServiceObject::KIND, "web");
    assert!(matches!(
        changes.as_slice(),
        [Change::TrafficPolicyRemoved(_), Change::ServiceRemoved(_)]
    ));
    assert_eq!(reason(&index, "web"), "TargetNotFound");
}

#[test]
fn what_the_mesh_chooses_nothing_for_follows_no_policy() {
    let mut index = Index::default();
    apply(&mut index, service("None"));
    assert_eq!(apply(&mut index, policy("web", "01", of_web())), []);
    assert_eq!(reason(&index, "web"), "UnsupportedTarget");
}

#[test]
fn an_invalid_policy_costs_itself_only() {
    let mut index = Index::default();
    apply(&mut index, service("10.96.0.7"));
    let mut spec = of_web();
    spec["slowStart"] = json!("soon");
    apply(&mut index, policy("bad", "01", spec));
    apply(&mut index, policy("nothing", "01", json!({})));
    let changes = apply(&mut index, policy("good", "02", of_web()));
    assert_eq!(changes.len(), 1);
    let reasons = ["bad", "nothing", "good"].map(|name| reason(&index, name));
    assert_eq!(reasons, ["Invalid", "Invalid", "Accepted"]);
}

#[test]
fn a_policy_that_turns_to_another_service_leaves_the_first() {
    let mut index = Index::default();
    apply(&mut index, service("10.96.0.7"));
    apply(&mut index, policy("web", "01", of_web()));
    let other = json!({ "targetRef": { "kind": "Service", "name": "api" } });
    let changes = apply(&mut index, policy("web", "01", other));
    assert!(matches!(
        changes.as_slice(),
        [Change::TrafficPolicyRemoved(_)]
    ));
    assert_eq!(reason(&index, "web"), "TargetNotFound");
}
