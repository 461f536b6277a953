//! How an endpoint is chosen.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kinds::duration::Span;

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
    /// Name of the cookie.
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$")
    )]
    pub(crate) name: String,
    /// How long a client keeps it; as long as it runs when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ttl: Option<Span>,
}

/// No settings.
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
