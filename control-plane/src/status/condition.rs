//! One condition in a list of them (`metav1.Condition`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::DynamicObject;
use serde_json::{Value, json};

/// Longest message; the API server takes 32768 bytes.
const LONGEST_MESSAGE: usize = 8000;

/// A condition without its times.
#[derive(Clone, Debug)]
pub(super) struct NewCondition<'a> {
    pub(super) type_: &'a str,
    /// None when it is unknown.
    pub(super) status: Option<bool>,
    pub(super) reason: &'a str,
    pub(super) message: &'a str,
}

/// A list in an object, empty where there is none.
pub(super) fn list(object: &DynamicObject, path: &str) -> Vec<Value> {
    let list = object.data.pointer(path).and_then(Value::as_array);
    list.cloned().unwrap_or_default()
}

/// `status.conditions` with this one, unless it is there already.
pub(super) fn with_condition(object: &DynamicObject, new: &NewCondition<'_>) -> Option<Value> {
    let before = list(object, "/status/conditions");
    let mut conditions = before.clone();
    set(&mut conditions, object.metadata.generation, new);
    (conditions != before).then(|| json!({ "conditions": conditions }))
}

/// Puts a condition in the place of the one of its type. All others stay as they were.
pub(super) fn set(conditions: &mut Vec<Value>, generation: Option<i64>, new: &NewCondition<'_>) {
    let known = conditions
        .iter_mut()
        .find(|known| known["type"] == new.type_);
    let condition = condition(generation, new, known.as_deref());
    match known {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}

fn condition(generation: Option<i64>, new: &NewCondition<'_>, before: Option<&Value>) -> Value {
    let status = match new.status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    // It hasn't become different by being looked at again.
    let same = before.filter(|before| before["status"] == status);
    let since = same.map(|before| before["lastTransitionTime"].clone());
    let now = || json!(Time(jiff::Timestamp::now()));
    let message: String = new.message.chars().take(LONGEST_MESSAGE).collect();
    json!({
        "type": new.type_,
        "status": status,
        "reason": new.reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": since.filter(|since| !since.is_null()).unwrap_or_else(now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: NewCondition<'static> = NewCondition {
        type_: "Accepted",
        status: Some(true),
        reason: "Accepted",
        message: "in force",
    };

    fn object(generation: i64, conditions: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Thing",
            "metadata": { "name": "a", "generation": generation },
            "status": { "conditions": conditions },
        }))
        .unwrap()
    }

    #[test]
    fn what_is_said_already_is_not_said_again_until_it_changes() {
        let old = "2020-01-01T00:00:00Z";
        let mut said = with_condition(&object(1, &json!(null)), &NEW).unwrap();
        said["conditions"][0]["lastTransitionTime"] = json!(old);
        let said = &said["conditions"];
        assert_eq!(with_condition(&object(1, said), &NEW), None);
        let again = with_condition(&object(2, said), &NEW).unwrap();
        let condition = &again["conditions"][0];
        assert_eq!(condition["observedGeneration"], 2);
        assert_eq!(condition["lastTransitionTime"], old);
        let refused = NewCondition {
            status: Some(false),
            ..NEW
        };
        let refused = with_condition(&object(2, said), &refused).unwrap();
        assert_eq!(refused["conditions"][0]["status"], "False");
        assert_ne!(refused["conditions"][0]["lastTransitionTime"], old);
    }

    #[test]
    fn conditions_of_others_stay_as_and_where_they_are() {
        let other = json!({ "type": "Programmed", "status": "Maybe" });
        let ours = json!({ "type": "Accepted", "status": "False" });
        let due = with_condition(&object(1, &json!([other, ours])), &NEW).unwrap();
        let conditions = due["conditions"].as_array().unwrap();
        assert_eq!((conditions.len(), &conditions[0]), (2, &other));
        assert_eq!(conditions[1]["status"], "True");
    }

    #[test]
    fn a_message_is_no_longer_than_the_api_server_takes() {
        let message = "ä".repeat(20_000);
        let new = NewCondition {
            message: &message,
            ..NEW
        };
        let due = with_condition(&object(1, &json!([])), &new).unwrap();
        assert!(due.to_string().len() < 32_768);
    }
}
