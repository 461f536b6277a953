//! Objects that are judged by themselves, without any others: their condition `Accepted`.

use kube::api::DynamicObject;
use serde_json::Value;

use super::condition::{NewCondition, with_condition};
use super::kind_status::KindStatus;
use crate::kinds::{
    self, ACCEPTED, ExternalServiceObject, Form, Kind, KindObject, MeshConfigObject,
};

/// A kind whose objects say all that there is to know about them.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    kind: Kind,
    /// The consequence of an object that can't be followed.
    instead: &'static str,
}

impl Accepted {
    /// MeshConfigs.
    pub(super) fn mesh_config() -> Self {
        Self {
            kind: MeshConfigObject::KIND,
            instead: "defaults are in force instead",
        }
    }

    /// ExternalServices.
    pub(super) fn external_service() -> Self {
        Self {
            kind: ExternalServiceObject::KIND,
            instead: "it counts as if it weren't there",
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
            Some(problem) => ("Invalid", format!("{problem}; {}", self.instead)),
        };
        let condition = NewCondition {
            type_: ACCEPTED,
            status: Some(problem.is_none()),
            reason,
            message: &message,
        };
        with_condition(object, &condition)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
