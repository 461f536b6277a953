//! TrafficPolicy: how requests reach one Service, and what happens when they don't.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

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
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub(crate) name: String,
}

/// What a policy can be of.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub(crate) enum TargetKind {
    Service,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("(self.type == 'ConsistentHash') == has(self.hash)").message(
    "`hash` says what ConsistentHash goes by; other types go by nothing"
))]
pub(crate) struct LoadBalancerSpec {
    /// `EWMA`: the better of two by latency and load. `RoundRobin`: one after the other.
    /// `LeastRequest`: the less busy of two. `Random`: any. `ConsistentHash`: the same for
    /// the same `hash`.
    #[serde(rename = "type")]
    pub(crate) kind: BalancerType,
    /// What of a request decides about its endpoint. A request without it goes anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hash: Option<HashSpec>,
}

/// Ways to choose an endpoint.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub(crate) enum BalancerType {
    #[serde(rename = "EWMA")]
    Ewma,
    RoundRobin,
    LeastRequest,
    Random,
    ConsistentHash,
}

/// What of a request decides about its endpoint: one of these.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("maxProperties" = 1, "minProperties" = 1))]
pub(crate) struct HashSpec {
    /// The value of the header of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$")
    )]
    pub(crate) header: Option<String>,
    /// The value of a cookie, which the proxy gives out to clients that have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cookie: Option<HashCookieSpec>,
    /// The client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<Empty>,
}

/// A cookie that decides about the endpoint.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HashCookieSpec {
    /// Its name.
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$")
    )]
    pub(crate) name: String,
    /// How long a client keeps it; as long as it runs when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ttl: Option<Span>,
}

/// Nothing more to say.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Empty {}

/// Which endpoints are preferred for where they are.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LocalitySpec {
    /// `Any`: none. `Zone`: those of the client's zone, then of its region. `Node`: those
    /// of the client's node, then of its zone, then of its region. Others are used as far
    /// as the preferred ones are missing or ejected.
    pub(crate) prefer: Prefer,
}

/// Preferred places.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub(crate) enum Prefer {
    Any,
    Zone,
    Node,
}

/// How much each client workload may have under way. What is over a limit is refused at
/// once.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LimitsSpec {
    /// Connections that carry no requests (TCP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub(crate) connections: Option<i32>,
    /// Requests that were sent and not answered to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub(crate) requests: Option<i32>,
    /// Requests that wait for a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub(crate) pending_requests: Option<i32>,
}

/// When the requests of a client workload are refused because too many failed.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.consecutiveFailures) || has(self.failurePercent)").message(
    "consecutiveFailures or failurePercent says what opens it"
))]
pub(crate) struct CircuitBreakerSpec {
    /// Failures in a row that open it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) consecutive_failures: Option<i32>,
    /// Share of failures in the window that opens it, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub(crate) failure_percent: Option<i32>,
    /// Requests that a window needs before their share counts: 10 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) minimum_requests: Option<i32>,
    /// The window: 10s when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<Span>,
    /// How long it stays open: 30s when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) open_for: Option<Span>,
    /// Requests that are let through to see whether all is well again; as many successes
    /// close it. 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) probes: Option<i32>,
}

/// When an endpoint gets nothing for a while because it failed.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.consecutiveFailures) || has(self.failurePercent)").message(
    "consecutiveFailures or failurePercent says what ejects an endpoint"
))]
pub(crate) struct OutlierDetectionSpec {
    /// Failures in a row that eject it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) consecutive_failures: Option<i32>,
    /// Share of failures in the window that ejects it, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub(crate) failure_percent: Option<i32>,
    /// Requests that a window needs before their share counts: 10 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) minimum_requests: Option<i32>,
    /// The window: 10s when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<Span>,
    /// How long it is ejected the first time, and how much longer each further time: 30s
    /// when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base_ejection: Option<Span>,
    /// How long it is ejected at the most: 5m when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_ejection: Option<Span>,
    /// Share of the endpoints that may be ejected at once, in percent; one always may.
    /// 10 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub(crate) max_ejected_percent: Option<i32>,
}

/// How many of the requests may be retries (GEP-3388). What is over it is not tried again.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RetryBudgetSpec {
    /// Share of the requests of the last interval: 20 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub(crate) percent: Option<i32>,
    /// The interval: 10s when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interval: Option<Span>,
    /// Retries a second that are always allowed: 10 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub(crate) minimum_per_second: Option<i32>,
}

