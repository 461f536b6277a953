//! Namespaces that a floor is about.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

use super::schema::NamespaceSelectorSpec;
use crate::kinds::NAMESPACE_NAME;
use crate::kinds::annotations::Texts;
use crate::kinds::field_error::FieldError;
use crate::kinds::label_selector::LabelSelector;

/// Namespaces by their names, or by their labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct NamespaceSelector {
    names: BTreeSet<String>,
    labels: Option<LabelSelector>,
}

/// Namespaces that a floor enrols, as an API server selects them: all expressions have to be met.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EnrolledNamespaces {
    /// By their `names`, or by their `labels`.
    pub(crate) by: &'static str,
    pub(crate) expressions: Vec<LabelSelectorRequirement>,
}

impl NamespaceSelector {
    pub(super) fn parse(path: &str, spec: &NamespaceSelectorSpec) -> Result<Self, FieldError> {
        let labels = spec.selector.as_ref();
        let labels = labels.map(|selector| {
            let (selector, problems) = LabelSelector::read(&format!("{path}.selector"), selector);
            match problems.into_iter().next() {
                Some(problem) => Err(problem),
                None => Ok(selector),
            }
        });
        let labels = labels.transpose()?;
        if spec.names.is_empty() && labels.is_none() {
            let why = "namespaces have `names`, or labels for a `selector`";
            return Err(FieldError::missing(path, why));
        }
        let names = spec.names.iter().cloned().collect();
        Ok(Self { names, labels })
    }

    pub(super) fn matches(&self, name: &str, labels: &Texts) -> bool {
        let by_labels = |selector: &LabelSelector| selector.matches(labels);
        self.names.contains(name) || self.labels.as_ref().is_some_and(by_labels)
    }

    /// The same as an API server selects them: by any of these.
    pub(super) fn expressions(&self) -> Vec<EnrolledNamespaces> {
        let by_name = (!self.names.is_empty()).then(|| EnrolledNamespaces {
            by: "names",
            expressions: vec![LabelSelectorRequirement {
                key: NAMESPACE_NAME.to_owned(),
                operator: "In".to_owned(),
                values: Some(self.names.iter().cloned().collect()),
            }],
        });
        let by_labels = self.labels.as_ref().map(|labels| EnrolledNamespaces {
            by: "labels",
            expressions: labels.expressions(),
        });
        by_name.into_iter().chain(by_labels).collect()
    }
}
