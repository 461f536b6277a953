//! TrafficPolicy: how requests reach one Service, and what happens when they don't.

mod balancing;
mod rate_limit;
mod resilience;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kinds::duration::Span;
use crate::kinds::idle::ServiceIdleSpec;
pub(crate) use balancing::{BalancerType, HashSpec, LoadBalancerSpec, LocalitySpec, Prefer};
pub(crate) use rate_limit::{EntrySpec, GlobalRateLimitSpec, RateLimitSpec, RateSpec};
pub(crate) use resilience::{
    CircuitBreakerSpec, FaultSpec, LimitsSpec, OutlierDetectionSpec, RetryBudgetSpec, RetrySpec,
    TimeoutsSpec,
};

/// How requests and connections reach one Service, and what happens when they don't.
#[allow(
    clippy::duplicated_attributes,
    reason = "each column says of what type it is"
)]
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "TrafficPolicy",
    plural = "trafficpolicies",
    shortname = "trafficpol",
    category = "weft",
    namespaced,
    status = "TrafficPolicyStatus",
    derive = "PartialEq",
    doc = "How requests and connections of the mesh reach one Service of the same namespace. A Service follows one, the oldest that is valid.",
    printcolumn(
        name = "Service",
        type_ = "string",
        json_path = ".spec.targetRef.name",
        description = "The Service that it is of."
    ),
    printcolumn(
        name = "Balancer",
        type_ = "string",
        json_path = ".spec.loadBalancer.type",
        description = "How an endpoint is chosen; EWMA when empty."
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
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TrafficPolicySpec {
    /// The Service that it is of, in the same namespace.
    pub(crate) target_ref: TargetRef,
    /// How an endpoint is chosen: EWMA when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) load_balancer: Option<LoadBalancerSpec>,
    /// Which endpoints are preferred for where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) locality: Option<LocalitySpec>,
    /// How long a new endpoint takes to get its whole share. At once when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) slow_start: Option<Span>,
    /// How much each client workload may have under way. No limit where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limits: Option<LimitsSpec>,
    /// When the requests of a client workload are refused because too many failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) circuit_breaker: Option<CircuitBreakerSpec>,
    /// When an endpoint gets nothing for a while because it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outlier_detection: Option<OutlierDetectionSpec>,
    /// How many of the requests may be retries (GEP-3388).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_budget: Option<RetryBudgetSpec>,
    /// When requests are tried again where no route says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry: Option<RetrySpec>,
    /// How long requests may take where no route says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeouts: Option<TimeoutsSpec>,
    /// How long connections may be silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<ServiceIdleSpec>,
    /// What fails on purpose. Of several of a sort, the first that hits a request counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub(crate) faults: Vec<FaultSpec>,
    /// How often the Service may be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rate_limit: Option<RateLimitSpec>,
}

/// The Service that a policy is of.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TargetRef {
    /// Empty, as that of Services is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 0))]
    pub(crate) group: String,
    /// `Service`.
    pub(crate) kind: TargetKind,
    /// Name of the Service.
    #[schemars(length(min = 1, max = 63))]
    pub(crate) name: String,
}

/// What a policy can be of.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub(crate) enum TargetKind {
    Service,
}

/// What became of it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TrafficPolicyStatus {
    /// `Accepted`: whether the mesh follows this object as of `observedGeneration`. The
    /// reason is `Accepted`, or why not: `Invalid`, `TargetNotFound`, or `Conflicted`,
    /// when an older policy is of the same Service.
    #[serde(default)]
    pub(crate) conditions: Vec<Condition>,
}
