//! What is decided about a request before it is sent anywhere.

use super::policy::RequestPolicies;
use super::retry::AttemptPolicy;
use super::route::Destination;
use crate::http::outgoing::OutgoingRequest;

/// A request of which everything is decided but the endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlannedRequest<'a> {
    pub(super) outgoing: &'a OutgoingRequest,
    pub(super) destination: &'a Destination,
    pub(super) policies: &'a RequestPolicies,
    pub(super) attempts: &'a AttemptPolicy<'a>,
}
