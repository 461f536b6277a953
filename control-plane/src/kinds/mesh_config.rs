//! MeshConfig: what holds for the whole mesh.

mod schema;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResourceExt;
use kube::api::DynamicObject;
use weft_model::egress::EgressMode;
use weft_model::idle::IdleLimits;
use weft_model::mtls::MtlsMode;
use weft_model::{NamespacedName, TrustDomain};

use super::document;
use super::field_error::FieldError;
use super::kind::{Kind, KindInfo, Provider};
use super::kind_object::{Form, KindObject, Read};
use schema::{MeshConfig, MeshConfigSpec, MtlsSpec};

/// Settings of the whole mesh.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MeshConfigObject {
    pub(crate) trust_domain: Option<TrustDomain>,
    pub(crate) mtls_mode: Option<MtlsMode>,
    pub(crate) egress_mode: Option<EgressMode>,
    pub(crate) idle_limits: IdleLimits,
}

impl KindObject for MeshConfigObject {
    const KINDS: &'static [Kind] = &[Kind::new(&KindInfo {
        name: "MeshConfig",
        group: "weft.dev",
        versions: &["v1alpha1"],
        plural: "meshconfigs",
        provider: Provider::Weft,
        fallback: "",
    })];

    type Document = DynamicObject;

    fn name(&self) -> NamespacedName {
        the_only_one()
    }

    fn name_of(_: &ObjectMeta) -> NamespacedName {
        the_only_one()
    }

    fn read(_: Kind, config: DynamicObject, _: Form) -> Read<Self> {
        document::spec(&config)
            .and_then(|spec| Self::parse(spec.unwrap_or_default()))
            .into()
    }

    fn definition() -> Option<CustomResourceDefinition> {
        Some(MeshConfig::crd())
    }
}

/// There is one, whatever its name.
fn the_only_one() -> NamespacedName {
    NamespacedName::new("", "default")
}

impl MeshConfigObject {
    fn parse(spec: MeshConfigSpec) -> Result<Self, FieldError> {
        let MeshConfigSpec {
            trust_domain,
            mtls: MtlsSpec { mode },
            egress,
            connections,
        } = spec;
        let trust_domain = trust_domain.map(|text| text.parse()).transpose();
        Ok(Self {
            trust_domain: trust_domain
                .map_err(|error| FieldError::new("spec.trustDomain", error))?,
            mtls_mode: mode.map(MtlsMode::from),
            egress_mode: egress.mode.map(EgressMode::from),
            idle_limits: connections.limits("spec.connections")?,
        })
    }
}

#[cfg(test)]
mod tests;
