//! AuthorizationPolicies: what their schema says, and what it can't say, checked again for
//! those who read files.

mod parse;
mod schema;
#[cfg(test)]
mod tests;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as KubernetesSelector;
use kube::CustomResourceExt;
use kube::api::DynamicObject;
use prost::Message;
use serde_json::Value;
use weft_model::NamespacedName;
use weft_model::authorization_policy::{Action, AuthorizationPolicy, Rule};
use weft_proto::v1;

use super::annotations;
use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, Provider};
use super::kind_object::{Form, KindObject, Read};
use super::label_selector::LabelSelector;
use schema::{AuthorizationPolicySpec, TargetRefSpec};

/// Memory of a rule or a value beside its text.
const BYTES_OF_A_PART: usize = 64;

/// An AuthorizationPolicy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AuthorizationPolicyObject {
    pub(crate) key: NamespacedName,
    /// Seconds since 1970: what is too much for a namespace are its newest ones.
    pub(crate) created: i64,
    /// Its UID, which no later object of its name has.
    pub(crate) uid: Option<String>,
    /// Counts the changes of its spec.
    pub(crate) generation: Option<i64>,
    /// The workloads that it selects, as far as that can be read; all of its namespace, else.
    pub(crate) target: PolicyTarget,
    /// Its rules, or the mistake for which they can't be followed.
    pub(crate) content: Result<AuthorizationPolicy, FieldError>,
    /// Of one that can't be followed: the rules that could be, before.
    pub(crate) last_good: Option<Box<AuthorizationPolicy>>,
    /// Of one that can't be followed and never could: it would have denied or allowed something.
    decides: bool,
}

/// The workloads that a policy selects.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PolicyTarget {
    /// Pods by their labels: of its namespace, or of all where it is in the control plane's.
    Pods(LabelSelector),
    /// The pods of some Services of its namespace.
    Services(Vec<NamespacedName>),
}

impl KindObject for AuthorizationPolicyObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "AuthorizationPolicy",
        group: "weft.dev",
        versions: &["v1alpha1"],
        plural: "authorizationpolicies",
        provider: Provider::Weft,
        fallback: "what it said before stays in force; if it never said anything, nothing reaches the workloads that it selects",
    })];

    type Document = DynamicObject;

    fn name(&self) -> NamespacedName {
        self.key.clone()
    }

    /// A mistake in its content is kept in it, so that its author can be told, and so that it
    /// opens nothing.
    fn read(_: Kind, mut policy: DynamicObject, form: Form) -> Read<Self> {
        if form == Form::Admission {
            // It may be made by the API server after this.
            let name = &mut policy.metadata.name;
            name.get_or_insert_with(|| "new".to_owned());
        }
        match Self::parse(&policy) {
            Ok(read) => {
                let keys = annotations::OF_AUTHORIZATION_POLICIES;
                let mistake = read.content.as_ref().err().cloned().into_iter();
                let problems = mistake.chain(keys.without_effect(&policy.metadata));
                let problems = problems.collect();
                Read::with_problems(read, problems)
            }
            Err(error) => Err(error).into(),
        }
    }

    /// What it selects stays what its last good content selected.
    fn keep_last_good(&mut self, before: &Self) {
        let good = before.content.as_ref().ok().cloned().map(Box::new);
        if let (Err(_), Some(good)) = (&self.content, good.or(before.last_good.clone())) {
            self.target.clone_from(&before.target);
            self.last_good = Some(good);
        }
    }

    /// The same policy, as an API server's would be read: what can't be followed denies.
    fn substitute(document: &Value) -> Option<Self> {
        let policy: DynamicObject = document::typed(document.clone()).ok()?;
        Self::parse(&policy).ok()
    }

    fn definition() -> Option<CustomResourceDefinition> {
        Some(schema::AuthorizationPolicy::crd())
    }
}

impl AuthorizationPolicyObject {
    /// The policy, as agents are told of it. One that can't be followed and never could denies
    /// everything: nobody knows what it was to keep out.
    pub(crate) fn policy(&self) -> AuthorizationPolicy {
        match (&self.content, &self.last_good) {
            (Ok(policy), _) => policy.clone(),
            (Err(_), Some(policy)) => (**policy).clone(),
            (Err(_), None) => AuthorizationPolicy {
                key: self.key.clone(),
                action: match self.decides {
                    true => Action::Deny,
                    false => Action::Audit,
                },
                is_dry_run: false,
                rules: vec![Rule::default()],
            },
        }
    }

