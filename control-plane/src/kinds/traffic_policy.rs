//! TrafficPolicies: what their schema says, and what it can't say, checked again for
//! those who read files.

mod parse;
mod schema;
#[cfg(test)]
mod tests;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;
use weft_model::NamespacedName;
use weft_model::traffic::TrafficPolicy;

use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, LAST_GOOD, Provider};
use super::kind_object::{Form, KindObject, Read};

/// A TrafficPolicy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TrafficPolicyObject {
    pub(crate) key: NamespacedName,
    /// Seconds since 1970: of several of one Service the oldest counts.
    pub(crate) created: i64,
    /// Its UID, which no later object of its name has.
    pub(crate) uid: Option<String>,
    /// Counts the changes of its spec.
    pub(crate) generation: Option<i64>,
    /// The Service that it is of, as far as that can be read.
    pub(crate) target: Option<NamespacedName>,
    /// Its content, or the mistake for which it can't be followed.
    pub(crate) content: Result<TrafficPolicy, FieldError>,
    /// Of one that can't be followed: the content that could be, before.
    pub(crate) last_good: Option<Box<TrafficPolicy>>,
}

impl KindObject for TrafficPolicyObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "TrafficPolicy",
        group: "weft.dev",
        versions: &["v1alpha1"],
        plural: "trafficpolicies",
        provider: Provider::Weft,
        fallback: LAST_GOOD,
    })];

    type Document = DynamicObject;

    fn name(&self) -> NamespacedName {
        self.key.clone()
    }

    /// A mistake in its content is kept in it, so that its author can be told.
    fn read(_: Kind, policy: DynamicObject, form: Form) -> Read<Self> {
        match Self::parse(&policy) {
            Ok(policy) => {
                let problems = policy.content.as_ref().err().cloned();
                Read::with_problems(policy, problems.into_iter().collect())
            }
            // Its name may be made by the API server after this.
            Err(_) if form == Form::Admission => Read::nothing(),
            Err(error) => Err(error).into(),
        }
    }

    /// Its Service stays the one that its last good content is for.
    fn keep_last_good(&mut self, before: &Self) {
        let good = before.content.as_ref().ok().cloned().map(Box::new);
        if let (Err(_), Some(good)) = (&self.content, good.or(before.last_good.clone())) {
            self.target.clone_from(&before.target);
            self.last_good = Some(good);
        }
    }

    fn definition() -> Option<CustomResourceDefinition> {
        Some(schema::TrafficPolicy::crd())
    }
}

impl TrafficPolicyObject {
    fn parse(policy: &DynamicObject) -> Result<Self, FieldError> {
        let metadata = &policy.metadata;
        let key = document::namespaced_name(metadata)?;
        let target = policy.data.pointer("/spec/targetRef/name");
        let target = target.and_then(Value::as_str);
        Ok(Self {
            created: document::created(metadata),
            uid: metadata.uid.clone(),
            generation: metadata.generation,
            target: target.map(|name| NamespacedName::new(&key.namespace, name)),
            content: document::required_spec(policy)
                .and_then(|spec| parse::policy(&key.namespace, spec)),
            last_good: None,
            key,
        })
    }
}
