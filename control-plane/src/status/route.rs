//! Routes of the Gateway API that are attached to Services (GEP-1294): the entry in their
//! status for each such parent.

use std::sync::Arc;

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use weft_model::NamespacedName;
use weft_model::route::{RouteKey, RouteKind};

use super::condition::{self, NewCondition, list};
use super::kind_status::KindStatus;
use crate::cluster::Cluster;
use crate::index::{Condition, RouteStatus};
use crate::kinds::Kind;

/// Our name in `status.parents[].controllerName`.
const CONTROLLER: &str = "weft.dev/mesh";

/// The status of one kind of routes: the index decides.
#[derive(Clone, Debug)]
pub(super) struct RouteStatuses {
    pub(super) kind: RouteKind,
    pub(super) cluster: Arc<Cluster>,
}

impl KindStatus for RouteStatuses {
    fn kind(&self) -> Kind {
        Kind::from(self.kind)
    }

    fn due(&self, route: &DynamicObject) -> Option<Value> {
        let namespace = route.namespace().unwrap_or_default();
        let name = NamespacedName::new(&namespace, &route.name_any());
        let kind = self.kind;
        let status = self.cluster.route_status(&RouteKey { kind, name });
        let parents = due(route, status.as_deref())?;
        Some(json!({ "parents": parents }))
    }
}

/// `status.parents` as it should be, when it is different.
fn due(route: &DynamicObject, status: Option<&RouteStatus>) -> Option<Value> {
    let services = list(route, "/spec/parentRefs")
        .into_iter()
        .filter(is_service);
    let services: Vec<_> = services.collect();
    let conditions: Vec<_> = match status {
        _ if services.is_empty() => Vec::new(),
        // Of another state of it: the other one comes as well.
        Some(status) if status.generation == route.metadata.generation => {
            let accepted = status.accepted.iter();
            accepted
                .map(|accepted| [accepted, &status.resolved])
                .collect()
        }
        Some(_) | None => return None,
    };
    let mut wanted: Vec<_> = services.into_iter().zip(conditions).collect();
    let before = list(route, "/status/parents");
    let generation = route.metadata.generation;
    let mut parents = Vec::new();
    for entry in &before {
        if entry["controllerName"] != CONTROLLER {
            parents.push(entry.clone());
            continue;
        }
        let mut refs = wanted.iter();
        if let Some(index) = refs.position(|(parent, _)| entry["parentRef"] == *parent) {
            let (parent, conditions) = wanted.remove(index);
            parents.push(entry_of(generation, parent, conditions, Some(entry)));
        }
    }
    for (parent, conditions) in wanted {
        parents.push(entry_of(generation, parent, conditions, None));
    }
    (parents != before).then_some(Value::Array(parents))
}

/// GEP-1294: a route of a mesh has Services as parents, whose group is empty.
fn is_service(parent: &Value) -> bool {
    parent["kind"] == "Service" && parent["group"] == ""
}

/// The types of a parent's conditions, in their order.
const CONDITIONS: [&str; 2] = ["Accepted", "ResolvedRefs"];

