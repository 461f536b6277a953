//! MeshConfig: what holds for the whole mesh.

use serde::Deserialize;
use weft_model::TrustDomain;
use weft_model::policy::MtlsMode;

use super::FieldError;

/// The document as written.
#[derive(Debug, Default, Deserialize)]
pub(super) struct MeshConfig {
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    trust_domain: Option<String>,
    #[serde(default)]
    mtls: Mtls,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mtls {
    mode: Option<String>,
}

/// What holds for the whole mesh.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MeshConfigObject {
    pub(crate) trust_domain: Option<TrustDomain>,
    pub(crate) mtls_mode: Option<MtlsMode>,
}

impl MeshConfigObject {
    pub(super) fn parse(config: MeshConfig) -> Result<Self, FieldError> {
        let Spec { trust_domain, mtls } = config.spec;
        let trust_domain = trust_domain.map(|text| text.parse()).transpose();
        let mtls_mode = mtls.mode.map(|text| text.parse()).transpose();
        Ok(Self {
            trust_domain: trust_domain
                .map_err(|error| FieldError::new("spec.trustDomain", error))?,
            mtls_mode: mtls_mode.map_err(|error| FieldError::new("spec.mtls.mode", error))?,
        })
    }
}
