//! Modes, for the mesh and in its floor.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use weft_model::authorization_policy::DefaultAuthorization;
use weft_model::egress::EgressMode;
use weft_model::mtls::MtlsMode;

/// An egress mode as it is written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub(crate) enum EgressModeSpec {
    AllowAny,
    RegisteredOnly,
}

impl From<EgressModeSpec> for EgressMode {
    fn from(mode: EgressModeSpec) -> Self {
        match mode {
            EgressModeSpec::AllowAny => Self::AllowAny,
            EgressModeSpec::RegisteredOnly => Self::RegisteredOnly,
        }
    }
}

/// A default authorization as it is written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub(crate) enum DefaultAuthorizationSpec {
    AllowAll,
    Authenticated,
    SameNamespace,
    Deny,
}

impl From<DefaultAuthorizationSpec> for DefaultAuthorization {
    fn from(default: DefaultAuthorizationSpec) -> Self {
        match default {
            DefaultAuthorizationSpec::AllowAll => Self::AllowAll,
            DefaultAuthorizationSpec::Authenticated => Self::Authenticated,
            DefaultAuthorizationSpec::SameNamespace => Self::SameNamespace,
            DefaultAuthorizationSpec::Deny => Self::Deny,
        }
    }
}

/// An mTLS mode as it is written. Files may write it in capitals, too.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    Disabled,
    Permissive,
    Strict,
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse().map_err(de::Error::custom)? {
            MtlsMode::Disabled => Ok(Self::Disabled),
            MtlsMode::Permissive => Ok(Self::Permissive),
            MtlsMode::Strict => Ok(Self::Strict),
        }
    }
}

impl From<Mode> for MtlsMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Disabled => Self::Disabled,
            Mode::Permissive => Self::Permissive,
            Mode::Strict => Self::Strict,
        }
    }
}
