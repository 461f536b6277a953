//! Objects that are judged by themselves, without any others: their condition `Accepted`.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::condition::{NewCondition, with_condition};
use super::kind_status::KindStatus;
use crate::kinds::{
    self, ACCEPTED, ExternalServiceObject, Form, Kind, KindObject, MeshConfigObject,
};

/// A kind whose objects say all that there is to know about them.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    kind: Kind,
    /// What was accepted is written down, to be in force while something later can't be read.
    keeps_spec: bool,
}

impl Accepted {
    /// MeshConfigs.
    pub(super) fn mesh_config() -> Self {
        Self {
            kind: MeshConfigObject::KIND,
            keeps_spec: true,
        }
    }

    /// ExternalServices.
    pub(super) fn external_service() -> Self {
        Self {
            kind: ExternalServiceObject::KIND,
            keeps_spec: false,
        }
    }
}

impl KindStatus for Accepted {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn due(&self, object: &DynamicObject) -> Option<Value> {
        let problems = kinds::problems(self.kind, object, Form::Live);
        let problem = problems.into_iter().next();
        let (reason, message) = match &problem {
            None => ("Accepted", "in force".to_owned()),
            Some(problem) => ("Invalid", format!("{problem}; {}", self.kind.fallback)),
        };
        let condition = NewCondition {
            type_: ACCEPTED,
            status: Some(problem.is_none()),
            reason,
            message: &message,
        };
        let mut due = with_condition(object, &condition);
        let spec = object.data.get("spec").map(Value::to_string);
        let spec = spec.unwrap_or_else(|| "{}".to_owned());
        let known = object.data.pointer("/status/lastAcceptedSpec");
        if self.keeps_spec && problem.is_none() && known.is_none_or(|known| *known != spec) {
            due.get_or_insert_with(|| json!({}))["lastAcceptedSpec"] = spec.into();
        }
        due
    }
}

#[cfg(test)]
mod tests {
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
    fn an_object_is_accepted_or_refused_by_the_name_of_its_field() {
        let port = json!({ "number": 443, "protocol": "TLS" });
        for (kind, status, good, bad, field) in [
            (
                "MeshConfig",
                Accepted::mesh_config(),
                json!({ "mtls": { "mode": "strict" } }),
                json!({ "mtls": { "mode": "mutual" } }),
                "spec.mtls.mode",
            ),
            (
                "ExternalService",
                Accepted::external_service(),
                json!({ "hosts": ["pay.example"], "ports": [port] }),
                json!({ "hosts": ["*"], "ports": [port] }),
                "spec.hosts[0]",
            ),
        ] {
            let said = status.due(&object(kind, &good, &Value::Null)).unwrap();
            let condition = &said["conditions"][0];
            assert_eq!(condition["status"], "True");
            assert_eq!(condition["observedGeneration"], 2);
            assert_eq!(status.due(&object(kind, &good, &said)), None);
            let said = status.due(&object(kind, &bad, &said)).unwrap();
            let condition = &said["conditions"][0];
            assert_eq!(condition["status"], "False");
            let message = condition["message"].as_str().unwrap();
            assert!(message.contains(field), "{message}");
        }
    }
}