    /// The memory that an agent needs for it, about, in bytes.
    pub(crate) fn size(&self) -> usize {
        let size = |policy: &AuthorizationPolicy| {
            let rules = policy.rules.iter();
            let parts = rules.fold(1, |count, rule| count + 1 + rule.value_count());
            parts * BYTES_OF_A_PART + v1::AuthorizationPolicy::from(policy).encoded_len()
        };
        match (&self.content, &self.last_good) {
            (Ok(policy), _) => size(policy),
            (Err(_), Some(policy)) => size(policy),
            (Err(_), None) => BYTES_OF_A_PART,
        }
    }

    /// Whether it says what is let in: not one of AUDIT, nor a dry run.
    pub(crate) fn decides(&self) -> bool {
        let decides =
            |policy: &AuthorizationPolicy| policy.action != Action::Audit && !policy.is_dry_run;
        match (&self.content, &self.last_good) {
            (Ok(policy), _) => decides(policy),
            (Err(_), Some(policy)) => decides(policy),
            (Err(_), None) => self.decides,
        }
    }

    fn parse(policy: &DynamicObject) -> Result<Self, FieldError> {
        let metadata = &policy.metadata;
        let key = document::namespaced_name(metadata)?;
        let none = annotations::Texts::new();
        let annotations = metadata.annotations.as_ref().unwrap_or(&none);
        let dry_run = annotations::dry_run(annotations);
        let action = policy.data.pointer("/spec/action").and_then(Value::as_str);
        let is_dry_run = dry_run.as_ref().is_ok_and(|dry_run| *dry_run);
        let spec = document::required_spec::<AuthorizationPolicySpec>(policy);
        let read = spec.and_then(|spec| {
            let target = target(&key, &spec)?;
            let content = parse::policy(&key, dry_run?, &spec)?;
            Ok((target, content))
        });
        let (target, content) = match read {
            Ok((target, content)) => (target, Ok(content)),
            Err(error) => (readable_target(&key, policy), Err(error)),
        };
        Ok(Self {
            created: document::created(metadata),
            uid: metadata.uid.clone(),
            generation: metadata.generation,
            target,
            content,
            last_good: None,
            decides: action != Some("AUDIT") && !is_dry_run,
            key,
        })
    }
}

fn target(
    key: &NamespacedName,
    spec: &AuthorizationPolicySpec,
) -> Result<PolicyTarget, FieldError> {
    if spec.selector.is_some() && spec.target_refs.is_some() {
        let message = "a policy selects pods by spec.selector or by spec.targetRefs, not by both";
        return Err(FieldError::new("spec.targetRefs", message));
    }
    match (&spec.selector, &spec.target_refs) {
        (Some(selector), _) => {
            let (selector, problems) = LabelSelector::read("spec.selector", selector);
            match problems.into_iter().next() {
                Some(problem) => Err(problem),
                None => Ok(PolicyTarget::Pods(selector)),
            }
        }
        (None, Some(references)) => services(key, references),
        (None, None) => Ok(PolicyTarget::Pods(LabelSelector::default())),
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

/// What a policy with a mistake selects: all of its namespace where that can't be read.
fn readable_target(key: &NamespacedName, policy: &DynamicObject) -> PolicyTarget {
    let part = |name: &str| policy.data.pointer(&format!("/spec/{name}")).cloned();
    let selector = part("selector").map(serde_json::from_value::<KubernetesSelector>);
    let references = part("targetRefs").map(serde_json::from_value::<Vec<TargetRefSpec>>);
    let spec = match (selector, references) {
        (Some(Ok(selector)), None) => AuthorizationPolicySpec {
            selector: Some(selector),
            ..AuthorizationPolicySpec::default()
        },
        (None, Some(Ok(references))) => AuthorizationPolicySpec {
            target_refs: Some(references),
            ..AuthorizationPolicySpec::default()
        },
        _ => AuthorizationPolicySpec::default(),
    };
    let read = target(key, &spec);
    read.unwrap_or_else(|_| PolicyTarget::Pods(LabelSelector::default()))
}
