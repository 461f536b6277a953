//! MeshConfig: what holds for the whole mesh.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use weft_model::egress::EgressMode;
use weft_model::mtls::MtlsMode;

use crate::kinds::idle::IdleSpec;

/// What holds for the whole mesh. A cluster has one, named `default`.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "MeshConfig",
    plural = "meshconfigs",
    shortname = "meshcfg",
    category = "weft",
    status = "MeshConfigStatus",
    derive = "PartialEq",
    doc = "What holds for the whole mesh. There is one, named `default`; without it the defaults hold.",
    printcolumn(
        name = "mTLS",
        type_ = "string",
        json_path = ".spec.mtls.mode",
        description = "What workloads ask of their clients unless they or their namespace say otherwise."
    ),
    printcolumn(
        name = "Egress",
        type_ = "string",
        json_path = ".spec.egress.mode",
        description = "What workloads may reach outside the mesh unless their namespace says otherwise."
    ),
    printcolumn(
        name = "Trust Domain",
        type_ = "string",
        json_path = ".spec.trustDomain",
        description = "The first part of every identity of the mesh."
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status",
        description = "Whether the mesh follows it."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name == 'default'")
        .message("a cluster has one MeshConfig, named `default`")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new(
    "has(self.trustDomain) == has(oldSelf.trustDomain) && (!has(self.trustDomain) || self.trustDomain == oldSelf.trustDomain)"
).message(
    "the trust domain can't be changed while the mesh runs: every identity would change at once. Delete the MeshConfig and create it anew to do so nevertheless"
))]
pub(crate) struct MeshConfigSpec {
    /// The first part of every identity of the mesh (`spiffe://TRUST-DOMAIN/ns/...`): lower
    /// case letters, digits, dots, hyphens and underscores. `cluster.local` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[a-z0-9._-]+$"))]
    pub(crate) trust_domain: Option<String>,
    /// Mutual TLS.
    #[serde(default)]
    pub(crate) mtls: MtlsSpec,
    /// What workloads may reach outside the mesh.
    #[serde(default)]
    pub(crate) egress: EgressSpec,
    /// How long connections may be silent. A namespace or a pod overrides it with the
    /// annotations `weft.dev/idle-timeout` and `weft.dev/half-closed-timeout`, a TrafficPolicy
    /// for the connections to its Service.
    #[serde(default)]
    pub(crate) connections: IdleSpec,
}

/// What workloads may reach outside the mesh.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EgressSpec {
    /// `AllowAny` (the default) lets them connect to whatever they want, `RegisteredOnly`
    /// to Services, pods and ExternalServices only. A namespace overrides it with the
    /// annotation `weft.dev/egress-mode`. It is about TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<EgressModeSpec>,
}

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

/// What workloads ask of their clients.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MtlsSpec {
    /// `permissive` (the default) takes mutual TLS from those who can and plaintext from
    /// the rest, `strict` mutual TLS only. A namespace or a pod overrides it with the
    /// annotation `weft.dev/mtls-mode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<Mode>,
}

/// An mTLS mode as it is written. Files may write it in capitals, too.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    Permissive,
    Strict,
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse().map_err(de::Error::custom)? {
            MtlsMode::Permissive => Ok(Self::Permissive),
            MtlsMode::Strict => Ok(Self::Strict),
        }
    }
}

impl From<Mode> for MtlsMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Permissive => Self::Permissive,
            Mode::Strict => Self::Strict,
        }
    }
}

/// What became of it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MeshConfigStatus {
    /// `Accepted`: whether the mesh follows this object as of `observedGeneration`.
    #[serde(default)]
    pub(crate) conditions: Vec<Condition>,
}
