//! An AuthorizationPolicy or a RequestAuthentication, the workloads that it selects, and whether
//! it is followed.

use std::sync::Arc;

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use weft_model::NamespacedName;

use super::condition::{NewCondition, with_condition};
use super::kind_status::KindStatus;
use crate::cluster::Cluster;
use crate::index::AuthorizationStatus;
use crate::kinds::{ACCEPTED, Kind, KindObject, RequestAuthenticationObject};

/// The status of AuthorizationPolicies: the index decides.
#[derive(Clone, Debug)]
pub(super) struct AuthorizationPolicyStatuses {
    /// Which of both.
    pub(super) kind: Kind,
    pub(super) cluster: Arc<Cluster>,
}

impl KindStatus for AuthorizationPolicyStatuses {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn due(&self, policy: &DynamicObject) -> Option<Value> {
        let namespace = policy.namespace().unwrap_or_default();
        let name = NamespacedName::new(&namespace, &policy.name_any());
        let name = match self.kind == RequestAuthenticationObject::KIND {
            true => RequestAuthenticationObject::told_name(&name),
            false => name,
        };
        due(policy, &self.cluster.authorization_status(&name)?)
    }
}

fn due(policy: &DynamicObject, status: &AuthorizationStatus) -> Option<Value> {
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
    let mut due = with_condition(policy, &condition);
    let workloads = json!(status.workloads);
    if policy.data.pointer("/status/workloads") != Some(&workloads) {
        due.get_or_insert_with(|| json!({}))["workloads"] = workloads;
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(generation: i64, status: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "AuthorizationPolicy",
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u-1", "generation": generation,
            },
            "status": status,
        }))
        .unwrap()
    }

    fn status(workloads: usize) -> AuthorizationStatus {
        AuthorizationStatus {
            uid: Some("u-1".to_owned()),
            generation: Some(1),
            accepted: true,
            reason: "Accepted",
            message: "in force".to_owned(),
            complaint: None,
            workloads,
        }
    }

    #[test]
    fn it_says_how_many_workloads_it_selects() {
        let said = due(&policy(1, &json!({})), &status(2)).unwrap();
        assert_eq!(said["workloads"], 2);
        assert_eq!(said["conditions"][0]["status"], "True");
        let same = policy(1, &said);
        assert_eq!(due(&same, &status(2)), None);
        let said = due(&same, &status(3)).unwrap();
        assert_eq!(said, json!({ "workloads": 3 }));
    }

    #[test]
    fn nothing_is_said_of_a_state_that_was_not_looked_at() {
        assert_eq!(due(&policy(2, &json!({})), &status(1)), None);
    }
}
