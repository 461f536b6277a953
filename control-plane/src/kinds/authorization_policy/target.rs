//! The workloads that a policy selects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as KubernetesSelector;
use kube::api::DynamicObject;
use weft_model::NamespacedName;

use super::schema::TargetRefSpec;
use crate::kinds::field_error::FieldError;
use crate::kinds::label_selector::LabelSelector;

/// The workloads that a policy selects.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PolicyTarget {
    /// Pods by their labels: of its namespace, or of all where it is in the control plane's.
    Pods(LabelSelector),
    /// The pods of some Services of its namespace.
    Services(Vec<NamespacedName>),
}

impl PolicyTarget {
    /// By the selector or the references of its spec.
    ///
    /// # Errors
    /// The first mistake in them.
    pub(in crate::kinds) fn read(
        key: &NamespacedName,
        selector: Option<&KubernetesSelector>,
        references: Option<&[TargetRefSpec]>,
    ) -> Result<Self, FieldError> {
        match (selector, references) {
            (Some(_), Some(_)) => {
                let message =
                    "a policy selects pods by spec.selector or by spec.targetRefs, not by both";
                Err(FieldError::new("spec.targetRefs", message))
            }
            (Some(selector), None) => {
                let (selector, problems) = LabelSelector::read("spec.selector", selector);
                match problems.into_iter().next() {
                    Some(problem) => Err(problem),
                    None => Ok(Self::Pods(selector)),
                }
            }
            (None, Some(references)) => services(key, references),
            (None, None) => Ok(Self::Pods(LabelSelector::default())),
        }
    }

    /// What a policy with a mistake selects: all of its namespace where that can't be read.
    pub(in crate::kinds) fn read_what_is_readable(
        key: &NamespacedName,
        policy: &DynamicObject,
    ) -> Self {
        let part = |name: &str| policy.data.pointer(&format!("/spec/{name}")).cloned();
        let selector = part("selector").map(serde_json::from_value::<KubernetesSelector>);
        let references = part("targetRefs").map(serde_json::from_value::<Vec<TargetRefSpec>>);
        let read = match (selector, references) {
            (Some(Ok(selector)), None) => Self::read(key, Some(&selector), None),
            (None, Some(Ok(references))) => Self::read(key, None, Some(&references)),
            _ => Self::read(key, None, None),
        };
        read.unwrap_or_else(|_| Self::Pods(LabelSelector::default()))
    }
}

fn services(
    key: &NamespacedName,
    references: &[TargetRefSpec],
) -> Result<PolicyTarget, FieldError> {
    if references.is_empty() {
        let why = "a policy has a Service there, or leaves it out to select all pods";
        return Err(FieldError::missing("spec.targetRefs", why));
    }
    let names = references.iter();
    let names = names.map(|reference| NamespacedName::new(&key.namespace, &reference.name));
    Ok(PolicyTarget::Services(names.collect()))
}
