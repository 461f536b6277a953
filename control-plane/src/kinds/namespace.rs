//! Namespaces: what they ask for all of their pods.

use k8s_openapi::api::core::v1::Namespace;
use weft_model::NamespacedName;
use weft_model::egress::EgressMode;
use weft_model::idle::IdleLimits;
use weft_model::mtls::MtlsMode;

use super::annotations::{self, Texts, or_note};
use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, Provider};
use super::kind_object::{Form, KindObject, Read};

/// A namespace, as far as the mesh cares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NamespaceObject {
    pub(crate) name: String,
    /// Its pods are in, or out, unless they say otherwise.
    pub(crate) mesh: Option<bool>,
    pub(crate) mtls_mode: Option<MtlsMode>,
    pub(crate) egress_mode: Option<EgressMode>,
    pub(crate) idle_limits: IdleLimits,
}

impl KindObject for NamespaceObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "Namespace",
        group: "",
        versions: &["v1"],
        plural: "namespaces",
        provider: Provider::Kubernetes,
        fallback: " (an mTLS mode that can't be read counts as strict, an egress mode as RegisteredOnly)",
    })];

    type Document = Namespace;

    fn name(&self) -> NamespacedName {
        NamespacedName::new("", &self.name)
    }

    fn read(_: Kind, namespace: Namespace, _: Form) -> Read<Self> {
        Self::with_problems(&namespace).unwrap_or_else(|error| Err(error).into())
    }
}

impl NamespaceObject {
    fn with_problems(namespace: &Namespace) -> Result<Read<Self>, FieldError> {
        let metadata = &namespace.metadata;
        let mut problems = Vec::new();
        let none = Texts::new();
        let labels = metadata.labels.as_ref().unwrap_or(&none);
        let annotations = metadata.annotations.as_ref().unwrap_or(&none);
        let mesh = annotations::mesh("labels", labels);
        let mtls_mode = annotations::mtls_mode(annotations);
        let egress_mode = annotations::egress_mode(annotations);
        let idle_limits = annotations::idle_limits(annotations);
        let namespace = Self {
            name: document::name(metadata)?.to_owned(),
            mesh: or_note(&mut problems, None, mesh),
            // Whoever wrote one didn't mean "accept anything".
            mtls_mode: or_note(&mut problems, Some(MtlsMode::Strict), mtls_mode),
            egress_mode: or_note(&mut problems, Some(EgressMode::RegisteredOnly), egress_mode),
            idle_limits: or_note(&mut problems, IdleLimits::default(), idle_limits),
        };
        Ok(Read::with_problems(namespace, problems))
    }
}
