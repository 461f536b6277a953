//! The requests of one connection that are under way: policies that change may revoke them.

use std::sync::{Arc, Mutex, Weak};

use tokio::runtime::Handle;
use weft_model::Mesh;
use weft_model::authorization_policy::AuthorizationPolicies;

use super::authorization_policies::{PodPolicies, PolicySubject};
use crate::sync::lock;
use crate::telemetry::AuthorizationNote;
use crate::upstream::RequestUnderWay;

/// Requests that are looked at without a pause.
const LOOKED_AT_ONCE: usize = 16;

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
    /// time. Some are looked at here and now. Where there are more, a task does the rest, which
    /// lets others have their turn: each may need a signature to be verified.
    pub(super) fn revoke_denied(self: &Arc<Self>, subject: &PolicySubject, mesh: &Mesh) {
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
        let mut requests = requests.into_iter();
        for request in requests.by_ref().take(LOOKED_AT_ONCE) {
            revoke_if_denied(&request, subject, &policies);
        }
        if requests.len() == 0 {
            return;
        }
        match Handle::try_current() {
            Ok(runtime) => {
                let (this, subject) = (Arc::clone(self), subject.clone());
                let rest: Vec<_> = requests.collect();
                runtime.spawn(async move { this.revoke_rest(&rest, &subject, &policies).await });
            }
            Err(_) => requests.for_each(|request| revoke_if_denied(&request, subject, &policies)),
        }
    }

    /// The same of the rest, as long as nobody has begun to look at all of them by newer policies.
    async fn revoke_rest(
        &self,
        requests: &[Arc<RequestUnderWay>],
        subject: &PolicySubject,
        policies: &Arc<AuthorizationPolicies>,
    ) {
        for some in requests.chunks(LOOKED_AT_ONCE) {
            tokio::task::yield_now().await;
            let decided_by = lock(&self.0).decided_by.clone();
            if decided_by.is_none_or(|now| !Arc::ptr_eq(&now, policies)) {
                return;
            }
            for request in some {
                revoke_if_denied(request, subject, policies);
            }
        }
    }
}

fn revoke_if_denied(
    request: &RequestUnderWay,
    subject: &PolicySubject,
    policies: &AuthorizationPolicies,
) {
    let Some(head) = request.head().restore() else {
        return request.revoke(AuthorizationNote::default());
    };
    let decided = subject.decide_by(policies, &head.as_head(), request.came());
    if decided.ends_connections {
        request.revoke(decided.note);
    }
}

#[cfg(test)]
mod tests;
