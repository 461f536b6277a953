//! What the authors of objects are told by their status.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_model::NamespacedName;
use weft_model::route::RouteKey;

use super::{AuthorizationStatus, Index, PolicyStatuses, RouteStatus};

impl Index {
    /// The status of every TrafficPolicy.
    pub(crate) fn policy_statuses(&self) -> &Arc<PolicyStatuses> {
        self.policies.statuses()
    }

    /// The status of a route that is known.
    pub(crate) fn route_status(&self, route: &RouteKey) -> Option<&Arc<RouteStatus>> {
        self.routes.status(route)
    }

    /// Routes whose status is another since the last call.
    pub(crate) fn changed_route_statuses(&mut self) -> BTreeSet<RouteKey> {
        self.routes.take_changed_statuses()
    }

    /// The status of an AuthorizationPolicy that is known.
    pub(crate) fn authorization_status(
        &self,
        policy: &NamespacedName,
    ) -> Option<&AuthorizationStatus> {
        self.authorization_policies.status(policy)
    }

    /// AuthorizationPolicies whose status is another since the last call.
    pub(crate) fn changed_authorization_statuses(&mut self) -> BTreeSet<NamespacedName> {
        self.authorization_policies.take_changed_statuses()
    }
}
