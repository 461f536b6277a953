//! A TrafficPolicy and the Service that follows it, or doesn't: the policy's condition
//! `Accepted`.

use std::sync::Arc;

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;
use weft_model::NamespacedName;

use super::condition::{NewCondition, with_condition};
use super::kind_status::KindStatus;
use crate::cluster::Cluster;
use crate::index::PolicyStatus;
use crate::kinds::{ACCEPTED, Kind, KindObject, TrafficPolicyObject};

/// The status of TrafficPolicies: the index decides.
#[derive(Clone, Debug)]
pub(super) struct TrafficPolicyStatuses {
    pub(super) cluster: Arc<Cluster>,
}

impl KindStatus for TrafficPolicyStatuses {
    fn kind(&self) -> Kind {
        TrafficPolicyObject::KIND
    }

    fn due(&self, policy: &DynamicObject) -> Option<Value> {
        let namespace = policy.namespace().unwrap_or_default();
        let name = NamespacedName::new(&namespace, &policy.name_any());
        due(policy, &self.cluster.policy_status(&name)?)
    }
}

fn due(policy: &DynamicObject, status: &PolicyStatus) -> Option<Value> {
    // It is of another state than what is there now; one of that state follows.
    let metadata = &policy.metadata;
    if (&metadata.uid, metadata.generation) != (&status.uid, status.generation) {
        return None;
    }
    let condition = NewCondition {
        type_: ACCEPTED,
        status: Some(status.accepted),
        reason: status.reason,
        message: &status.message,
    };
    with_condition(policy, &condition)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(generation: i64) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "TrafficPolicy",
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u-1", "generation": generation,
            },
        }))
        .unwrap()
    }

    fn status(uid: &str) -> PolicyStatus {
        PolicyStatus {
            uid: Some(uid.to_owned()),
            generation: Some(1),
            accepted: false,
            reason: "Conflicted",
            message: "because".to_owned(),
        }
    }

    #[test]
    fn nothing_is_said_of_a_state_that_was_not_looked_at() {
        assert_eq!(due(&policy(2), &status("u-1")), None);
        assert_eq!(due(&policy(1), &status("u-2")), None);
        let said = due(&policy(1), &status("u-1")).unwrap();
        let condition = &said["conditions"][0];
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&json!("False"), &json!("Conflicted"))
        );
    }
}
