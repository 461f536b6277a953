//! The seam between a kind and everybody who deals with all kinds alike: sources, the
//! index's tables, the admission webhook, the schemas.

use std::fmt::Debug;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::ApiResource;
use serde::de::DeserializeOwned;
use serde_json::Value;
use weft_model::NamespacedName;

use super::field_error::FieldError;
use super::kind::Kind;

/// An object as far as the mesh cares. Its type knows everything about its kind.
pub(crate) trait KindObject: Clone + Debug + PartialEq + Send + Sized + 'static {
    /// The kinds that are read as this type: one, or several that are read alike.
    const KINDS: &'static [Kind];
    /// The only one of them, or the first.
    const KIND: Kind = Self::KINDS[0];

    /// The object as it is written. A kind that other programs than the API server define
    /// is taken as it comes (`DynamicObject`): one that this version can't read is one to
    /// complain of, and must not spoil the list that it is in.
    type Document: Document;

    /// Its kind.
    fn kind(&self) -> Kind {
        Self::KIND
    }

    /// Its namespace (empty where the kind has none) and name.
    fn name(&self) -> NamespacedName;

    /// The name of an object that may be unreadable beyond its metadata.
    fn name_of(metadata: &ObjectMeta) -> NamespacedName {
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        NamespacedName::new(namespace, metadata.name.as_deref().unwrap_or_default())
    }

    /// Reads one.
    fn read(kind: Kind, document: Self::Document, form: Form) -> Read<Self>;

    /// Takes over what can't be read in it from what it was before.
    fn keep_last_good(&mut self, _before: &Self) {}

    /// What stands in for one of a manifest that can't be read, where its absence would open what
    /// is closed. Of the document as much is there as could be read.
    fn substitute(_document: &Value) -> Option<Self> {
        None
    }

    /// Its schema, where the kind is Weft's own.
    fn definition() -> Option<CustomResourceDefinition> {
        None
    }
}

/// The way an object came to us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// Written by hand: what's needed must be there, and one mistake spoils it.
    Manifest,
    /// From an API server, which fills in what is known so far. A mistake costs no more
    /// than what it is made in.
    Live,
    /// On its way into an API server: it may have no name yet, and nobody has chosen a
    /// node for it.
    Admission,
}

/// An object as the mesh reads it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Read<T> {
    /// The object; none when it is unreadable, or not of interest (yet).
    pub(crate) object: Option<T>,
    /// Everything of it that can't be used.
    pub(crate) problems: Vec<FieldError>,
    /// Of an unreadable object whose absence would open what is closed: what holds until
    /// something good of it was read.
    pub(crate) substitute: Option<T>,
}

impl<T> Read<T> {
    /// Nothing of interest.
    pub(super) fn nothing() -> Self {
        Self {
            object: None,
            problems: Vec::new(),
            substitute: None,
        }
    }

    /// There is something, and it can't be read.
    pub(super) fn unreadable(problem: FieldError) -> Self {
        Self {
            problems: vec![problem],
            ..Self::nothing()
        }
    }

    /// An object that has these problems and counts all the same.
    pub(super) fn with_problems(object: T, problems: Vec<FieldError>) -> Self {
        Self {
            object: Some(object),
            problems,
            substitute: None,
        }
    }
}

/// An object that counts as a whole or not at all.
impl<T> From<Result<T, FieldError>> for Read<T> {
    fn from(read: Result<T, FieldError>) -> Self {
        match read {
            Ok(object) => Self::with_problems(object, Vec::new()),
            Err(problem) => Self::unreadable(problem),
        }
    }
}

/// An object as it is written, which can be listed and watched.
pub(crate) trait Document:
    Resource<DynamicType: ApiType> + Clone + Debug + DeserializeOwned + Send + 'static
{
}

impl<D> Document for D where
    D: Resource<DynamicType: ApiType> + Clone + Debug + DeserializeOwned + Send + 'static
{
}

/// An API client's way to find a type of documents.
pub(crate) trait ApiType: Clone {
    /// That of a resource.
    fn of(resource: &ApiResource) -> Self;
}

/// Types of Kubernetes' own kinds know it themselves.
impl ApiType for () {
    fn of(_: &ApiResource) -> Self {}
}

impl ApiType for ApiResource {
    fn of(resource: &ApiResource) -> Self {
        resource.clone()
    }
}
