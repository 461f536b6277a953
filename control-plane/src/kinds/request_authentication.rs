//! RequestAuthentications. Agents are told of one as of an AuthorizationPolicy of its own action
//! (`proto/proto/weft/mesh/v1/authorization.proto`), under a name that no AuthorizationPolicy has.

mod jwks;
mod key_source;
mod parse;
mod schema;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;
use weft_model::NamespacedName;
use weft_model::authorization_policy::{Action, AuthorizationPolicy};
use weft_model::request_authentication::{JsonWebKey, JwtProvider};

use super::annotations;
use super::authorization_policy::{AuthorizationPolicyObject, PolicyTarget};
use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, ObjectKey, Provider};
use super::kind_object::{Form, KindObject, Read};
pub(crate) use jwks::{InvalidKeys, parse as parse_keys};
pub(crate) use key_source::{KeySource, is_key_address};
use schema::RequestAuthenticationSpec;

/// Ahead of its name in the one that agents know; no name of Kubernetes' has the colon.
const PREFIX: &str = "RequestAuthentication:";

/// A RequestAuthentication.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RequestAuthenticationObject {
    name: NamespacedName,
    /// As agents are told of it, but for keys that are fetched.
    pub(crate) policy: AuthorizationPolicyObject,
    /// Where the keys of each of its issuers are fetched; of those in force.
    pub(crate) key_sources: Vec<Option<KeySource>>,
}

impl KindObject for RequestAuthenticationObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "RequestAuthentication",
        group: "weft.dev",
        versions: &["v1alpha1"],
        plural: "requestauthentications",
        provider: Provider::Weft,
        fallback: "what it said before stays in force; if it never said anything, nothing reaches the workloads that it selects",
    })];

    type Document = DynamicObject;

    fn name(&self) -> NamespacedName {
        self.name.clone()
    }

    /// A mistake in its content is kept in it, so that its author can be told, and so that it
    /// opens nothing.
    fn read(_: Kind, mut object: DynamicObject, form: Form) -> Read<Self> {
        if form == Form::Admission {
            // It may be made by the API server after this.
            let name = &mut object.metadata.name;
            name.get_or_insert_with(|| "new".to_owned());
        }
        match Self::parse(&object) {
            Ok(read) => {
                let mistake = read.policy.content.as_ref().err().cloned().into_iter();
                let keys = annotations::OF_REQUEST_AUTHENTICATIONS;
                let problems = mistake.chain(keys.without_effect(&object.metadata));
                let problems = problems.collect();
                Read::with_problems(read, problems)
            }
            Err(error) => Err(error).into(),
        }
    }

    fn keep_last_good(&mut self, before: &Self) {
        self.policy.keep_last_good(&before.policy);
        if self.policy.content.is_err() {
            self.key_sources.clone_from(&before.key_sources);
        }
    }

    /// The same, as an API server's would be read: what can't be followed denies.
    fn substitute(document: &Value) -> Option<Self> {
        let object: DynamicObject = document::typed(document.clone()).ok()?;
        Self::parse(&object).ok()
    }

    fn definition() -> Option<CustomResourceDefinition> {
        Some(schema::RequestAuthentication::crd())
    }
}

impl RequestAuthenticationObject {
    /// The name by which agents know the one of a name.
    pub(crate) fn told_name(name: &NamespacedName) -> NamespacedName {
        NamespacedName::new(&name.namespace, &format!("{PREFIX}{}", name.name))
    }

    /// The name of the one that agents know by a name; `None` for an AuthorizationPolicy's.
    pub(crate) fn name_of_told(told: &NamespacedName) -> Option<NamespacedName> {
        let name = told.name.strip_prefix(PREFIX)?;
        Some(NamespacedName::new(&told.namespace, name))
    }

    /// The object that agents know by a name.
    pub(crate) fn object_of_told(told: &NamespacedName) -> ObjectKey {
        match Self::name_of_told(told) {
            Some(name) => ObjectKey {
                kind: Self::KIND,
                name,
            },
            None => ObjectKey {
                kind: AuthorizationPolicyObject::KIND,
                name: told.clone(),
            },
        }
    }

    /// As agents are told of it, with the keys that were fetched.
    pub(crate) fn with_keys(
        &self,
        keys: impl Fn(&KeySource) -> Vec<JsonWebKey>,
    ) -> AuthorizationPolicy {
        let mut policy = self.policy.policy();
        let providers = policy.authentication.iter_mut();
        let providers = providers.flat_map(|authentication| &mut authentication.providers);
        for (provider, source) in providers.zip(&self.key_sources) {
            if let Some(source) = source {
                *provider = Arc::new(JwtProvider {
                    keys: keys(source),
                    key_source: Some(source.name()),
                    ..JwtProvider::clone(provider)
                });
            }
        }
        policy
    }

    fn parse(object: &DynamicObject) -> Result<Self, FieldError> {
        let metadata = &object.metadata;
        let name = document::namespaced_name(metadata)?;
        let key = Self::told_name(&name);
        let spec = document::required_spec::<RequestAuthenticationSpec>(object);
        let read = spec.and_then(|spec| {
            let references = spec.target_refs.as_deref();
            let target = PolicyTarget::read(&name, spec.selector.as_ref(), references)?;
            Ok((target, parse::authentication(&spec)?))
        });
        let mut key_sources = Vec::new();
        let (target, content) = match read {
            Ok((target, (authentication, sources))) => {
                key_sources = sources;
                let policy = AuthorizationPolicy {
                    key: key.clone(),
                    action: Action::Authenticate,
                    is_dry_run: false,
                    rules: Vec::new(),
                    authentication: Some(authentication),
                };
                (target, Ok(policy))
            }
            Err(error) => {
                let target = PolicyTarget::read_what_is_readable(&name, object);
                (target, Err(error))
            }
        };
        Ok(Self {
            name,
            policy: AuthorizationPolicyObject {
                key,
                created: document::created(metadata),
                uid: metadata.uid.clone(),
                generation: metadata.generation,
                target,
                content,
                last_good: None,
                decides: true,
            },
            key_sources,
        })
    }
}
