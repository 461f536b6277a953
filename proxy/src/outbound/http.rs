//! Requests out of a pod: each is matched, changed, sent and recorded on its own, as the
//! routes of the Gateway API say.
//!
//! * [`connection`]: a client's connection, and what all its requests share
//! * [`exchange`]: a request, as its walk hands it on from phase to phase
//! * [`answer`]: the walk of a request: find its rule, apply the rule's filters, choose a
//!   backend, ask the policies, send it, apply the filters to the response, record once
//! * [`route`]: the rule for a request, and the backend that it chooses
//! * [`policy`]: what TrafficPolicies say of a request
//! * [`plan`]: what is decided before anything is sent
//! * [`forward`], [`attempt`]: endpoint after endpoint, attempt after attempt
//! * [`retry`]: what follows from a failed attempt; pure
//! * [`mirror`], [`session`]: copies, sticky endpoints

mod answer;
mod attempt;
mod connection;
mod exchange;
mod forward;
mod mirror;
mod plan;
mod policy;
mod retry;
mod route;
mod serve;
mod session;
#[cfg(test)]
mod test_bed;

pub(super) use self::serve::serve;
