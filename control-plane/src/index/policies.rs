//! Which TrafficPolicy a Service follows. One decision, [`evaluate`], says what agents are
//! told and what the authors are told, so that both agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_model::NamespacedName;
use weft_model::mesh::Change;
use weft_model::service::ServiceKind;
use weft_model::traffic::TrafficPolicy;

use super::changes::Changes;
use super::conflict::Conflict;
use super::objects::{Names, Objects};
use super::published::{Published, Resource, STAYS_IN_FORCE};
use crate::kinds::{KindObject, ServiceObject, TrafficPolicyObject};

/// The condition `Accepted` of a TrafficPolicy, and the state of it that it is about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PolicyStatus {
    /// The object's UID: its name may be another's soon.
    pub(crate) uid: Option<String>,
    /// The generation that was evaluated.
    pub(crate) generation: Option<i64>,
    /// Its Service follows it.
    pub(crate) accepted: bool,
    /// A word for why.
    pub(crate) reason: &'static str,
    /// The same for people.
    pub(crate) message: String,
}

/// The status of every TrafficPolicy by its name.
pub(crate) type PolicyStatuses = BTreeMap<NamespacedName, PolicyStatus>;

/// The policies that Services follow, and what may be another by now.
#[derive(Debug, Default)]
pub(super) struct Policies {
    dirty: Names,
    /// Services whose TrafficPolicies are.
    dirty_targets: Names,
    /// By the Service that follows it.
    published: Published<TrafficPolicy>,
    statuses: Arc<PolicyStatuses>,
    /// Policies that nobody follows.
    conflicts: BTreeMap<NamespacedName, Conflict>,
}

/// The policy that a Service follows, and the status of all that are of it.
fn evaluate(
    service: &NamespacedName,
    objects: &Objects,
) -> (Option<TrafficPolicy>, Vec<(NamespacedName, PolicyStatus)>) {
    let policies = objects.references.policies_of_service.to(service);
    let policies = policies.filter_map(|name| objects.tables.get::<TrafficPolicyObject>(name));
    let mut policies: Vec<_> = policies.collect();
    policies.sort_by_key(|policy| (policy.created, &policy.key));
    let unusable = unusable(service, objects);
    let mut first: Option<(&NamespacedName, &TrafficPolicy)> = None;
    let mut statuses = Vec::new();
    for policy in policies {
        let status = match (&policy.content, &unusable, first) {
            (Err(error), None, None) if policy.last_good.is_some() => {
                first = policy.last_good.as_deref().map(|good| (&policy.key, good));
                let why = format!("{error}; {STAYS_IN_FORCE}");
                PolicyStatus::no(policy, "Invalid", why)
            }
            (Err(error), _, _) => PolicyStatus::no(policy, "Invalid", error.to_string()),
            (Ok(_), Some((reason, why)), _) => PolicyStatus::no(policy, reason, why.clone()),
            (Ok(_), None, Some((first, _))) => {
                let why = format!("TrafficPolicy {first} is of Service {service} and older");
                PolicyStatus::no(policy, "Conflicted", why)
            }
            (Ok(content), None, None) => {
                first = Some((&policy.key, content));
                PolicyStatus {
                    accepted: true,
                    ..PolicyStatus::no(policy, "Accepted", "in force".to_owned())
                }
            }
        };
        statuses.push((policy.key.clone(), status));
    }
    (first.map(|(_, policy)| policy.clone()), statuses)
}

/// The reason for which a Service can follow no policy.
fn unusable(service: &NamespacedName, objects: &Objects) -> Option<(&'static str, String)> {
    let Some(object) = objects.tables.get::<ServiceObject>(service) else {
        return Some(("TargetNotFound", format!("there is no Service {service}")));
    };
    let of = match &object.service.kind {
        ServiceKind::ClusterIp(_) => return None,
        ServiceKind::Headless => "is headless",
        ServiceKind::External(_) => "is of type ExternalName",
    };
    let why = "clients find its endpoints by DNS, so the mesh has nothing to choose";
    let why = format!("Service {service} {of}: {why}");
    Some(("UnsupportedTarget", why))
}

impl PolicyStatus {
    fn no(policy: &TrafficPolicyObject, reason: &'static str, message: String) -> Self {
        Self {
            uid: policy.uid.clone(),
            generation: policy.generation,
            accepted: false,
            reason,
            message,
        }
    }
}

impl Resource for TrafficPolicy {
    type Key = NamespacedName;

    fn changed(self) -> Change {
        Change::TrafficPolicy(Box::new(self))
    }

    fn removed(key: NamespacedName) -> Change {
        Change::TrafficPolicyRemoved(key)
    }
}

impl Policies {
    /// The status of every TrafficPolicy.
    pub(super) fn statuses(&self) -> &Arc<PolicyStatuses> {
        &self.statuses
    }

    /// Policies that nobody follows.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        self.conflicts.values()
    }

    /// A TrafficPolicy is about to be or was just changed.
    pub(super) fn mark_dirty(&mut self, policy: &TrafficPolicyObject) {
        self.dirty.insert(policy.key.clone());
        self.dirty_targets.extend(policy.target.clone());
    }

    /// A Service is about to be or was just changed.
    pub(super) fn mark_target_dirty(&mut self, service: &NamespacedName, objects: &Objects) {
        if objects.references.policies_of_service.any_to(service) {
            self.dirty_targets.insert(service.clone());
        }
    }

    /// Looks at everything dirty.
    pub(super) fn update(&mut self, objects: &Objects, changes: &mut Changes) {
        let policies = std::mem::take(&mut self.dirty);
        let targets = std::mem::take(&mut self.dirty_targets);
        for name in &policies {
            let status = match objects.tables.get::<TrafficPolicyObject>(name) {
                // Of nobody knows what.
                Some(policy) if policy.target.is_none() => {
                    let error = policy.content.as_ref().err();
                    let why = error.map_or_else(String::new, ToString::to_string);
                    Some(PolicyStatus::no(policy, "Invalid", why))
                }
                _ => None,
            };
            self.set_status(name, status);
        }
        for service in &targets {
            let (policy, statuses) = evaluate(service, objects);
            for (name, status) in statuses {
                self.set_status(&name, Some(status));
            }
            self.published.set(service, policy, changes);
        }
        if !policies.is_empty() || !targets.is_empty() {
            self.find_conflicts(objects);
        }
    }

    fn set_status(&mut self, name: &NamespacedName, status: Option<PolicyStatus>) {
        if self.statuses.get(name) == status.as_ref() {
            return;
        }
        let statuses = Arc::make_mut(&mut self.statuses);
        match status {
            Some(status) => statuses.insert(name.clone(), status),
            None => statuses.remove(name),
        };
    }

    /// For the reader of a directory's errors; a cluster's objects have their status.
    fn find_conflicts(&mut self, objects: &Objects) {
        let refused = self.statuses.iter().filter(|(_, status)| !status.accepted);
        let conflicts = refused.filter_map(|(name, status)| {
            let entry = objects.tables.entry(TrafficPolicyObject::KIND, name);
            let (origin, _): (_, &TrafficPolicyObject) = entry?;
            let conflict = Conflict::Policy {
                policy: name.clone(),
                origin: origin.clone(),
                message: status.message.clone(),
            };
            Some((name.clone(), conflict))
        });
        self.conflicts = conflicts.collect();
    }
}
