//! Namespaces: what they ask for all of their pods.

use k8s_openapi::api::core::v1::Namespace;
use weft_model::egress::EgressMode;
use weft_model::mtls::MtlsMode;

use super::annotations::or_note;
use super::{FieldError, annotations};

/// A namespace, as far as the mesh cares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NamespaceObject {
    pub(crate) name: String,
    /// Whether its pods are in unless they say otherwise.
    pub(crate) mesh: Option<bool>,
    pub(crate) mtls_mode: Option<MtlsMode>,
    pub(crate) egress_mode: Option<EgressMode>,
}

impl NamespaceObject {
    /// A namespace as somebody wrote it down: one mistake spoils it.
    pub(super) fn parse(namespace: Namespace) -> Result<Self, FieldError> {
        let (namespace, mut problems) = Self::read(namespace)?;
        match problems.drain(..).next() {
            Some(problem) => Err(problem),
            None => Ok(namespace),
        }
    }

    /// A namespace of a cluster: a mistake costs what it is made in.
    pub(crate) fn live(namespace: Namespace) -> (Option<Self>, Vec<FieldError>) {
        match Self::read(namespace) {
            Ok((namespace, problems)) => (Some(namespace), problems),
            Err(problem) => (None, vec![problem]),
        }
    }

    fn read(namespace: Namespace) -> Result<(Self, Vec<FieldError>), FieldError> {
        let metadata = namespace.metadata;
        let name = metadata.name.filter(|name| !name.is_empty());
        let mut problems = Vec::new();
        let mesh = annotations::mesh("labels", &metadata.labels.unwrap_or_default());
        let annotations = metadata.annotations.unwrap_or_default();
        let mtls_mode = annotations::mtls_mode(&annotations);
        let egress_mode = annotations::egress_mode(&annotations);
        let namespace = Self {
            name: name
                .ok_or_else(|| FieldError::missing("metadata.name", "every object has one"))?,
            mesh: or_note(&mut problems, None, mesh),
            // Whoever wrote one didn't mean "accept anything".
            mtls_mode: or_note(&mut problems, Some(MtlsMode::Strict), mtls_mode),
            egress_mode: or_note(&mut problems, Some(EgressMode::RegisteredOnly), egress_mode),
        };
        Ok((namespace, problems))
    }
}
