//! Something that is added to a pod.

use serde_json::{Value, json};

/// The operation `add` of a JSON patch (RFC 6902).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Addition {
    /// A JSON pointer (RFC 6901): to a field, before an item of a list, or with `-` behind the last.
    path: String,
    value: Value,
}

impl Addition {
    pub(super) fn new(path: impl Into<String>, value: Value) -> Self {
        let path = path.into();
        Self { path, value }
    }

    /// An item of a list that may not be there yet, at that place or behind the last.
    pub(super) fn item(pod: &Value, list: &str, at: Option<usize>, value: Value) -> Self {
        match pod.pointer(list).and_then(Value::as_array) {
            None => Self::new(list, json!([value])),
            Some(items) if at.is_some_and(|at| at < items.len()) => {
                Self::new(format!("{list}/{}", at.unwrap_or_default()), value)
            }
            Some(_) => Self::new(format!("{list}/-"), value),
        }
    }

    /// As a JSON patch has it.
    pub(crate) fn operation(&self) -> Value {
        json!({ "op": "add", "path": self.path, "value": self.value })
    }

    /// Adds it. What it would be added to has to be there.
    pub(crate) fn apply(&self, to: &mut Value) {
        let Some((parent, last)) = self.path.rsplit_once('/') else {
            return;
        };
        let last = last.replace("~1", "/").replace("~0", "~");
        match to.pointer_mut(parent) {
            Some(Value::Object(fields)) => {
                fields.insert(last, self.value.clone());
            }
            Some(Value::Array(items)) => {
                let end = items.len();
                let at = last.parse().unwrap_or(end);
                items.insert(at.min(end), self.value.clone());
            }
            _ => {}
        }
    }
}

/// Makes the additions of a JSON patch, which has no other operations.
pub(crate) fn apply_patch(patch: &Value, to: &mut Value) {
    for operation in patch.as_array().into_iter().flatten() {
        let path = operation.get("path").and_then(Value::as_str);
        let value = operation.get("value").cloned();
        Addition::new(path.unwrap_or_default(), value.unwrap_or_default()).apply(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_addition_is_made_where_a_patch_makes_it() {
        let mut pod = json!({ "spec": { "list": ["b"] }, "metadata": { "annotations": {} } });
        for addition in [
            Addition::item(&pod, "/spec/list", Some(0), json!("a")),
            Addition::item(&pod, "/spec/list", None, json!("c")),
            Addition::item(&pod, "/spec/list", Some(7), json!("d")),
            Addition::item(&pod, "/spec/other", Some(0), json!("x")),
            Addition::new("/metadata/annotations/example.com~1name", json!("1")),
        ] {
            addition.apply(&mut pod);
        }
        let expected = json!({
            "spec": { "list": ["a", "b", "c", "d"], "other": ["x"] },
            "metadata": { "annotations": { "example.com/name": "1" } },
        });
        assert_eq!(pod, expected);
    }
}
