//! Kubernetes manifests, parsed and checked at the edge: what comes out is valid,
//! what doesn't is one error that names document and field.

mod annotations;
mod endpoint_slice;
mod external_service;
mod mesh_config;
mod namespace;
mod node;
mod pod;
mod route;
mod service;
mod service_account;
mod traffic_policy;

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;
use weft_model::NamespacedName;
use weft_model::route::RouteKind;

pub(crate) use endpoint_slice::SliceObject;
pub(crate) use external_service::ExternalServiceObject;
pub(crate) use mesh_config::MeshConfigObject;
pub(crate) use namespace::NamespaceObject;
pub(crate) use node::NodeObject;
pub(crate) use pod::{CAPTURED_CONDITION, PodObject};
pub(crate) use route::{
    InvalidReference, ReferenceProblem, RouteContent, RouteObject, duration, targets_mut, versions,
};
pub(crate) use service::{ServiceObject, TargetPort};
pub(crate) use service_account::ServiceAccountObject;
pub(crate) use traffic_policy::TrafficPolicyObject;

/// One object that the mesh cares about.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "there are few of the large ones, each on its way into the index"
)]
pub(crate) enum Object {
    Pod(PodObject),
    Service(ServiceObject),
    EndpointSlice(SliceObject),
    Namespace(NamespaceObject),
    Node(NodeObject),
    ServiceAccount(ServiceAccountObject),
    MeshConfig(MeshConfigObject),
    TrafficPolicy(TrafficPolicyObject),
    Route(RouteObject),
    ExternalService(ExternalServiceObject),
}

/// Kinds of objects that the mesh cares about.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    Pod,
    Service,
    EndpointSlice,
    Namespace,
    Node,
    ServiceAccount,
    MeshConfig,
    TrafficPolicy,
    ExternalService,
    Route(RouteKind),
}

impl Kind {
    /// Its name in Kubernetes.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::ServiceAccount => "ServiceAccount",
            Self::MeshConfig => "MeshConfig",
            Self::TrafficPolicy => "TrafficPolicy",
            Self::ExternalService => "ExternalService",
            Self::Route(kind) => kind.as_str(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names an object: its kind, namespace (empty where the kind has none) and name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct ObjectKey {
    pub(crate) kind: Kind,
    /// Namespace and name.
    pub(crate) name: NamespacedName,
}

impl Object {
    /// What names it.
    pub(crate) fn key(&self) -> ObjectKey {
        let (kind, name) = match self {
            Self::Pod(pod) => (Kind::Pod, pod.key.clone()),
            Self::Service(service) => (Kind::Service, service.service.key.clone()),
            Self::EndpointSlice(slice) => (Kind::EndpointSlice, slice.key.clone()),
            Self::Namespace(namespace) => {
                (Kind::Namespace, NamespacedName::new("", &namespace.name))
            }
            Self::Node(node) => (Kind::Node, NamespacedName::new("", &node.name)),
            Self::ServiceAccount(account) => (Kind::ServiceAccount, account.key.clone()),
            // There is one, whatever its name.
            Self::MeshConfig(_) => (Kind::MeshConfig, NamespacedName::new("", "default")),
            Self::ExternalService(object) => (Kind::ExternalService, object.service.key.clone()),
            Self::TrafficPolicy(policy) => (Kind::TrafficPolicy, policy.key.clone()),
            Self::Route(route) => (Kind::Route(route.key.kind), route.key.name.clone()),
        };
        ObjectKey { kind, name }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.name.namespace {
            "" => write!(f, "{} {}", self.kind, self.name.name),
            _ => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// What is wrong with a manifest.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ManifestError {
    /// It isn't YAML or JSON.
    #[error("document {document}: {message}")]
    Syntax {
        /// Which document of the file, from 1.
        document: usize,
        /// What the parser says, with line and column.
        message: String,
    },
    /// A field has a value that it can't have.
    #[error("document {document} ({object}): field {field}: {message}")]
    Field {
        /// Which document of the file, from 1.
        document: usize,
        /// Kind, namespace and name.
        object: String,
        /// Path of the field, such as `spec.ports[0].port`.
        field: String,
        /// What is wrong, and what would be right.
        message: String,
    },
}

/// A field's complaint, before it is known whose field it is.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("field {field}: {message}")]
pub(crate) struct FieldError {
    field: String,
    message: String,
    missing: bool,
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, message: impl ToString) -> Self {
        Self {
            field: field.into(),
            message: message.to_string(),
            missing: false,
        }
    }

    pub(crate) fn missing(field: &str, why: &str) -> Self {
        Self {
            missing: true,
            ..Self::new(field, format!("missing; {why}"))
        }
    }

    /// The same error, of a field below that one.
    pub(crate) fn within(self, path: &str) -> Self {
        let field = match self.field.is_empty() {
            true => path.to_owned(),
            false => format!("{path}.{}", self.field),
        };
        Self { field, ..self }
    }

    /// Whether it is that something isn't there.
    pub(crate) fn is_missing(&self) -> bool {
        self.missing
    }
}

/// Whether a file's text would be taken, without taking it: how many objects it holds
/// that the mesh has a use for.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check(text: &str) -> Result<usize, ManifestError> {
    parse(text).map(|objects| objects.len())
}

/// All objects of a file; kinds that the mesh has no use for are passed over.
///
/// # Errors
/// The first thing that is wrong: a file counts as a whole, or not at all.
pub(crate) fn parse(text: &str) -> Result<Vec<Object>, ManifestError> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple_with_options(text, yaml()).map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            let line = usize::try_from(line).unwrap_or(1);
            ManifestError::Syntax {
                document: document_at(text, line),
                message: error.to_string(),
            }
        })?;
    let mut objects = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        if !document.is_null() {
            parse_document(index + 1, document, &mut objects)?;
        }
    }
    Ok(objects)
}

