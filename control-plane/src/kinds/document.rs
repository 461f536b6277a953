//! Documents' parts: their metadata, their `spec`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use weft_model::NamespacedName;

use super::field_error::FieldError;

/// The namespace of what is written without one.
const DEFAULT_NAMESPACE: &str = "default";

/// The label of Services and EndpointSlices that another proxy than the cluster's default one looks
/// after (KEP-2447), whatever its value.
const SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

/// The part of an object that says what its author wants.
#[derive(Debug, Deserialize)]
struct WithSpec<S> {
    spec: S,
}

/// The typed form; an error names the path of the offending field.
pub(crate) fn typed<T: DeserializeOwned>(document: Value) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(document)
        .map_err(|error| FieldError::new(error.path().to_string(), error.inner()))
}

/// `spec` in its typed form; none when there is none.
pub(super) fn spec<S: DeserializeOwned>(object: &DynamicObject) -> Result<Option<S>, FieldError> {
    match object.data.get("spec").filter(|spec| !spec.is_null()) {
        None => Ok(None),
        Some(spec) => required_spec_of(spec.clone()).map(Some),
    }
}

/// `spec` in its typed form.
pub(super) fn required_spec<S: DeserializeOwned>(object: &DynamicObject) -> Result<S, FieldError> {
    let missing = || FieldError::missing("spec", "it says what is wanted");
    spec(object)?.ok_or_else(missing)
}

fn required_spec_of<S: DeserializeOwned>(spec: Value) -> Result<S, FieldError> {
    let document = Map::from_iter([("spec".to_owned(), spec)]);
    typed(Value::Object(document)).map(|document: WithSpec<S>| document.spec)
}

/// The name of an object, which every object has.
pub(super) fn name(metadata: &ObjectMeta) -> Result<&str, FieldError> {
    let name = metadata.name.as_deref().filter(|name| !name.is_empty());
    name.ok_or_else(|| FieldError::missing("metadata.name", "every object has one"))
}

/// The namespace of an object of a kind that is namespaced.
pub(super) fn namespace(metadata: &ObjectMeta) -> &str {
    let namespace = metadata.namespace.as_deref();
    let namespace = namespace.filter(|namespace| !namespace.is_empty());
    namespace.unwrap_or(DEFAULT_NAMESPACE)
}

/// Namespace and name of an object of a kind that is namespaced.
pub(super) fn namespaced_name(metadata: &ObjectMeta) -> Result<NamespacedName, FieldError> {
    Ok(NamespacedName::new(namespace(metadata), name(metadata)?))
}

/// Whether a Service or EndpointSlice is another proxy's. Kube-proxy leaves it alone.
pub(super) fn is_of_another_proxy(metadata: &ObjectMeta) -> bool {
    has_label(metadata, SERVICE_PROXY_NAME)
}

/// Whether an object has a label, whatever its value.
pub(super) fn has_label(metadata: &ObjectMeta, name: &str) -> bool {
    let labels = metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.contains_key(name))
}

/// Seconds from 1970 until the object was created; 0 when it doesn't say.
pub(super) fn created(metadata: &ObjectMeta) -> i64 {
    let created = metadata.creation_timestamp.as_ref();
    created.map_or(0, |created| created.0.as_second())
}
