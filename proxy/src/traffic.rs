//! What TrafficPolicies do while connections and requests are served. The decisions are the
//! model's; here is what they are made from, and how long that is remembered.
//!
//! * [`upstream_service`]: one pod's state towards a port of a Service, for one connection or
//!   request: what it is asked for
//! * [`clients`], [`client`]: what one pod has under way to each Service: its limits, circuit
//!   breaker, rate and retries
//! * [`affinity`]: the endpoint that a pod stays with
//! * [`endpoint_states`], [`endpoints`]: what is known of endpoints, by all pods of the node
//!   together: who is ejected, who is new
//! * [`loads`], [`endpoint_attempt`]: what endpoints cost, and what goes there now
//! * [`outcome_report`]: what is learned from how a request went
//! * [`received_rates`]: how often one pod is asked, by whom
//! * [`refusal`]: what is refused
//! * [`candidate_cache`], [`sequences`]: candidates by snapshot; whose turn it is among backends
//!
//! State belongs to a Service, not to its policy: a policy that changes finds everything that
//! was counted under the earlier one.

mod affinity;
mod candidate_cache;
mod client;
mod clients;
mod endpoint_attempt;
mod endpoint_states;
mod endpoints;
mod loads;
mod outcome_report;
mod received_rates;
mod refusal;
mod retention;
mod sequences;
#[cfg(test)]
mod tests;
mod upstream_service;

pub(crate) use self::candidate_cache::CandidateCache;
pub(crate) use self::client::TrafficPermit;
pub(crate) use self::clients::ServiceClients;
pub(crate) use self::endpoint_attempt::EndpointAttempt;
pub(crate) use self::endpoint_states::EndpointStates;
pub(crate) use self::outcome_report::{OutcomeReport, RequestPermits};
pub(crate) use self::received_rates::{RateLimitedClient, ReceivedRates};
pub(crate) use self::refusal::PolicyRefusal;
pub(crate) use self::sequences::RuleSequences;
pub(crate) use self::upstream_service::UpstreamService;
