//! AuthorizationPolicies: their rules, as agents have them, and what their authors are told.

use std::collections::BTreeMap;

use weft_model::NamespacedName;
use weft_model::authorization_policy::AuthorizationPolicy;
use weft_model::mesh::Change;

use super::authorization_budget::MOST_BYTES;
use super::authorization_membership::{PolicyCounts, policies_for};
use super::changes::Changes;
use super::conflict::Conflict;
use super::http_rules;
use super::objects::{Names, Objects};
use super::published::{Published, Resource, STAYS_IN_FORCE};
use crate::kinds::{
    AuthorizationPolicyObject, PolicyTarget, RequestAuthenticationObject, ServiceObject,
};

/// The condition `Accepted` of an AuthorizationPolicy, what it selects, and the state of it that
/// both are about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AuthorizationStatus {
    /// The object's UID: its name may be another's soon.
    pub(crate) uid: Option<String>,
    /// The generation that was evaluated.
    pub(crate) generation: Option<i64>,
    /// The mesh follows it.
    pub(crate) accepted: bool,
    /// A word for why.
    pub(crate) reason: &'static str,
    /// The same for people.
    pub(crate) message: String,
    /// The part of the message that its author should do something about.
    pub(crate) complaint: Option<String>,
    /// Number of workloads of the mesh that it selects.
    pub(crate) workloads: usize,
}

/// The policies that agents have, and those that may be others by now.
#[derive(Debug, Default)]
pub(super) struct AuthorizationPolicies {
    dirty: Names,
    published: Published<AuthorizationPolicy>,
    statuses: BTreeMap<NamespacedName, AuthorizationStatus>,
    /// Policies whose status is another since somebody asked.
    changed_statuses: Names,
    /// Policies that aren't followed as they are written.
    conflicts: BTreeMap<NamespacedName, Conflict>,
}

impl Resource for AuthorizationPolicy {
    type Key = NamespacedName;

    fn changed(self) -> Change {
        Change::AuthorizationPolicy(self)
    }

    fn removed(key: NamespacedName) -> Change {
        Change::AuthorizationPolicyRemoved(key)
    }
}

impl AuthorizationPolicies {
    /// A policy, or what its status follows from, is about to be or was just changed.
    pub(super) fn mark_dirty(&mut self, policy: &NamespacedName) {
        self.dirty.insert(policy.clone());
    }

    /// A Service is about to be or was just changed: it may be the target of policies, or declare
    /// that a port doesn't carry the requests that their rules look at.
    pub(super) fn mark_service_dirty(&mut self, service: &NamespacedName, objects: &Objects) {
        let targeting = objects
            .references
            .authorization_policies_of_service
            .to(service);
        self.dirty.extend(targeting.cloned());
        let looking = policies_for(&service.namespace, objects);
        let looking = looking.filter(|policy| http_rules::looks_at_requests(policy));
        self.dirty.extend(looking.map(|policy| policy.key.clone()));
    }

    /// The status of a policy that is known.
    pub(super) fn status(&self, policy: &NamespacedName) -> Option<&AuthorizationStatus> {
        self.statuses.get(policy)
    }

    /// Policies whose status is another since the last call.
    pub(super) fn take_changed_statuses(&mut self) -> Names {
        std::mem::take(&mut self.changed_statuses)
    }

    /// Policies that aren't followed as they are written.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        self.conflicts.values()
    }

    /// Looks at everything dirty, and at the policies that select other workloads than before.
    pub(super) fn update(
        &mut self,
        objects: &Objects,
        selected: &mut PolicyCounts,
        changes: &mut Changes,
    ) {
        self.dirty.extend(selected.take_changed());
        for name in std::mem::take(&mut self.dirty) {
            let object = objects.authorization_policy(&name);
            let is_told = !objects.authorization_budget.is_beyond(&name);
            let policy = is_told.then(|| objects.told_policy(&name)).flatten();
            self.published.set(&name, policy, changes);
            let status = object.map(|object| status(object, objects, selected.of(&name)));
            self.set_conflict(&name, status.as_ref(), objects);
            if self.statuses.get(&name) != status.as_ref() {
                self.changed_statuses.insert(name.clone());
                match status {
                    Some(status) => self.statuses.insert(name, status),
                    None => self.statuses.remove(&name),
                };
            }
        }
    }

    /// For the reader of a directory's errors; a cluster's objects have their status.
    fn set_conflict(
        &mut self,
        name: &NamespacedName,
        status: Option<&AuthorizationStatus>,
        objects: &Objects,
    ) {
        let message = status.and_then(|status| status.complaint.clone());
        let object = RequestAuthenticationObject::object_of_told(name);
        let origin = objects.tables.origin(&object).cloned();
        match message.zip(origin) {
            None => {
                self.conflicts.remove(name);
            }
            Some((message, origin)) => {
                let conflict = Conflict::Authorization {
                    object,
                    origin,
                    message,
                };
                self.conflicts.insert(name.clone(), conflict);
            }
        }
    }
}

fn status(
    policy: &AuthorizationPolicyObject,
    objects: &Objects,
    workloads: usize,
) -> AuthorizationStatus {
    let of = |accepted, reason, message: String, complaint| AuthorizationStatus {
        uid: policy.uid.clone(),
        generation: policy.generation,
        accepted,
        reason,
        message,
        complaint,
        workloads,
    };
    let refused = |reason, message: String| of(false, reason, message.clone(), Some(message));
    if let Err(error) = &policy.content {
        let then = match policy.last_good {
            Some(_) => STAYS_IN_FORCE,
            None => "until it is right, nothing reaches the workloads that it selects",
        };
        return refused("Invalid", format!("{error}; {then}"));
    }
    if objects.authorization_budget.is_beyond(&policy.key) {
        let message = format!(
            "the AuthorizationPolicies of namespace {} need more than {MOST_BYTES} bytes in agents \
             together, and this is one of the newest: until they need less, nothing reaches the \
             workloads that it selects",
            policy.key.namespace
        );
        return refused("TooMany", message);
    }
    if let Some(missing) = missing_targets(policy, objects) {
        return refused("TargetNotFound", missing);
    }
    let problem = http_rules::problem(policy, objects);
    let missing_keys = || objects.key_sets.missing(&policy.key, &objects.tables);
    let problem = problem.map(|problem| format!("{}: {}", problem.field, problem.message));
    match problem.or_else(missing_keys) {
        None => of(true, "Accepted", "in force".to_owned(), None),
        Some(problem) => {
            let message = format!("in force, but {problem}");
            of(true, "Accepted", message.clone(), Some(message))
        }
    }
}

/// The complaint of a policy none of whose Services exists.
fn missing_targets(policy: &AuthorizationPolicyObject, objects: &Objects) -> Option<String> {
    let PolicyTarget::Services(services) = &policy.target else {
        return None;
    };
    let exists = |name: &NamespacedName| objects.tables.get::<ServiceObject>(name).is_some();
    if services.iter().any(exists) {
        return None;
    }
    let names: Vec<_> = services.iter().map(ToString::to_string).collect();
    Some(format!("there is no Service {}", names.join(", ")))
}
