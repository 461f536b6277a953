//! Whether the mesh follows an object of Weft's own kinds: its condition `Accepted`.

use std::pin::pin;

use futures_util::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher::{self, DefaultBackoff, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use super::FIELD_MANAGER;
use crate::kinds::{
    self, ACCEPTED, ExternalServiceObject, FieldError, Form, Kind, KindObject, MeshConfigObject,
};

/// What is thought of the objects of a kind.
#[derive(Clone, Copy)]
struct Opinion {
    /// What is wrong with one, as far as it can be told from itself.
    problem: fn(&DynamicObject) -> Option<FieldError>,
    /// What holds instead.
    instead: &'static str,
}

const OF_MESH_CONFIGS: Opinion = Opinion {
    problem: |config| problem(MeshConfigObject::KIND, config),
    instead: "defaults are in force instead",
};
const OF_EXTERNAL_SERVICES: Opinion = Opinion {
    problem: |service| problem(ExternalServiceObject::KIND, service),
    instead: "it counts as if it weren't there",
};

/// Follows the MeshConfig and writes what is thought of it. Never ends; one replica does
/// it at a time.
pub(crate) async fn keep_mesh_config_status(client: Client) {
    keep(client, MeshConfigObject::KIND, OF_MESH_CONFIGS).await;
}

/// The same for ExternalServices.
pub(crate) async fn keep_external_service_status(client: Client) {
    keep(client, ExternalServiceObject::KIND, OF_EXTERNAL_SERVICES).await;
}

/// One that this version can't read is one more to have an opinion of, so objects are
/// taken as they are.
async fn keep(client: Client, kind: Kind, opinion: Opinion) {
    let Some(resource) = kind.resources().next() else {
        return;
    };
    let all = Api::<DynamicObject>::all_with(client.clone(), &resource);
    let watch = watcher(all.clone(), watcher::Config::default());
    let mut watch = pin!(StreamBackoff::new(watch, DefaultBackoff::default()));
    while let Some(event) = watch.next().await {
        let Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) = event else {
            // The source, which watches it too, says what is wrong.
            continue;
        };
        if let Some(condition) = due(&object, opinion) {
            let api = match object.namespace() {
                Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
                None => all.clone(),
            };
            write(&api, &resource, &object, &condition).await;
        }
    }
}

async fn write(
    api: &Api<DynamicObject>,
    resource: &ApiResource,
    object: &DynamicObject,
    condition: &Condition,
) {
    let patch = Patch::Merge(json!({ "status": { "conditions": [condition] } }));
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..Default::default()
    };
    let name = object.name_any();
    if let Err(error) = api.patch_status(&name, &parameters, &patch).await {
        tracing::warn!(kind = resource.kind, namespace = object.namespace(), name, %error, "can't write a status");
    }
}

fn problem(kind: Kind, object: &DynamicObject) -> Option<FieldError> {
    let problems = kinds::problems(kind, object, Form::Live);
    problems.into_iter().next()
}

/// The condition that it should have, when it has another.
fn due(object: &DynamicObject, opinion: Opinion) -> Option<Condition> {
    let problem = (opinion.problem)(object);
    let conditions = object.data.pointer("/status/conditions").cloned();
    let before: Vec<Condition> = conditions
        .and_then(|conditions| serde_json::from_value(conditions).ok())
        .unwrap_or_default();
    let before = before.into_iter().find(|one| one.type_ == ACCEPTED);
    let (status, reason) = match problem {
        None => ("True", "Accepted"),
        Some(_) => ("False", "Invalid"),
    };
    let mut condition = Condition {
        type_: ACCEPTED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: problem.map_or_else(
            || "in force".to_owned(),
            |problem| format!("{problem}; {}", opinion.instead),
        ),
        observed_generation: object.meta().generation,
        last_transition_time: Time(jiff::Timestamp::now()),
    };
    if let Some(before) = before {
        if before.status == condition.status {
            condition.last_transition_time = before.last_transition_time.clone();
        }
        if before == condition {
            return None;
        }
    }
    Some(condition)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn object(kind: &str, spec: &Value, status: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": kind,
            "metadata": { "name": "default", "generation": 2 },
            "spec": spec, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn what_is_said_once_is_not_said_again_until_it_changes() {
        let port = json!({ "number": 443, "protocol": "TLS" });
        for (kind, opinion, good, bad, field) in [
            (
                "MeshConfig",
                OF_MESH_CONFIGS,
                json!({ "mtls": { "mode": "strict" } }),
                json!({ "mtls": { "mode": "mutual" } }),
                "spec.mtls.mode",
            ),
            (
                "ExternalService",
                OF_EXTERNAL_SERVICES,
                json!({ "hosts": ["pay.example"], "ports": [port] }),
                json!({ "hosts": ["*"], "ports": [port] }),
                "spec.hosts[0]",
            ),
        ] {
            let condition = due(&object(kind, &good, &Value::Null), opinion).unwrap();
            let said = (condition.status.as_str(), condition.observed_generation);
            assert_eq!(said, ("True", Some(2)));
            let status = json!({ "conditions": [condition] });
            assert_eq!(due(&object(kind, &good, &status), opinion), None);
            let condition = due(&object(kind, &bad, &status), opinion).unwrap();
            assert_eq!(condition.status, "False");
            assert!(condition.message.contains(field), "{}", condition.message);
        }
    }
}
