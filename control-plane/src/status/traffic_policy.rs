//! Whether a Service follows its TrafficPolicy: the policy's condition `Accepted`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use weft_model::NamespacedName;

use super::FIELD_MANAGER;
use crate::index::{PolicyStatus, PolicyStatuses};
use crate::kinds::{ACCEPTED, KindObject, TrafficPolicyObject};

/// How long to wait before what couldn't be written is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Writes what is thought of TrafficPolicies whenever that changes. Never ends; one
/// replica does it at a time.
pub(crate) async fn keep_traffic_policy_status(
    client: Client,
    mut verdicts: watch::Receiver<Arc<PolicyStatuses>>,
) {
    let mut written: HashMap<NamespacedName, PolicyStatus> = HashMap::new();
    loop {
        let now = Arc::clone(&verdicts.borrow_and_update());
        written.retain(|name, _| now.contains_key(name));
        let mut failed = false;
        for (name, verdict) in now.iter() {
            if written.get(name) == Some(verdict) {
                continue;
            }
            match write(&client, name, verdict).await {
                Ok(()) => {
                    written.insert(name.clone(), verdict.clone());
                }
                Err(error) => {
                    failed = true;
                    tracing::warn!(policy = %name, %error, "can't write the status of a TrafficPolicy");
                }
            }
        }
        let changed = verdicts.changed();
        match failed {
            true => drop(tokio::time::timeout(TRY_AGAIN, changed).await),
            // The state lives as long as the process.
            false => drop(changed.await),
        }
    }
}

async fn write(
    client: &Client,
    name: &NamespacedName,
    verdict: &PolicyStatus,
) -> Result<(), kube::Error> {
    let Some(resource) = TrafficPolicyObject::KIND.resources().next() else {
        return Ok(());
    };
    let api = Api::<DynamicObject>::namespaced_with(client.clone(), &name.namespace, &resource);
    // It may be gone by now.
    let Some(policy) = api.get_opt(&name.name).await? else {
        return Ok(());
    };
    let Some(condition) = due(&policy, verdict) else {
        return Ok(());
    };
    let patch = Patch::Merge(json!({
        "metadata": { "resourceVersion": policy.resource_version() },
        "status": { "conditions": [condition] },
    }));
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..Default::default()
    };
    api.patch_status(&name.name, &parameters, &patch).await?;
    Ok(())
}

/// The condition that it should have, when it has another.
fn due(policy: &DynamicObject, verdict: &PolicyStatus) -> Option<Condition> {
    // The verdict is of another state than what is there now; one of that state follows.
    let metadata = &policy.metadata;
    if (&metadata.uid, metadata.generation) != (&verdict.uid, verdict.generation) {
        return None;
    }
    let conditions = policy.data.pointer("/status/conditions").cloned();
    let conditions: Vec<Condition> = conditions
        .and_then(|conditions| serde_json::from_value(conditions).ok())
        .unwrap_or_default();
    let mut conditions = conditions.into_iter();
    let before = conditions.find(|one| one.type_ == ACCEPTED);
    let mut condition = Condition {
        type_: ACCEPTED.to_owned(),
        status: if verdict.accepted { "True" } else { "False" }.to_owned(),
        reason: verdict.reason.to_owned(),
        message: verdict.message.clone(),
        observed_generation: verdict.generation,
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

    fn policy(generation: i64, status: &serde_json::Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "TrafficPolicy",
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u-1", "generation": generation,
            },
            "status": status,
        }))
        .unwrap()
    }

    fn verdict(generation: i64, accepted: bool) -> PolicyStatus {
        PolicyStatus {
            uid: Some("u-1".to_owned()),
            generation: Some(generation),
            accepted,
            reason: if accepted { "Accepted" } else { "Conflicted" },
            message: "because".to_owned(),
        }
    }

    #[test]
    fn what_is_said_once_is_not_said_again_until_it_changes() {
        let condition = due(&policy(1, &json!(null)), &verdict(1, true)).unwrap();
        let status = json!({ "conditions": [condition] });
        assert_eq!(due(&policy(1, &status), &verdict(1, true)), None);
        let again = due(&policy(2, &status), &verdict(2, true)).unwrap();
        let seconds = |condition: &Condition| condition.last_transition_time.0.as_second();
        assert_eq!(seconds(&again), seconds(&condition));
        let other = due(&policy(2, &status), &verdict(2, false)).unwrap();
        assert_eq!(
            (other.status.as_str(), other.reason.as_str()),
            ("False", "Conflicted")
        );
    }

    #[test]
    fn nothing_is_said_of_a_state_that_was_not_looked_at() {
        assert_eq!(due(&policy(2, &json!(null)), &verdict(1, true)), None);
    }
}
