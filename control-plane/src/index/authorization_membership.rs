//! Pods' part in AuthorizationPolicies: which select them.

use std::collections::HashMap;
use std::sync::Arc;

use weft_model::NamespacedName;
use weft_model::authorization_policy::{AuthorizationMembership, DefaultAuthorization};
use weft_model::workload::Workload;

use super::objects::{Names, Objects};
use crate::kinds::{AuthorizationPolicyObject, PodObject, PolicyTarget, ServiceObject};

/// The policies that may select pods of a namespace: its own, and those of the control plane's.
pub(super) fn policies_for<'a>(
    namespace: &str,
    objects: &'a Objects,
) -> impl Iterator<Item = &'a AuthorizationPolicyObject> {
    let mesh = &*objects.mesh_namespace;
    let own = objects.tables.in_namespace(namespace);
    let of_mesh = (namespace != mesh).then(|| objects.tables.in_namespace(mesh));
    let all = own.chain(of_mesh.into_iter().flatten());
    all.map(|(_, policy)| policy)
}

/// A pod's part in AuthorizationPolicies. Of one that is not enrolled nobody asks for it.
pub(super) fn membership(
    pod: &PodObject,
    objects: &Objects,
    is_enrolled: bool,
    default: DefaultAuthorization,
) -> AuthorizationMembership {
    if !is_enrolled {
        return AuthorizationMembership::default();
    }
    let policies = policies_for(&pod.key.namespace, objects);
    let policies = policies.filter(|policy| selects(policy, pod, objects));
    // Agents are told nothing of those beyond the share of a namespace, so that one of them is
    // enough to deny.
    let mut has_beyond = false;
    let policies = policies.filter(|policy| {
        let is_beyond = objects.authorization_budget.is_beyond(&policy.key);
        let counts = !is_beyond || (policy.decides() && !has_beyond);
        has_beyond |= is_beyond && counts;
        counts
    });
    let mut decides = false;
    let policies = policies.inspect(|policy| decides |= policy.decides());
    let mut policies: Vec<_> = policies.map(|policy| policy.key.clone()).collect();
    policies.sort_unstable();
    AuthorizationMembership {
        is_observed_only: !policies.is_empty() && !decides,
        policies,
        default,
    }
}

/// Whether a policy selects a pod.
pub(super) fn selects(
    policy: &AuthorizationPolicyObject,
    pod: &PodObject,
    objects: &Objects,
) -> bool {
    let is_own = policy.key.namespace == pod.key.namespace;
    match &policy.target {
        PolicyTarget::Pods(selector) => {
            let is_mesh_wide = policy.key.namespace == objects.mesh_namespace;
            (is_own || is_mesh_wide) && selector.matches(&pod.labels)
        }
        PolicyTarget::Services(services) => {
            is_own
                && services
                    .iter()
                    .any(|service| is_of_service(pod, service, objects))
        }
    }
}

/// Whether a pod is one of a Service's, ready or not.
pub(super) fn is_of_service(pod: &PodObject, service: &NamespacedName, objects: &Objects) -> bool {
    let mut naming = objects.references.services_of_pod.to(&pod.key);
    let object = objects.tables.get::<ServiceObject>(service);
    let is_selected = object.is_some_and(|object| object.selects(pod));
    is_selected || (object.is_some() && naming.any(|known| known == service))
}

/// The number of workloads that each policy selects.
#[derive(Debug, Default)]
pub(super) struct PolicyCounts {
    counts: HashMap<NamespacedName, usize>,
    changed: Names,
}

impl PolicyCounts {
    /// A workload has become another, come or gone.
    pub(super) fn update(&mut self, before: Option<&Workload>, now: Option<&Workload>) {
        let policies = |workload: Option<&Workload>| {
            let membership = workload.map(|workload| Arc::clone(&workload.authorization));
            membership.unwrap_or_default()
        };
        let (before, now) = (policies(before), policies(now));
        if before == now {
            return;
        }
        for name in &before.policies {
            if let Some(count) = self.counts.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(name);
                }
            }
        }
        for name in &now.policies {
            *self.counts.entry(name.clone()).or_default() += 1;
        }
        let both = before.policies.iter().chain(&now.policies);
        self.changed.extend(both.cloned());
    }

    /// The number that a policy selects.
    pub(super) fn of(&self, policy: &NamespacedName) -> usize {
        self.counts.get(policy).copied().unwrap_or_default()
    }

    /// Policies that select others than before, since the last call.
    pub(super) fn take_changed(&mut self) -> Names {
        std::mem::take(&mut self.changed)
    }
}