/// YAML 1.2 as Kubernetes' own tools read it: a node may be named `n` without being
/// taken for `false`. The size of a file is bounded by whoever reads it.
pub(crate) fn yaml() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_documents: 100_000,
            max_nodes: 10_000_000,
            max_events: 30_000_000,
        },
    }
}

fn parse_document(
    number: usize,
    document: Value,
    objects: &mut Vec<Object>,
) -> Result<(), ManifestError> {
    let text = |path: &str| {
        document
            .pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (api_version, kind) = (text("/apiVersion").to_owned(), text("/kind").to_owned());
    let name = match text("/metadata/namespace") {
        "" => text("/metadata/name").to_owned(),
        namespace => format!("{namespace}/{}", text("/metadata/name")),
    };
    let field_error = |error: FieldError| ManifestError::Field {
        document: number,
        object: format!("{} {name}", if kind.is_empty() { "no kind" } else { &kind }),
        field: error.field,
        message: error.message,
    };
    if kind == "List" {
        let items = document
            .get("items")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        return items
            .into_iter()
            .try_for_each(|item| parse_document(number, item, objects));
    }
    let object = match (api_version.as_str(), kind.as_str()) {
        ("v1", "Pod") => typed(document).and_then(PodObject::parse).map(Object::Pod),
        ("v1", "Service") => typed(document)
            .and_then(ServiceObject::parse)
            .map(Object::Service),
        ("v1", "Namespace") => typed(document)
            .and_then(NamespaceObject::parse)
            .map(Object::Namespace),
        ("v1", "Node") => typed(document)
            .and_then(NodeObject::parse)
            .map(Object::Node),
        ("discovery.k8s.io/v1", "EndpointSlice") => typed(document)
            .and_then(SliceObject::parse)
            .map(Object::EndpointSlice),
        ("weft.dev/v1alpha1", "MeshConfig") => typed(document)
            .and_then(MeshConfigObject::parse)
            .map(Object::MeshConfig),
        ("weft.dev/v1alpha1", "ExternalService") => typed(document)
            .and_then(ExternalServiceObject::parse)
            .map(Object::ExternalService),
        ("weft.dev/v1alpha1", "TrafficPolicy") => {
            TrafficPolicyObject::whole(&document).map(Object::TrafficPolicy)
        }
        (_, "") => Err(FieldError::missing(
            "kind",
            "a manifest has apiVersion and kind",
        )),
        ("", _) => Err(FieldError::missing(
            "apiVersion",
            "a manifest has apiVersion and kind",
        )),
        // Among them ServiceAccounts: a directory's pods name theirs, and nobody deletes
        // one there to take its identity away.
        (version, kind) => match RouteObject::from_document(version, kind, document) {
            Ok(None) => return Ok(()),
            Ok(Some(route)) => Ok(Object::Route(route)),
            Err(error) => Err(error),
        },
    };
    objects.push(object.map_err(field_error)?);
    Ok(())
}

/// The typed form; an error names the path of the offending field.
fn typed<T: DeserializeOwned>(document: Value) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(document)
        .map_err(|error| FieldError::new(error.path().to_string(), error.inner()))
}

/// Which document of a multi-document text a line (from 1) belongs to.
fn document_at(text: &str, line: usize) -> usize {
    let mut document = 1;
    let mut content = false;
    for text in text.lines().take(line) {
        if text == "---" || text.starts_with("--- ") {
            document += usize::from(content);
            content = false;
        } else if !text.trim().is_empty() && !text.starts_with('#') {
            content = true;
        }
    }
    document
}

#[cfg(test)]
mod tests;
