//! Label selectors: what they ask of an object's labels.

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector as KubernetesSelector, LabelSelectorRequirement,
};

use super::annotations::Texts;
use super::field_error::FieldError;

/// A label selector. All of its requirements have to be met; one without any selects
/// everything.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct LabelSelector(BTreeSet<Requirement>);

/// One requirement: the key of a label, and what its value has to be.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Requirement {
    In(String, BTreeSet<String>),
    /// Met by objects without the label, too.
    NotIn(String, BTreeSet<String>),
    Exists(String),
    DoesNotExist(String),
}

impl LabelSelector {
    /// Reads one that is at that path of its object, with what of it can't be read and was
    /// left out: without it the selector selects more.
    pub(super) fn read(path: &str, selector: &KubernetesSelector) -> (Self, Vec<FieldError>) {
        let mut requirements = BTreeSet::new();
        let mut problems = Vec::new();
        let labels = selector.match_labels.iter().flatten().map(|(key, value)| {
            let field = format!("{path}.matchLabels[{key}]");
            let values = BTreeSet::from([checked(&field, value, "")?]);
            Ok(Requirement::In(checked(&field, key, "/")?, values))
        });
        let expressions = selector.match_expressions.iter().flatten().enumerate();
        let expressions = expressions.map(|(index, expression)| {
            requirement(&format!("{path}.matchExpressions[{index}]"), expression)
        });
        for read in labels.chain(expressions) {
            match read {
                Ok(requirement) => {
                    requirements.insert(requirement);
                }
                Err(problem) => problems.push(problem),
            }
        }
        (Self(requirements), problems)
    }

    /// Its requirements, as Kubernetes has them.
    pub(super) fn expressions(&self) -> Vec<LabelSelectorRequirement> {
        let expressions = self.0.iter().map(|requirement| {
            let (operator, key, values) = match requirement {
                Requirement::In(key, values) => ("In", key, Some(values)),
                Requirement::NotIn(key, values) => ("NotIn", key, Some(values)),
                Requirement::Exists(key) => ("Exists", key, None),
                Requirement::DoesNotExist(key) => ("DoesNotExist", key, None),
            };
            LabelSelectorRequirement {
                key: key.clone(),
                operator: operator.to_owned(),
                values: values.map(|values| values.iter().cloned().collect()),
            }
        });
        expressions.collect()
    }

    /// Whether an object with these labels is selected.
    pub(crate) fn matches(&self, labels: &Texts) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => {
                labels.get(key).is_some_and(|value| values.contains(value))
            }
            Requirement::NotIn(key, values) => {
                labels.get(key).is_none_or(|value| !values.contains(value))
            }
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::DoesNotExist(key) => !labels.contains_key(key),
        })
    }
}

fn requirement(
    path: &str,
    expression: &LabelSelectorRequirement,
) -> Result<Requirement, FieldError> {
    let key = checked(&format!("{path}.key"), &expression.key, "/")?;
    let field = format!("{path}.values");
    let values = expression.values.iter().flatten();
    let values = values.map(|value| checked(&field, value, ""));
    let values: BTreeSet<_> = values.collect::<Result<_, _>>()?;
    let takes_values = match &*expression.operator {
        "In" | "NotIn" => true,
        "Exists" | "DoesNotExist" => false,
        other => {
            let known = ["In", "NotIn", "Exists", "DoesNotExist"];
            let field = format!("{path}.operator");
            return Err(FieldError::not_one_of(field, other, &known));
        }
    };
    if takes_values == values.is_empty() {
        let message = format!(
            "operator {} takes {}",
            expression.operator,
            match takes_values {
                true => "one value at least",
                false => "no values",
            }
        );
        return Err(FieldError::new(field, message));
    }
    Ok(match &*expression.operator {
        "In" => Requirement::In(key, values),
        "NotIn" => Requirement::NotIn(key, values),
        "Exists" => Requirement::Exists(key),
        _ => Requirement::DoesNotExist(key),
    })
}

