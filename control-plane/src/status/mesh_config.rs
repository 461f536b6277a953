//! Whether the mesh follows the MeshConfig: its condition `Accepted`.

use std::pin::pin;

use futures_util::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::watcher::{self, DefaultBackoff, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use super::FIELD_MANAGER;
use crate::api::{ACCEPTED, MeshConfig, MeshConfigStatus};
use crate::manifest::MeshConfigObject;

/// Follows the MeshConfig and writes what is thought of it. Never ends; one replica does
/// it at a time.
pub(crate) async fn keep_mesh_config_status(client: Client) {
    // One that this version can't read is one more to have an opinion of.
    let resource = ApiResource::erase::<MeshConfig>(&());
    let api = Api::<DynamicObject>::all_with(client, &resource);
    let watch = watcher(api.clone(), watcher::Config::default());
    let mut watch = pin!(StreamBackoff::new(watch, DefaultBackoff::default()));
    while let Some(event) = watch.next().await {
        let Ok(watcher::Event::Apply(config) | watcher::Event::InitApply(config)) = event else {
            // The source, which watches it too, says what is wrong.
            continue;
        };
        if let Some(condition) = due(&config) {
            let patch = Patch::Merge(json!({ "status": { "conditions": [condition] } }));
            let parameters = PatchParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..Default::default()
            };
            let name = config.name_any();
            let written = api.patch_status(&name, &parameters, &patch);
            if let Err(error) = written.await {
                tracing::warn!(name, %error, "can't write the status of a MeshConfig");
            }
        }
    }
}

/// The condition that it should have, when it has another.
fn due(config: &DynamicObject) -> Option<Condition> {
    let spec = json!({ "spec": config.data.get("spec") });
    let problem = MeshConfigObject::from_value(spec).err();
    let status = config.data.get("status").cloned().unwrap_or_default();
    let status: MeshConfigStatus = serde_json::from_value(status).unwrap_or_default();
    let before = status
        .conditions
        .into_iter()
        .find(|one| one.type_ == ACCEPTED);
    let mut condition = Condition {
        type_: ACCEPTED.to_owned(),
        status: if problem.is_none() { "True" } else { "False" }.to_owned(),
        reason: if problem.is_none() {
            "Accepted"
        } else {
            "Invalid"
        }
        .to_owned(),
        message: problem.map_or_else(
            || "in force".to_owned(),
            |problem| format!("{problem}; defaults are in force instead"),
        ),
        observed_generation: config.meta().generation,
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
    use super::*;

    fn config(spec: serde_json::Value, status: serde_json::Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig",
            "metadata": { "name": "default", "generation": 2 },
            "spec": spec, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn what_is_said_once_is_not_said_again_until_it_changes() {
        let good = json!({ "mtls": { "mode": "strict" } });
        let condition = due(&config(good.clone(), json!(null))).unwrap();
        assert_eq!(
            (condition.status.as_str(), condition.observed_generation),
            ("True", Some(2))
        );
        let status = json!({ "conditions": [condition] });
        assert_eq!(due(&config(good, status.clone())), None);
        let bad = json!({ "mtls": { "mode": "mutual" } });
        let condition = due(&config(bad, status)).unwrap();
        assert_eq!(condition.status, "False");
        assert!(
            condition.message.contains("spec.mtls.mode"),
            "{}",
            condition.message
        );
    }
}
