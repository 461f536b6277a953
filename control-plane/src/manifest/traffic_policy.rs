//! TrafficPolicies: what their schema says, and what it can't say, checked again for
//! those who read files.

mod parse;
#[cfg(test)]
mod tests;

use serde::Deserialize;
use serde_json::Value;
use weft_model::NamespacedName;
use weft_model::traffic::TrafficPolicy;

use super::{FieldError, typed};
use crate::api::TrafficPolicySpec;

/// A TrafficPolicy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TrafficPolicyObject {
    pub(crate) key: NamespacedName,
    /// Seconds since 1970: of several of one Service the oldest counts.
    pub(crate) created: i64,
    /// What names it for as long as it is there.
    pub(crate) uid: Option<String>,
    /// Which state of the object this is.
    pub(crate) generation: Option<i64>,
    /// The Service that it is of, as far as that can be read.
    pub(crate) target: Option<NamespacedName>,
    /// What it says, or why it can't be followed.
    pub(crate) content: Result<TrafficPolicy, FieldError>,
}

/// The document as written, but for what it says.
#[derive(Debug, Deserialize)]
struct Document {
    metadata: Metadata,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<jiff::Timestamp>,
}

#[derive(Debug, Deserialize)]
struct WithSpec {
    spec: TrafficPolicySpec,
}

impl TrafficPolicyObject {
    /// One of a file: a mistake spoils it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn whole(document: &Value) -> Result<Self, FieldError> {
        let policy = Self::from_value(document)?;
        match &policy.content {
            Ok(_) => Ok(policy),
            Err(error) => Err(error.clone()),
        }
    }

    /// One of a cluster. What is wrong with what it says is kept in it, so
    /// that its author can be told.
    ///
    /// # Errors
    /// When it has no name.
    pub(crate) fn from_value(document: &Value) -> Result<Self, FieldError> {
        let Document { metadata } = typed(document.clone())?;
        let name = metadata.name.filter(|name| !name.is_empty());
        let name =
            name.ok_or_else(|| FieldError::missing("metadata.name", "every object has one"))?;
        let namespace = metadata.namespace.filter(|text| !text.is_empty());
        let namespace = namespace.as_deref().unwrap_or("default");
        let target = document.pointer("/spec/targetRef/name");
        let target = target.and_then(Value::as_str);
        let spec = typed::<WithSpec>(document.clone());
        Ok(Self {
            key: NamespacedName::new(namespace, &name),
            created: metadata.creation_timestamp.map_or(0, |t| t.as_second()),
            uid: metadata.uid,
            generation: metadata.generation,
            target: target.map(|name| NamespacedName::new(namespace, name)),
            content: spec.and_then(|document| parse::policy(namespace, document.spec)),
        })
    }
}
