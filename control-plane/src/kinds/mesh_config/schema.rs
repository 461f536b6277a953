//! MeshConfig: what holds for the whole mesh.

mod floor;
mod modes;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_model::node_access::NodeAccessMode;
use weft_model::route::path::PathNormalization;

use crate::kinds::access_log::AccessLogSpec;
use crate::kinds::idle::IdleSpec;
pub(super) use floor::{
    ExclusionsSpec, FloorExceptionSpec, FloorSpec, NamespaceSelectorSpec, OptOutSpec,
};
pub(super) use modes::{DefaultAuthorizationSpec, EgressModeSpec, Mode};

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
    /// What labels and annotations of namespaces and pods can't go below, whoever may write
    /// them. What goes below has no effect, is refused at admission and told by an Event.
    #[serde(default)]
    pub(crate) floor: FloorSpec,
    /// Requests on ports that carry HTTP.
    #[serde(default)]
    pub(crate) requests: RequestsSpec,
    /// Who may reach workloads.
    #[serde(default)]
    pub(crate) authorization: AuthorizationSpec,
    /// Lines of the access log. A namespace overrides it, choice by choice, with the annotation
    /// `weft.dev/access-log`.
    #[serde(default)]
    pub(crate) access_log: AccessLogSpec,
}

/// Who may reach workloads.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AuthorizationSpec {
    /// What may reach a workload that no ALLOW AuthorizationPolicy selects: `AllowAll` (the
    /// default) is everything, `Authenticated` what has proven an identity of the mesh,
    /// `SameNamespace` one of the workload's own namespace, `Deny` is nothing. A namespace
    /// overrides it with the annotation `weft.dev/default-authorization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default: Option<DefaultAuthorizationSpec>,
}

/// Requests on ports that carry HTTP.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RequestsSpec {
    /// How paths are compared with the matches of routes, and sent on. `Strict` (the default)
    /// sends them on as they came, and refuses a request where a server that resolves `..`,
    /// takes `//`, `\`, `%2F` or `%5C` for a slash, or leaves `;` away would be reached by
    /// another rule. `None` compares and sends them on as they came. `Base` compares and sends
    /// them on with `..` resolved, `MergeSlashes` also with several slashes for one,
    /// `DecodeAndMergeSlashes` also with `%2F` and `%5C` for a slash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path_normalization: Option<PathNormalizationSpec>,
}

/// A path normalization as it is written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub(crate) enum PathNormalizationSpec {
    Strict,
    None,
    Base,
    MergeSlashes,
    DecodeAndMergeSlashes,
}

impl From<PathNormalizationSpec> for PathNormalization {
    fn from(normalization: PathNormalizationSpec) -> Self {
        match normalization {
            PathNormalizationSpec::Strict => Self::Strict,
            PathNormalizationSpec::None => Self::None,
            PathNormalizationSpec::Base => Self::Base,
            PathNormalizationSpec::MergeSlashes => Self::MergeSlashes,
            PathNormalizationSpec::DecodeAndMergeSlashes => Self::DecodeAndMergeSlashes,
        }
    }
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

/// What workloads ask of their clients.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MtlsSpec {
    /// `permissive` (the default) takes mutual TLS from those who can and plaintext from
    /// the rest, `strict` mutual TLS only. A namespace or a pod overrides it with the
    /// annotation `weft.dev/mtls-mode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<Mode>,
    /// Plaintext that strict workloads take from their own node: `probes` (the default) is what
    /// their probes and lifecycle hooks declare, from kubelet; `all` is anything, from any
    /// process of the node that is in no pod. A namespace or a pod overrides it with the
    /// annotation `weft.dev/node-access`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node_access: Option<NodeAccessSpec>,
}

/// A node access as it is written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NodeAccessSpec {
    Probes,
    All,
}

impl From<NodeAccessSpec> for NodeAccessMode {
    fn from(access: NodeAccessSpec) -> Self {
        match access {
            NodeAccessSpec::Probes => Self::Probes,
            NodeAccessSpec::All => Self::All,
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
    /// The spec that was accepted last, as JSON. It is in force while a later one can't be
    /// read, as one of a newer version may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_accepted_spec: Option<String>,
}