/// The entry of one parent. Conditions of other types stay as they were.
fn entry_of(
    generation: Option<i64>,
    parent: Value,
    new: [&Condition; 2],
    before: Option<&Value>,
) -> Value {
    let conditions = before.and_then(|before| before["conditions"].as_array());
    let mut conditions = conditions.cloned().unwrap_or_default();
    for (type_, known) in CONDITIONS.into_iter().zip(new) {
        let condition = NewCondition {
            type_,
            status: known.status,
            reason: known.reason,
            message: &known.message,
        };
        condition::set(&mut conditions, generation, &condition);
    }
    json!({
        "parentRef": parent,
        "controllerName": CONTROLLER,
        "conditions": conditions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(generation: i64, parents: &Value, status: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": { "name": "web", "namespace": "shop", "generation": generation },
            "spec": { "parentRefs": parents },
            "status": { "parents": status },
        }))
        .unwrap()
    }

    fn service(name: &str) -> Value {
        json!({ "group": "", "kind": "Service", "name": name, "port": 80 })
    }

    fn condition(status: bool, reason: &'static str) -> Condition {
        Condition {
            status: Some(status),
            reason,
            message: reason.to_lowercase(),
        }
    }

    fn status(generation: i64, accepted: &[bool]) -> RouteStatus {
        let accepted = accepted.iter().map(|status| condition(*status, "Because"));
        RouteStatus {
            generation: Some(generation),
            accepted: accepted.collect(),
            resolved: condition(true, "ResolvedRefs"),
        }
    }

    #[test]
    fn only_services_as_parents_are_spoken_of_and_others_entries_stay() {
        let gateway =
            json!({ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge" });
        let others = json!({ "parentRef": gateway, "controllerName": "example.com/gateway" });
        let parents = json!([service("web"), gateway, service("api")]);
        let route = route(3, &parents, &json!([others]));
        let due = due(&route, Some(&status(3, &[true, false]))).unwrap();
        assert_eq!(due[0], others);
        for (index, name, status) in [(1, "web", "True"), (2, "api", "False")] {
            assert_eq!(due[index]["parentRef"], service(name));
            assert_eq!(due[index]["controllerName"], CONTROLLER);
            let [accepted, resolved] = due[index]["conditions"].as_array().unwrap().as_slice()
            else {
                panic!("{due}")
            };
            assert_eq!(
                (&accepted["type"], &accepted["status"]),
                (&json!("Accepted"), &json!(status))
            );
            assert_eq!(
                (&accepted["reason"], &accepted["message"]),
                (&json!("Because"), &json!("because"))
            );
            assert_eq!(accepted["observedGeneration"], 3);
            assert_eq!(resolved["type"], "ResolvedRefs");
        }
        assert_eq!(due.as_array().unwrap().len(), 3);
    }

    #[test]
    fn what_is_said_once_is_not_said_again_until_it_changes() {
        let parents = json!([service("web")]);
        let said = due(&route(1, &parents, &json!([])), Some(&status(1, &[true]))).unwrap();
        assert_eq!(
            due(&route(1, &parents, &said), Some(&status(1, &[true]))),
            None
        );
        let mut old = said.clone();
        old[0]["conditions"][0]["lastTransitionTime"] = json!("2020-01-01T00:00:00Z");
        let time = |parents: &Value| parents[0]["conditions"][0]["lastTransitionTime"].clone();
        let changed = due(&route(2, &parents, &old), Some(&status(2, &[true]))).unwrap();
        assert_eq!(time(&changed), time(&old), "only its generation is another");
        let refused = due(&route(1, &parents, &old), Some(&status(1, &[false]))).unwrap();
        assert_ne!(time(&refused), time(&old));
        // Nor of a parent that isn't one any more.
        let gone = due(&route(2, &json!([]), &said), None).unwrap();
        assert_eq!(gone, json!([]));
        assert_eq!(due(&route(2, &json!([]), &json!([])), None), None);
    }

    #[test]
    fn nothing_is_said_of_a_state_that_was_not_judged_yet() {
        let route = route(2, &json!([service("web")]), &json!([]));
        assert_eq!(due(&route, None), None);
        assert_eq!(due(&route, Some(&status(1, &[true]))), None);
        assert!(due(&route, Some(&status(2, &[true]))).is_some());
    }

    #[test]
    fn conditions_of_others_in_an_entry_stay_where_they_are() {
        let parents = json!([service("web")]);
        let mut said = due(&route(1, &parents, &json!([])), Some(&status(1, &[true]))).unwrap();
        let other = json!({ "type": "Programmed", "status": "True" });
        let conditions = said[0]["conditions"].as_array_mut().unwrap();
        conditions.insert(0, other.clone());
        let due = due(&route(1, &parents, &said), Some(&status(1, &[false]))).unwrap();
        assert_eq!(due[0]["conditions"][0], other);
        assert_eq!(due[0]["conditions"][1]["status"], "False");
        assert_eq!(due[0]["conditions"].as_array().unwrap().len(), 3);
    }
}
