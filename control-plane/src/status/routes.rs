//! What becomes of a route of the Gateway API that is attached to Services (GEP-1294):
//! what its status says of each such parent.
//!
//! The index decides; here it is written down. A route is watched once more for that, as
//! its status has to be read before it is written: other controllers have entries in it.

mod news;

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher::{self, DefaultBackoff, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use weft_model::NamespacedName;
use weft_model::route::{RouteKey, RouteKind};

use super::FIELD_MANAGER;
use crate::index::{Condition, RouteStatus};
use crate::kinds::Kind;
use crate::source::kubernetes::is_missing;
use crate::state::State;
pub(crate) use news::RouteNews;

/// Who speaks, in `status.parents[].controllerName`.
const CONTROLLER: &str = "weft.dev/mesh";
/// How often to look whether a kind that the cluster doesn't know was installed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How long to wait before what could not be written is tried again.
const WRITE_AGAIN: Duration = Duration::from_secs(10);

/// Follows all routes and writes what is thought of them. Never ends; one replica does it
/// at a time.
pub(crate) async fn keep_route_status(client: Client, state: Arc<State>) {
    let follow = |kind| follow(client.clone(), Arc::clone(&state), kind);
    futures_util::future::join_all(RouteKind::ALL.map(follow)).await;
}

/// Follows one kind, in whatever version the cluster has it.
async fn follow(client: Client, state: Arc<State>, kind: RouteKind) {
    loop {
        for resource in Kind::from(kind).resources() {
            let writer = Writer {
                client: client.clone(),
                state: Arc::clone(&state),
                kind,
                resource,
                routes: HashMap::new(),
                unwritten: BTreeSet::new(),
            };
            writer.write_while_there().await;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Writes the status of the routes of one kind.
struct Writer {
    client: Client,
    state: Arc<State>,
    kind: RouteKind,
    resource: ApiResource,
    /// As they were last seen.
    routes: HashMap<NamespacedName, DynamicObject>,
    /// Routes whose status could not be written.
    unwritten: BTreeSet<NamespacedName>,
}

impl Writer {
    /// Ends when the cluster doesn't have the kind in this version.
    async fn write_while_there(mut self) {
        let api = Api::<DynamicObject>::all_with(self.client.clone(), &self.resource);
        let watch = watcher(api, watcher::Config::default());
        let mut watch = pin!(StreamBackoff::new(watch, DefaultBackoff::default()));
        let mut news = self.state.route_news().subscribe();
        // Whoever led before may have left some.
        news.mark_changed();
        let mut failing = false;
        loop {
            let names = tokio::select! {
                event = watch.next() => match event {
                    None => return,
                    // Most clusters have the Gateway API, and need not.
                    Some(Err(error)) if is_missing(&error) => return,
                    Some(Err(error)) => {
                        if !std::mem::replace(&mut failing, true) {
                            tracing::warn!(kind = %self.kind, %error, "can't watch routes");
                        }
                        continue;
                    }
                    Some(Ok(event)) => {
                        failing = false;
                        self.see(event).into_iter().collect()
                    }
                },
                // Never an error: the state has the sender.
                _ = news.changed() => self.state.route_news().take(self.kind),
                () = tokio::time::sleep(WRITE_AGAIN), if !self.unwritten.is_empty() => {
                    std::mem::take(&mut self.unwritten)
                }
            };
            for name in names {
                self.write(name).await;
            }
        }
    }

    /// Takes in what became of routes; the name of the one whose status is to be looked
    /// at.
    fn see(&mut self, event: watcher::Event<DynamicObject>) -> Option<NamespacedName> {
        match event {
            watcher::Event::Apply(route) | watcher::Event::InitApply(route) => {
                let name = name_of(&route);
                self.routes.insert(name.clone(), route);
                Some(name)
            }
            watcher::Event::Delete(route) => {
                self.routes.remove(&name_of(&route));
                None
            }
            watcher::Event::Init => {
                self.routes.clear();
                None
            }
            watcher::Event::InitDone => None,
        }
    }

    /// Writes what is thought of a route, when its status says something else. The list
    /// has one writer at a time, by the version of what was read.
    async fn write(&mut self, name: NamespacedName) {
        let key = RouteKey {
            kind: self.kind,
            name,
        };
        let judgement = self.state.judgement(&key);
        let RouteKey { name, .. } = key;
        let Some(route) = self.routes.get(&name) else {
            return;
        };
        let Some(parents) = due(route, judgement.as_deref()) else {
            return;
        };
        let api = Api::<DynamicObject>::namespaced_with(
            self.client.clone(),
            &name.namespace,
            &self.resource,
        );
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": route.resource_version() },
            "status": { "parents": parents },
        }));
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..Default::default()
        };
        match api.patch_status(&name.name, &parameters, &patch).await {
            Ok(_) => {}
            // It was changed meanwhile, and comes again; or it is gone.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => {
                tracing::warn!(kind = %self.kind, %name, %error, "can't write the status of a route");
                self.unwritten.insert(name);
            }
        }
    }
}

