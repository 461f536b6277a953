//! How often a Service may be asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::balancing::Empty;
use crate::kinds::duration::Span;

/// How often the Service may be asked.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub(crate) struct RateLimitSpec {
    /// By each client workload, as its own proxy counts. The proxies of the Service's pods count it
    /// again, with half as much room, so that no client gets around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) local: Option<RateSpec>,
    /// By all clients together, for each pod of the Service by itself, as the pod's own proxy counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<RateSpec>,
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
    /// Name of the Service.
    #[schemars(length(min = 1, max = 63))]
    pub(crate) name: String,
    /// Namespace of the Service: the policy's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub(crate) namespace: Option<String>,
    /// Port of the Service.
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
    /// Value of the pair.
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
