//! MeshConfig: what holds for the whole mesh.

use serde::Deserialize;
use weft_model::TrustDomain;
use weft_model::egress::EgressMode;
use weft_model::mtls::MtlsMode;

use super::FieldError;
use crate::api::{MeshConfigSpec, MtlsSpec};

/// The document as written. Its name doesn't matter: a directory has one of them.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Document {
    #[serde(default)]
    spec: MeshConfigSpec,
}

/// What holds for the whole mesh.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MeshConfigObject {
    pub(crate) trust_domain: Option<TrustDomain>,
    pub(crate) mtls_mode: Option<MtlsMode>,
    pub(crate) egress_mode: Option<EgressMode>,
}

impl MeshConfigObject {
    /// A MeshConfig of a cluster.
    pub(crate) fn from_value(config: serde_json::Value) -> Result<Self, FieldError> {
        super::typed(config).and_then(Self::parse)
    }

    pub(super) fn parse(document: Document) -> Result<Self, FieldError> {
        let MeshConfigSpec {
            trust_domain,
            mtls: MtlsSpec { mode },
            egress,
        } = document.spec;
        let trust_domain = trust_domain.map(|text| text.parse()).transpose();
        Ok(Self {
            trust_domain: trust_domain
                .map_err(|error| FieldError::new("spec.trustDomain", error))?,
            mtls_mode: mode.map(MtlsMode::from),
            egress_mode: egress.mode.map(EgressMode::from),
        })
    }
}