/// A label's key or value. Selectors are told apart by their text, so none may look like
/// another.
fn checked(field: &str, text: &str, also: &str) -> Result<String, FieldError> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c) || also.contains(c);
    match text.chars().all(is_known) {
        true => Ok(text.to_owned()),
        false => {
            let message = format!("`{text}` can't be of a label");
            Err(FieldError::new(field, message))
        }
    }
}

/// As `kubectl --selector` takes it.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &BTreeSet<String>| {
            let values: Vec<_> = values.iter().map(String::as_str).collect();
            values.join(",")
        };
        match self {
            Self::In(key, values) if values.len() == 1 => write!(f, "{key}={}", list(values)),
            Self::In(key, values) => write!(f, "{key} in ({})", list(values)),
            Self::NotIn(key, values) => write!(f, "{key} notin ({})", list(values)),
            Self::Exists(key) => f.write_str(key),
            Self::DoesNotExist(key) => write!(f, "!{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(selector: Value) -> (LabelSelector, Vec<String>) {
        let selector = serde_json::from_value(selector).unwrap();
        let (selector, problems) = LabelSelector::read("s", &selector);
        let problems = problems.iter().map(ToString::to_string);
        (selector, problems.collect())
    }

    fn labels(text: &str) -> Texts {
        let pairs = text.split_whitespace();
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap());
        pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    #[test]
    fn all_requirements_have_to_be_met() {
        let expression = |operator: &str, values: &[&str]| json!({ "matchExpressions": [{ "key": "app", "operator": operator, "values": values }] });
        let cases = [
            (json!({}), "", true),
            (
                json!({ "matchLabels": { "app": "a" } }),
                "app=a tier=x",
                true,
            ),
            (json!({ "matchLabels": { "app": "a" } }), "app=b", false),
            (
                json!({ "matchLabels": { "app": "a", "tier": "x" } }),
                "app=a",
                false,
            ),
            (expression("In", &["a", "b"]), "app=b", true),
            (expression("In", &["a", "b"]), "app=c", false),
            (expression("In", &["a", "b"]), "", false),
            (expression("NotIn", &["a"]), "app=b", true),
            (expression("NotIn", &["a"]), "app=a", false),
            (expression("NotIn", &["a"]), "", true),
            (expression("Exists", &[]), "app=", true),
            (expression("Exists", &[]), "tier=x", false),
            (expression("DoesNotExist", &[]), "tier=x", true),
            (expression("DoesNotExist", &[]), "app=a", false),
        ];
        for (selector, text, expected) in cases {
            let (read, problems) = read(selector.clone());
            assert!(problems.is_empty(), "{selector}: {problems:?}");
            assert_eq!(read.matches(&labels(text)), expected, "{selector}: {text}");
        }
    }

    #[test]
    fn one_text_is_one_selector() {
        let of_labels = json!({ "matchLabels": { "b": "2", "a": "1" } });
        let of_expressions = json!({ "matchExpressions": [
            { "key": "a", "operator": "In", "values": ["1"] },
            { "key": "b", "operator": "In", "values": ["2", "2"] },
        ] });
        assert_eq!(read(of_labels).0.to_string(), "a=1,b=2");
        assert_eq!(read(of_expressions).0.to_string(), "a=1,b=2");
        let (_, problems) = read(json!({ "matchLabels": { "a": "1,b=2" } }));
        let expected = ["field s.matchLabels[a]: `1,b=2` can't be of a label"];
        assert_eq!(problems, expected);
    }

    #[test]
    fn what_can_not_be_read_is_named_and_the_rest_counts() {
        let (selector, problems) = read(json!({
            "matchLabels": { "app": "a" },
            "matchExpressions": [
                { "key": "tier", "operator": "Matches", "values": ["x"] },
                { "key": "tier", "operator": "In", "values": [] },
                { "key": "tier", "operator": "Exists", "values": ["x"] },
            ],
        }));
        assert_eq!(selector.to_string(), "app=a");
        let expected = [
            "field s.matchExpressions[0].operator: `Matches` is not one of `In`, `NotIn`, `Exists`, `DoesNotExist`",
            "field s.matchExpressions[1].values: operator In takes one value at least",
            "field s.matchExpressions[2].values: operator Exists takes no values",
        ];
        assert_eq!(problems, expected);
    }
}
