//! The requests of one connection that are under way: policies that change may revoke them.

use std::sync::{Arc, Mutex, Weak};

use weft_model::Mesh;
use weft_model::authorization_policy::AuthorizationPolicies;

use super::authorization_policies::{PodPolicies, PolicySubject};
use crate::sync::lock;
use crate::telemetry::AuthorizationNote;
use crate::upstream::RequestUnderWay;

/// The requests of one connection that are under way.
#[derive(Debug, Default)]
pub(super) struct RequestsUnderWay(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    requests: Vec<Weak<RequestUnderWay>>,
    /// Those that all of them were last decided by.
    decided_by: Option<Arc<AuthorizationPolicies>>,
}

impl RequestsUnderWay {
    /// A request begins. To be entered before it is decided about: policies that change meanwhile
    /// are then those that decide, or revoke it.
    pub(super) fn enter(&self, request: &Arc<RequestUnderWay>) {
        let requests = &mut lock(&self.0).requests;
        // As seldom as the list has doubled.
        if requests.len() == requests.capacity() {
            requests.retain(|request| request.strong_count() > 0);
            requests.reserve(requests.len().max(1));
        }
        requests.push(Arc::downgrade(request));
    }

    /// Revokes those that the policies of a snapshot deny, where these are others than the last
    /// time.
    pub(super) fn revoke_denied(&self, subject: &PolicySubject, mesh: &Mesh) {
        let policies = match subject.policies(mesh) {
            PodPolicies::Known(policies) => Some(policies),
            PodPolicies::Open | PodPolicies::Unknown => None,
        };
        let requests: Vec<_> = {
            let mut table = lock(&self.0);
            let is_same = match (&table.decided_by, &policies) {
                (Some(before), Some(now)) => Arc::ptr_eq(before, now),
                (None, None) => true,
                _ => false,
            };
            if is_same {
                return;
            }
            table.decided_by.clone_from(&policies);
            table.requests.iter().filter_map(Weak::upgrade).collect()
        };
        let Some(policies) = policies else {
            return;
        };
        for request in requests {
            let Some(head) = request.head().restore() else {
                request.revoke(AuthorizationNote::default());
                continue;
            };
            let verdict = subject.request_verdict(&policies, &head.as_head());
            if verdict.ends_connections() {
                request.revoke(AuthorizationNote::from(&verdict));
            }
        }
    }
}
