//! Rate limits as the proxy of the workload that is called counts them: whoever goes around a client's
//! proxy comes to this one.

use crate::name::NamespacedName;
use crate::traffic::policy::TrafficPolicy;
use crate::traffic::token_bucket::LocalRateLimit;

/// The rate limits of the Services that lead to one port of a workload. A request doesn't prove which
/// of them its client has called, so what they allow adds up; one without a limit adds nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReceivingRateLimits<'a> {
    /// For each client by itself.
    pub of_client: Vec<(&'a NamespacedName, LocalRateLimit)>,
    /// For all clients together.
    pub of_all: Vec<(&'a NamespacedName, LocalRateLimit)>,
}

impl<'a> ReceivingRateLimits<'a> {
    /// Those of policies, of one Service each.
    pub fn of(policies: impl IntoIterator<Item = &'a TrafficPolicy>) -> Self {
        let mut limits = Self::default();
        for policy in policies {
            let service = &policy.service;
            let of_client = policy.local_rate_limit.as_ref();
            let of_client = of_client.map(|limit| (service, limit.with_room()));
            limits.of_client.extend(of_client);
            let of_all = policy.instance_rate_limit.as_ref();
            limits.of_all.extend(of_all.map(|limit| (service, *limit)));
        }
        limits
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.of_client.is_empty() && self.of_all.is_empty()
    }
}
