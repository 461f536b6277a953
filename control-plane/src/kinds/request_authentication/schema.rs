//! RequestAuthentication: the tokens that requests to some workloads may bring.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kinds::authorization_policy::schema::{AuthorizationPolicyStatus, TargetRefSpec, Texts};

/// The tokens that requests to some workloads may bring.
#[allow(
    clippy::duplicated_attributes,
    reason = "each column says of what type it is"
)]
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "RequestAuthentication",
    plural = "requestauthentications",
    shortname = "reqauth",
    category = "weft",
    namespaced,
    status = "AuthorizationPolicyStatus",
    derive = "PartialEq",
    doc = "The tokens (JWT) that requests to some workloads of the namespace may bring; to those of all namespaces when it is in the control plane's. A request whose token is invalid gets 401. One without a token passes, unless AuthorizationPolicies ask for one.",
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
pub(crate) struct RequestAuthenticationSpec {
    /// The pods that it selects; all of its namespace when both this and `targetRefs` are left
    /// out. In the control plane's namespace: those of all namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) selector: Option<LabelSelector>,
    /// The Services of the same namespace whose pods it selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub(crate) target_refs: Option<Vec<TargetRefSpec>>,
    /// Ports of the pods (not of a Service) whose requests it is about; all when left out. On one
    /// that doesn't carry HTTP every connection is denied: nobody would see its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(range(min = 1, max = 65535)))]
    pub(crate) ports: Option<Vec<i32>>,
    /// Issuers. A token has to be one of theirs.
    #[schemars(length(min = 1, max = 16))]
    pub(crate) providers: Vec<ProviderSpec>,
}

/// An issuer of tokens.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ProviderSpec {
    /// What the claim `iss` of its tokens is, letter by letter.
    #[schemars(length(min = 1, max = 1024))]
    pub(crate) issuer: String,
    /// Of which the claim `aud` has to have one, letter by letter; any, or none, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 1024)))]
    pub(crate) audiences: Texts,
    /// Algorithms that its tokens may be signed by: RS256, RS384, RS512, PS256, PS384, PS512, ES256,
    /// ES384, EdDSA; all of these when left out. Never others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 9), inner(length(min = 1, max = 16)))]
    pub(crate) algorithms: Texts,
    /// Its public keys: a JSON Web Key Set (RFC 7517), as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub(crate) jwks: Option<String>,
    /// The address of its public keys. The issuer is asked for it where this and `jwks` are left out, at
    /// `/.well-known/openid-configuration` below its own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub(crate) jwks_uri: Option<String>,
    /// Headers with its tokens. `Authorization: Bearer TOKEN` and the parameter `access_token` of
    /// the query when this, `fromCookies` and `fromParams` are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub(crate) from_headers: Option<Vec<FromHeaderSpec>>,
    /// Names of cookies with its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 256)))]
    pub(crate) from_cookies: Texts,
    /// Names of parameters of the query with its tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 256)))]
    pub(crate) from_params: Texts,
    /// The application gets the token, too. Left out, it is taken off the request.
    #[serde(default)]
    pub(crate) forward_original_token: bool,
    /// Headers in which the application gets claims. What a client sends in them is taken off,
    /// token or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub(crate) output_claim_to_headers: Option<Vec<ClaimHeaderSpec>>,
    /// Header in which the application gets the token's payload, in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub(crate) output_payload_to_header: Option<String>,
}

/// A header with a token.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FromHeaderSpec {
    /// Its name.
    #[schemars(length(min = 1, max = 256))]
    pub(crate) name: String,
    /// What stands ahead of the token, such as `Bearer `.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub(crate) prefix: Option<String>,
}

/// A header with a claim.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClaimHeaderSpec {
    /// Its name.
    #[schemars(length(min = 1, max = 256))]
    pub(crate) header: String,
    /// Name of the claim; of one within others, the names from the outside in. A claim that is a
    /// list has commas between its values.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 256)))]
    pub(crate) claim: Vec<String>,
}