/// When requests are tried again where no route says so (GEP-1731).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RetrySpec {
    /// Statuses that are worth another attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(range(min = 400, max = 599)))]
    pub(crate) codes: Vec<i32>,
    /// Attempts after the first: 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub(crate) attempts: Option<i32>,
    /// Least wait between two attempts: none when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) backoff: Option<Span>,
}

/// How long requests may take where no route says so (GEP-1742). `0s` is no limit.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TimeoutsSpec {
    /// All attempts together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<Span>,
    /// One attempt; not longer than the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) backend_request: Option<Span>,
}

/// Something that fails on purpose.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.delay) != has(self.abort)").message(
    "a fault is either a delay or an abort"
))]
pub(crate) struct FaultSpec {
    /// The request waits before it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) delay: Option<Span>,
    /// The request is answered, and not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) abort: Option<AbortSpec>,
    /// To how many of the requests: 100 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub(crate) percent: Option<f64>,
}

/// What a request is answered with on purpose: one of these.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("maxProperties" = 1, "minProperties" = 1))]
pub(crate) struct AbortSpec {
    /// An HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 200, max = 599))]
    pub(crate) http_status: Option<i32>,
    /// A gRPC status, as a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 16))]
    pub(crate) grpc_status: Option<i32>,
}

/// How often the Service may be asked.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub(crate) struct RateLimitSpec {
    /// By each client workload, as its own proxy counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) local: Option<RateSpec>,
    /// By all clients together, as a rate limit service counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) global: Option<GlobalRateLimitSpec>,
}

/// So many in each interval.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RateSpec {
    /// Requests in each interval.
    #[schemars(range(min = 1))]
    pub(crate) requests: i32,
    /// The interval: 1s when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interval: Option<Span>,
    /// Requests that may come at once: as many as in an interval when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) burst: Option<i32>,
}

/// What a rate limit service is asked before a request is sent
/// (`envoy.service.ratelimit.v3`).
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct GlobalRateLimitSpec {
    /// Where it is: the control plane's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<ServerRef>,
    /// The domain of the limits.
    #[schemars(length(min = 1, max = 253))]
    pub(crate) domain: String,
    /// What is counted. A request is refused when any of them is over its limit.
    #[schemars(length(min = 1, max = 16))]
    pub(crate) descriptors: Vec<DescriptorSpec>,
    /// The limit of each descriptor, in requests for each second, minute, hour or day; as
    /// the server is set up when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<GlobalRateSpec>,
    /// How long the server may take: 100ms when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<Span>,
    /// Whether requests are sent when it doesn't answer: true when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fail_open: Option<bool>,
}

/// So many in each second, minute, hour or day.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct GlobalRateSpec {
    /// Requests in each interval.
    #[schemars(range(min = 1))]
    pub(crate) requests: i32,
    /// The interval: 1s (when left out), 1m, 1h or 24h, as the protocol knows no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interval: Option<Span>,
}

/// A port of a Service.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServerRef {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub(crate) name: String,
    /// Its namespace: the policy's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub(crate) namespace: Option<String>,
    /// Its port.
    #[schemars(range(min = 1, max = 65535))]
    pub(crate) port: i32,
}

/// What is counted together: requests that have all of these in common.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DescriptorSpec {
    /// One or more pairs.
    #[schemars(length(min = 1, max = 16))]
    pub(crate) entries: Vec<EntrySpec>,
}

/// One pair of a descriptor: one of these. A request that lacks it isn't counted.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("maxProperties" = 1, "minProperties" = 1))]
pub(crate) struct EntrySpec {
    /// The same for all requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) generic: Option<GenericEntrySpec>,
    /// The value of a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) header: Option<HeaderEntrySpec>,
    /// `source_identity`: who asks, so that each client has its own count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_identity: Option<Empty>,
    /// `path`: the path, without its query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<Empty>,
    /// `method`: the method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<Empty>,
}

/// A pair that is the same for all requests.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct GenericEntrySpec {
    /// Its key: `generic_key` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub(crate) key: Option<String>,
    /// Its value.
    #[schemars(length(min = 1, max = 256))]
    pub(crate) value: String,
}

/// A pair whose value is that of a header.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HeaderEntrySpec {
    /// The key: the header's name when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub(crate) key: Option<String>,
    /// The header's name.
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$")
    )]
    pub(crate) name: String,
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