fn name_of(route: &DynamicObject) -> NamespacedName {
    NamespacedName::new(&route.namespace().unwrap_or_default(), &route.name_any())
}

/// `status.parents` as it should be, when it is different.
fn due(route: &DynamicObject, judgement: Option<&RouteStatus>) -> Option<Value> {
    let list = |path: &str| {
        let list = route.data.pointer(path).and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let services = list("/spec/parentRefs").into_iter().filter(is_service);
    let services: Vec<_> = services.collect();
    let verdicts: Vec<_> = match judgement {
        _ if services.is_empty() => Vec::new(),
        // Of another state of it: the other one comes as well.
        Some(judgement) if judgement.generation == route.metadata.generation => {
            let accepted = judgement.accepted.iter();
            accepted
                .map(|accepted| [accepted, &judgement.resolved])
                .collect()
        }
        Some(_) | None => return None,
    };
    let mut wanted: Vec<_> = services.into_iter().zip(verdicts).collect();
    let before = list("/status/parents");
    let generation = route.metadata.generation;
    let mut parents = Vec::new();
    for entry in &before {
        if entry["controllerName"] != CONTROLLER {
            parents.push(entry.clone());
            continue;
        }
        let mut refs = wanted.iter();
        if let Some(index) = refs.position(|(parent, _)| entry["parentRef"] == *parent) {
            let (parent, verdicts) = wanted.remove(index);
            parents.push(entry_of(generation, parent, verdicts, Some(entry)));
        }
    }
    for (parent, verdicts) in wanted {
        parents.push(entry_of(generation, parent, verdicts, None));
    }
    (parents != before).then_some(Value::Array(parents))
}

/// GEP-1294: a route of a mesh has Services as parents, whose group is empty.
fn is_service(parent: &Value) -> bool {
    parent["kind"] == "Service" && parent["group"] == ""
}

/// The conditions that the mesh speaks by, with the order of the verdicts.
const CONDITIONS: [&str; 2] = ["Accepted", "ResolvedRefs"];

/// What is said of one parent. Conditions of other types stay as they were.
fn entry_of(
    generation: Option<i64>,
    parent: Value,
    verdicts: [&Condition; 2],
    before: Option<&Value>,
) -> Value {
    let conditions = before.and_then(|before| before["conditions"].as_array());
    let mut conditions = conditions.cloned().unwrap_or_default();
    for (name, verdict) in CONDITIONS.into_iter().zip(verdicts) {
        let known = conditions.iter_mut().find(|known| known["type"] == name);
        let condition = condition(generation, name, verdict, known.as_deref());
        match known {
            Some(known) => *known = condition,
            None => conditions.push(condition),
        }
    }
    json!({
        "parentRef": parent,
        "controllerName": CONTROLLER,
        "conditions": conditions,
    })
}

fn condition(
    generation: Option<i64>,
    name: &str,
    verdict: &Condition,
    before: Option<&Value>,
) -> Value {
    let status = match verdict.status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    // It hasn't become different by being looked at again.
    let same = before.filter(|before| before["status"] == status);
    let since = same.map(|before| before["lastTransitionTime"].clone());
    let now = || json!(Time(jiff::Timestamp::now()));
    json!({
        "type": name,
        "status": status,
        "reason": verdict.reason,
        "message": bounded(&verdict.message),
        "observedGeneration": generation,
        "lastTransitionTime": since.filter(|since| !since.is_null()).unwrap_or_else(now),
    })
}

/// The API server takes messages of 32768 bytes.
fn bounded(message: &str) -> String {
    message.chars().take(8000).collect()
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

    fn verdict(holds: bool, reason: &'static str) -> Condition {
        Condition {
            status: Some(holds),
            reason,
            message: reason.to_lowercase(),
        }
    }

    fn judgement(generation: i64, accepted: &[bool]) -> RouteStatus {
        let accepted = accepted.iter().map(|holds| verdict(*holds, "Because"));
        RouteStatus {
            generation: Some(generation),
            accepted: accepted.collect(),
            resolved: verdict(true, "ResolvedRefs"),
        }
    }

    #[test]
    fn only_services_as_parents_are_spoken_of_and_others_entries_stay() {
        let gateway =
            json!({ "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge" });
        let others = json!({ "parentRef": gateway, "controllerName": "example.com/gateway" });
        let parents = json!([service("web"), gateway, service("api")]);
        let route = route(3, &parents, &json!([others]));
        let due = due(&route, Some(&judgement(3, &[true, false]))).unwrap();
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
        let said = due(
            &route(1, &parents, &json!([])),
            Some(&judgement(1, &[true])),
        )
        .unwrap();
        assert_eq!(
            due(&route(1, &parents, &said), Some(&judgement(1, &[true]))),
            None
        );
        let mut old = said.clone();
        old[0]["conditions"][0]["lastTransitionTime"] = json!("2020-01-01T00:00:00Z");
        let time = |parents: &Value| parents[0]["conditions"][0]["lastTransitionTime"].clone();
        let changed = due(&route(2, &parents, &old), Some(&judgement(2, &[true]))).unwrap();
        assert_eq!(time(&changed), time(&old), "only its generation is another");
        let refused = due(&route(1, &parents, &old), Some(&judgement(1, &[false]))).unwrap();
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
        assert_eq!(due(&route, Some(&judgement(1, &[true]))), None);
        assert!(due(&route, Some(&judgement(2, &[true]))).is_some());
    }

    #[test]
    fn conditions_of_others_in_an_entry_stay_where_they_are() {
        let parents = json!([service("web")]);
        let mut said = due(
            &route(1, &parents, &json!([])),
            Some(&judgement(1, &[true])),
        )
        .unwrap();
        let other = json!({ "type": "Programmed", "status": "True" });
        let conditions = said[0]["conditions"].as_array_mut().unwrap();
        conditions.insert(0, other.clone());
        let due = due(&route(1, &parents, &said), Some(&judgement(1, &[false]))).unwrap();
        assert_eq!(due[0]["conditions"][0], other);
        assert_eq!(due[0]["conditions"][1]["status"], "False");
        assert_eq!(due[0]["conditions"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn a_route_waits_once_until_it_is_taken_or_gone() {
        let key = |name: &str| RouteKey {
            kind: RouteKind::Http,
            name: NamespacedName::new("shop", name),
        };
        let news = RouteNews::default();
        let mut told = news.subscribe();
        for name in ["a", "b", "a"] {
            news.tell(key(name));
        }
        assert!(told.has_changed().unwrap());
        told.mark_unchanged();
        news.forget(&key("b"));
        assert!(news.take(RouteKind::Grpc).is_empty());
        let taken: Vec<_> = news.take(RouteKind::Http).into_iter().collect();
        assert_eq!(taken, [key("a").name]);
        assert!(news.take(RouteKind::Http).is_empty());
    }
}
