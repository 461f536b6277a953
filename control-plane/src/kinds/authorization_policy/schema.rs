//! AuthorizationPolicy: who may send what to some workloads.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_model::authorization_policy::Action;

/// Who may send what to some workloads.
#[allow(
    clippy::duplicated_attributes,
    reason = "each column says of what type it is"
)]
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "AuthorizationPolicy",
    plural = "authorizationpolicies",
    shortname = "authzpol",
    category = "weft",
    namespaced,
    status = "AuthorizationPolicyStatus",
    derive = "PartialEq",
    doc = "Who may connect to some workloads of the namespace and what they may ask of them; of all namespaces when it is in the control plane's. What DENY matches is denied; else what ALLOW matches is allowed; what reaches a workload that an ALLOW policy selects and matches none is denied.",
    printcolumn(
        name = "Action",
        type_ = "string",
        json_path = ".spec.action",
        description = "What becomes of what matches; ALLOW when empty."
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status",
        description = "Whether the mesh follows it."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].reason",
        description = "Why, or why not."
    ),
    printcolumn(
        name = "Workloads",
        type_ = "integer",
        json_path = ".status.workloads",
        description = "How many workloads it selects."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.selector) || !has(self.targetRefs)").message(
    "a policy selects pods by spec.selector or by spec.targetRefs, not by both"
))]
pub(crate) struct AuthorizationPolicySpec {
    /// The pods that it selects; all of its namespace when both this and `targetRefs` are left
    /// out. In the control plane's namespace: those of all namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) selector: Option<LabelSelector>,
    /// The Services of the same namespace whose pods it selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub(crate) target_refs: Option<Vec<TargetRefSpec>>,
    /// What becomes of what a rule matches: `ALLOW` (the default), `DENY`, or `AUDIT`, which
    /// names it in logs and changes nothing.
    #[serde(default)]
    pub(crate) action: ActionSpec,
    /// Rules, of which one has to match. Without any, nothing matches: an ALLOW policy then
    /// denies everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub(crate) rules: Vec<RuleSpec>,
}

/// A Service.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TargetRefSpec {
    /// Empty, as that of Services is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 0))]
    pub(crate) group: String,
    /// `Service`.
    pub(crate) kind: TargetKindSpec,
    /// Name of the Service.
    #[schemars(length(min = 1, max = 63))]
    pub(crate) name: String,
}

/// What a policy can be of.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub(crate) enum TargetKindSpec {
    Service,
}

/// An action as it is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum ActionSpec {
    #[default]
    Allow,
    Deny,
    Audit,
}

impl From<ActionSpec> for Action {
    fn from(action: ActionSpec) -> Self {
        match action {
            ActionSpec::Allow => Self::Allow,
            ActionSpec::Deny => Self::Deny,
            ActionSpec::Audit => Self::Audit,
        }
    }
}

/// A rule: it matches when all of its parts do, and everything when it has none.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RuleSpec {
    /// Clients, of which one has to match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub(crate) from: Option<Vec<SourceSpec>>,
    /// Ports and requests, of which one has to match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub(crate) to: Option<Vec<OperationSpec>>,
    /// Headers and claims, all of which have to match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub(crate) when: Option<Vec<ConditionSpec>>,
}

/// A list of texts; left out, it says nothing.
pub(crate) type Texts = Option<Vec<String>>;

/// Clients: all that is said has to match.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SourceSpec {
    /// SPIFFE IDs, such as `cluster.local/ns/shop/sa/cart`; with a `*` at the beginning or the
    /// end, it stands for any text there. `*` alone is everybody who has proven an identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 1024)))]
    pub(crate) principals: Texts,
    /// SPIFFE IDs that it is not for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 1024)))]
    pub(crate) not_principals: Texts,
    /// ServiceAccounts: `NAMESPACE/NAME`, or `NAME` in the policy's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 320)))]
    pub(crate) service_accounts: Texts,
    /// ServiceAccounts that it is not for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 320)))]
    pub(crate) not_service_accounts: Texts,
    /// Namespaces; with a `*` at the beginning or the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 64)))]
    pub(crate) namespaces: Texts,
    /// Namespaces that it is not for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 64)))]
    pub(crate) not_namespaces: Texts,
    /// Addresses or blocks (`10.0.0.0/8`) from which the connection comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 64)))]
    pub(crate) ip_blocks: Texts,
    /// Addresses or blocks that it is not for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 64)))]
    pub(crate) not_ip_blocks: Texts,
    /// `ISSUER/SUBJECT` of the request's token, which a RequestAuthentication verifies; with a `*`
    /// at the beginning or the end. `*` alone is every request with a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 1024)))]
    pub(crate) request_principals: Texts,
    /// Tokens' `ISSUER/SUBJECT` that it is not for; `*` alone is every token: it is for requests
    /// without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 1024)))]
    pub(crate) not_request_principals: Texts,
}

/// Ports and requests: all that is said has to match. All but ports are about requests of HTTP;
/// on a port that doesn't carry HTTP, such a rule of an ALLOW policy matches nothing, and one of
/// a DENY policy every connection.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OperationSpec {
    /// Ports of the pod (not of a Service).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(range(min = 1, max = 65535)))]
    pub(crate) ports: Option<Vec<i32>>,
    /// Ports that it is not for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(range(min = 1, max = 65535)))]
    pub(crate) not_ports: Option<Vec<i32>>,
    /// Methods, such as `GET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 64)))]
    pub(crate) methods: Texts,
    /// Methods that it is not for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 64)))]
    pub(crate) not_methods: Texts,
    /// Paths without query: `/cart`, `/cart/*`, `*.png`, or with `{*}` for one segment and
    /// `{**}` for any number of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 1024)))]
    pub(crate) paths: Texts,
    /// Paths that it is not for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 1024)))]
    pub(crate) not_paths: Texts,
    /// Hosts in lower case and without port; with a `*` at the beginning or the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 255)))]
    pub(crate) hosts: Texts,
    /// Hosts that it is not for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 255)))]
    pub(crate) not_hosts: Texts,
    /// Methods of gRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub(crate) grpc: Option<Vec<GrpcSpec>>,
    /// Methods of gRPC that it is not for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub(crate) not_grpc: Option<Vec<GrpcSpec>>,
}

/// Methods of gRPC: a service, a method of any, or one of both.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct GrpcSpec {
    /// Package and name, such as `shop.v1.Cart`; any when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub(crate) service: Option<String>,
    /// Name of the method; any when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub(crate) method: Option<String>,
}

/// A header of a request, or a claim of its token.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ConditionSpec {
    /// Name of the header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub(crate) header: Option<String>,
    /// Name of the claim; of one within others, the names from the outside in. Of a claim that is a
    /// list, one value has to match. A RequestAuthentication verifies the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 256)))]
    pub(crate) claim: Texts,
    /// Its values, with a `*` at the beginning or the end; `*` alone is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 1024)))]
    pub(crate) values: Texts,
    /// Values that it must not have; `*` alone is any: it must not be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 1024)))]
    pub(crate) not_values: Texts,
}

/// What became of it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuthorizationPolicyStatus {
    /// `Accepted`: whether the mesh follows this object as of `observedGeneration`. The reason
    /// is `Accepted`, or why not: `Invalid`, `TargetNotFound` when none of its Services exists, or
    /// `TooMany` when the policies of its namespace have too much in them.
    #[serde(default)]
    pub(crate) conditions: Vec<Condition>,
    /// How many workloads of the mesh it selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) workloads: Option<i64>,
}
