//! Whether the mesh follows a route of the Gateway API that is attached to a Service
//! (GEP-1294): what its status says of each such parent.
//!
//! This version moves connections, not requests. A route that has no effect says so,
//! instead of leaving its author to believe in it.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher::{self, DefaultBackoff, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::FIELD_MANAGER;
use crate::source::kubernetes::is_missing;

/// Who speaks, in `status.parents[].controllerName`.
const CONTROLLER: &str = "weft.dev/mesh";
const GROUP: &str = "gateway.networking.k8s.io";
/// Kinds of routes, with the name of each in a URL.
const KINDS: [(&str, &str); 4] = [
    ("HTTPRoute", "httproutes"),
    ("GRPCRoute", "grpcroutes"),
    ("TLSRoute", "tlsroutes"),
    ("TCPRoute", "tcproutes"),
];
/// How often to look whether a kind that the cluster doesn't know was installed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Follows all routes and writes what is thought of them. Never ends; one replica does it
/// at a time.
pub(crate) async fn keep_route_status(client: Client) {
    let follow = |(kind, plural)| {
        let kind = GroupVersionKind::gvk(GROUP, "v1", kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        follow(client.clone(), resource)
    };
    futures_util::future::join_all(KINDS.map(follow)).await;
}

async fn follow(client: Client, resource: ApiResource) {
    let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
    let watch = watcher(api, watcher::Config::default());
    let mut watch = pin!(StreamBackoff::new(watch, DefaultBackoff::default()));
    let mut failing = false;
    while let Some(event) = watch.next().await {
        let route = match event {
            Ok(watcher::Event::Apply(route) | watcher::Event::InitApply(route)) => route,
            Ok(watcher::Event::InitDone) => {
                failing = false;
                continue;
            }
            Ok(_) => continue,
            // Most clusters have the Gateway API, and need not.
            Err(error) if is_missing(&error) => {
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(kind = resource.kind, %error, "can't watch routes");
                }
                continue;
            }
        };
        if let Some(parents) = due(&route) {
            write(&client, &resource, &route, parents).await;
        }
    }
}

/// The list has one writer at a time, by the version of what was read: each controller
/// has its own entries in it.
async fn write(client: &Client, resource: &ApiResource, route: &DynamicObject, parents: Value) {
    let (namespace, name) = (route.namespace().unwrap_or_default(), route.name_any());
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), &namespace, resource);
    let patch = Patch::Merge(json!({
        "metadata": { "resourceVersion": route.resource_version() },
        "status": { "parents": parents },
    }));
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..Default::default()
    };
    match api.patch_status(&name, &parameters, &patch).await {
        Ok(_) => {}
        // It was changed meanwhile, and comes again.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => {
            tracing::warn!(kind = resource.kind, namespace, name, %error, "can't write the status of a route");
        }
    }
}

/// `status.parents` as it should be, when it is different.
fn due(route: &DynamicObject) -> Option<Value> {
    let list = |path: &str| {
        let list = route.data.pointer(path).and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let before = list("/status/parents");
    let (own, mut parents): (Vec<_>, Vec<_>) = before
        .iter()
        .cloned()
        .partition(|parent| parent["controllerName"] == CONTROLLER);
    for parent in list("/spec/parentRefs").into_iter().filter(is_service) {
        let same = own.iter().find(|entry| entry["parentRef"] == parent);
        parents.push(entry(route, parent, same));
    }
    (parents != before).then_some(Value::Array(parents))
}

/// GEP-1294: a route of a mesh has Services as parents, whose group is empty.
fn is_service(parent: &Value) -> bool {
    parent["kind"] == "Service" && parent["group"] == ""
}

fn entry(route: &DynamicObject, parent: Value, before: Option<&Value>) -> Value {
    let generation = route.metadata.generation;
    let known = before.map(|before| &before["conditions"][0]);
    // It hasn't become different by being looked at again.
    let since = known.map(|known| known["lastTransitionTime"].clone());
    let now = || json!(Time(jiff::Timestamp::now()));
    json!({
        "parentRef": parent,
        "controllerName": CONTROLLER,
        "conditions": [{
            "type": "Accepted",
            "status": "False",
            "reason": "UnsupportedValue",
            "message": "this version of Weft moves connections, not requests: the route has no effect",
            "observedGeneration": generation,
            "lastTransitionTime": since.filter(|since| !since.is_null()).unwrap_or_else(now),
        }],
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

    #[test]
    fn only_services_as_parents_are_spoken_of_and_others_entries_stay() {
        let gateway = json!({ "group": GROUP, "kind": "Gateway", "name": "edge" });
        let others = json!({ "parentRef": gateway, "controllerName": "example.com/gateway" });
        let parents = json!([gateway, service("web")]);
        let due = due(&route(3, &parents, &json!([others]))).unwrap();
        assert_eq!(due.as_array().unwrap().len(), 2);
        assert_eq!(due[0], others);
        assert_eq!(due[1]["parentRef"], service("web"));
        assert_eq!(due[1]["conditions"][0]["observedGeneration"], 3);
    }

    #[test]
    fn what_is_said_once_is_not_said_again_until_it_changes() {
        let parents = json!([service("web")]);
        let said = due(&route(1, &parents, &json!([]))).unwrap();
        assert_eq!(due(&route(1, &parents, &said)), None);
        let changed = due(&route(2, &parents, &said)).unwrap();
        let time = |parents: &Value| parents[0]["conditions"][0]["lastTransitionTime"].clone();
        assert_eq!(time(&changed), time(&said));
        // Nor of a parent that isn't one any more.
        let gone = due(&route(2, &json!([]), &said)).unwrap();
        assert_eq!(gone, json!([]));
        assert_eq!(due(&route(2, &json!([]), &json!([]))), None);
    }
}
