//! Limits, failures, retries and timeouts; faults that are made on purpose.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kinds::duration::Span;

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
