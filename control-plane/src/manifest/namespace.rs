//! Namespaces: what they ask for all of their pods.

use k8s_openapi::api::core::v1::Namespace;
use weft_model::policy::MtlsMode;

use super::{FieldError, annotations};

/// A namespace, as far as the mesh cares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NamespaceObject {
    pub(crate) name: String,
    /// Whether its pods are in unless they say otherwise.
    pub(crate) mesh: Option<bool>,
    pub(crate) mtls_mode: Option<MtlsMode>,
}

impl NamespaceObject {
    pub(super) fn parse(namespace: Namespace) -> Result<Self, FieldError> {
        let metadata = namespace.metadata;
        let name = metadata.name.filter(|name| !name.is_empty());
        Ok(Self {
            name: name
                .ok_or_else(|| FieldError::missing("metadata.name", "every object has one"))?,
            mesh: annotations::mesh("labels", &metadata.labels.unwrap_or_default())?,
            mtls_mode: annotations::mtls_mode(&metadata.annotations.unwrap_or_default())?,
        })
    }
}
