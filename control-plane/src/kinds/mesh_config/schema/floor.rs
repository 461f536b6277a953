//! The floor below what namespaces and pods may ask for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::modes::{DefaultAuthorizationSpec, EgressModeSpec, Mode};

/// The floor below what namespaces and pods may ask for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FloorSpec {
    /// Namespaces whose pods are in the mesh, whatever their labels say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) enrolled_namespaces: Option<NamespaceSelectorSpec>,
    /// The weakest mTLS mode: `strict` leaves no workload permissive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mtls_mode: Option<Mode>,
    /// The weakest egress mode: `RegisteredOnly` lets no namespace choose `AllowAny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) egress_mode: Option<EgressModeSpec>,
    /// Whether a pod of an enrolled namespace may leave the mesh by its annotation
    /// `weft.dev/mesh: disabled`. `Allowed` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) opt_out: Option<OptOutSpec>,
    /// Outbound traffic that pods may exclude from capture. When left out: any where the egress
    /// mode is `AllowAny`, and none where it is `RegisteredOnly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exclusions: Option<ExclusionsSpec>,
    /// The most open default authorization: `SameNamespace` lets no namespace choose
    /// `Authenticated` or `AllowAll`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default_authorization: Option<DefaultAuthorizationSpec>,
    /// Namespaces with a floor of their own. The first that selects a namespace counts; what it
    /// leaves out is as above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) exceptions: Vec<FloorExceptionSpec>,
}

/// The floor of some namespaces.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FloorExceptionSpec {
    /// The namespaces.
    pub(crate) namespaces: NamespaceSelectorSpec,
    /// The weakest mTLS mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mtls_mode: Option<Mode>,
    /// The weakest egress mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) egress_mode: Option<EgressModeSpec>,
    /// Whether a pod may leave the mesh by its annotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) opt_out: Option<OptOutSpec>,
    /// Outbound traffic that pods may exclude from capture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exclusions: Option<ExclusionsSpec>,
    /// The most open default authorization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default_authorization: Option<DefaultAuthorizationSpec>,
}

/// Namespaces: those with one of the names, and those with the labels.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NamespaceSelectorSpec {
    /// Their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) names: Vec<String>,
    /// Their labels. Whoever may label a namespace puts it in: choose labels that only
    /// administrators may set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) selector: Option<LabelSelector>,
}

/// Outbound traffic that pods may exclude from capture.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ExclusionsSpec {
    /// Destination ports, or ranges of them such as `8000-8999`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ports: Vec<String>,
    /// Address blocks: these, and blocks within them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) cidrs: Vec<String>,
}

/// Whether pods may leave the mesh.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub(crate) enum OptOutSpec {
    Allowed,
    Forbidden,
}
