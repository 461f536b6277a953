//! Which TrafficPolicy a Service follows. One decision, [`evaluate`], says what agents are
//! told and what the authors are told, so that both agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_model::NamespacedName;
use weft_model::mesh::Change;
use weft_model::service::ServiceKind;
use weft_model::traffic::TrafficPolicy;

use super::objects::Objects;
use super::{Conflict, Index};
use crate::manifest::TrafficPolicyObject;

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

/// The policy that a Service follows, and the status of all that are of it.
fn evaluate(
    service: &NamespacedName,
    objects: &Objects,
) -> (Option<TrafficPolicy>, Vec<(NamespacedName, PolicyStatus)>) {
    let policies = objects.policies_of.of(service);
    let policies = policies.filter_map(|name| objects.policies.get(name));
    let mut policies: Vec<_> = policies.collect();
    policies.sort_by_key(|policy| (policy.created, &policy.key));
    let unusable = unusable(service, objects);
    let mut first: Option<(&NamespacedName, &TrafficPolicy)> = None;
    let mut statuses = Vec::new();
    for policy in policies {
        let status = match (&policy.content, &unusable, first) {
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

/// Why a Service can follow no policy.
fn unusable(service: &NamespacedName, objects: &Objects) -> Option<(&'static str, String)> {
    let Some(object) = objects.services.get(service) else {
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

impl Index {
    /// The status of every TrafficPolicy.
    pub(crate) fn policy_statuses(&self) -> &Arc<PolicyStatuses> {
        &self.published.policy_statuses
    }

    /// A TrafficPolicy, or what it is of, is about to be or was just changed.
    pub(super) fn mark_policy_dirty(&mut self, name: &NamespacedName) {
        self.dirty_policies.insert(name.clone());
        let policy = self.objects.policies.get(name);
        let target = policy.and_then(|policy| policy.target.clone());
        self.dirty_targets.extend(target);
    }

    pub(super) fn update_policies(&mut self, changes: &mut Vec<Change>, gone: &mut Vec<Change>) {
        let policies = std::mem::take(&mut self.dirty_policies);
        let targets = std::mem::take(&mut self.dirty_targets);
        for name in &policies {
            let status = match self.objects.policies.get(name) {
                // Of nobody knows what.
                Some(policy) if policy.target.is_none() => {
                    let error = policy.content.as_ref().err();
                    let why = error.map_or_else(String::new, ToString::to_string);
                    Some(PolicyStatus::no(policy, "Invalid", why))
                }
                _ => None,
            };
            self.published.set_policy_status(name, status);
        }
        for service in &targets {
            let (policy, statuses) = evaluate(service, &self.objects);
            for (name, status) in statuses {
                self.published.set_policy_status(&name, Some(status));
            }
            let published = self.published.policies.get(service);
            match policy {
                Some(policy) if published != Some(&policy) => {
                    changes.push(Change::TrafficPolicy(Box::new(policy.clone())));
                    self.published.policies.insert(service.clone(), policy);
                }
                Some(_) => {}
                None => {
                    if self.published.policies.remove(service).is_some() {
                        gone.push(Change::TrafficPolicyRemoved(service.clone()));
                    }
                }
            }
        }
        if !policies.is_empty() || !targets.is_empty() {
            self.find_policy_conflicts();
        }
    }

    /// What a directory's reader is told; a cluster's objects have their status.
    fn find_policy_conflicts(&mut self) {
        let refused = self.published.policy_statuses.iter();
        let refused = refused.filter(|(_, status)| !status.accepted);
        let conflicts = refused.filter_map(|(name, status)| {
            let (origin, _) = self.objects.policies.entry(name)?;
            let conflict = Conflict::Policy {
                policy: name.clone(),
                origin: origin.clone(),
                message: status.message.clone(),
            };
            Some((name.clone(), conflict))
        });
        self.published.policy_conflicts = conflicts.collect();
    }
}

impl super::Published {
    fn set_policy_status(&mut self, name: &NamespacedName, status: Option<PolicyStatus>) {
        if self.policy_statuses.get(name) == status.as_ref() {
            return;
        }
        let statuses = Arc::make_mut(&mut self.policy_statuses);
        match status {
            Some(status) => statuses.insert(name.clone(), status),
            None => statuses.remove(name),
        };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Event;
    use super::*;
    use crate::manifest::{Kind, Object, ObjectKey, parse};
    use crate::source::Origin;

    fn apply(index: &mut Index, object: Object) -> Vec<Change> {
        index.handle_event(Event::Applied(Origin::new(), object));
        index.changes()
    }

    fn service(cluster_ip: &str) -> Object {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{ name: web, namespace: shop }}\n\
             spec: {{ clusterIP: \"{cluster_ip}\", ports: [{{ port: 80 }}] }}\n"
        );
        parse(&text).unwrap().remove(0)
    }

    fn policy(name: &str, created: &str, spec: serde_json::Value) -> Object {
        let object = TrafficPolicyObject::from_value(&json!({
            "metadata": {
                "name": name, "namespace": "shop", "generation": 1,
                "creationTimestamp": format!("2026-01-{created}T00:00:00Z"),
            },
            "spec": spec,
        }));
        Object::TrafficPolicy(object.unwrap())
    }

    fn of_web() -> serde_json::Value {
        json!({ "targetRef": { "kind": "Service", "name": "web" } })
    }

    fn delete(index: &mut Index, kind: Kind, name: &str) -> Vec<Change> {
        let name = NamespacedName::new("shop", name);
        let key = ObjectKey { kind, name };
        index.handle_event(Event::Deleted(Origin::new(), key));
        index.changes()
    }

    fn reason(index: &Index, name: &str) -> &'static str {
        let status = index
            .policy_statuses()
            .get(&NamespacedName::new("shop", name));
        status.map_or("none", |status| status.reason)
    }

    #[test]
    fn a_service_follows_the_oldest_policy_and_the_next_when_that_goes() {
        let mut index = Index::default();
        apply(&mut index, service("10.96.0.7"));
        apply(&mut index, policy("young", "03", of_web()));
        assert_eq!(reason(&index, "young"), "Accepted");
        let mut spec = of_web();
        spec["slowStart"] = json!("7s");
        let changes = apply(&mut index, policy("old", "02", spec));
        let [Change::TrafficPolicy(told)] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        assert_eq!(told.slow_start, Some(std::time::Duration::from_secs(7)));
        assert_eq!(reason(&index, "young"), "Conflicted");
        assert_eq!(index.conflicts().count(), 1);
        delete(&mut index, Kind::TrafficPolicy, "old");
        assert_eq!(
            (reason(&index, "young"), reason(&index, "old")),
            ("Accepted", "none")
        );
        assert_eq!(index.conflicts().count(), 0);
        let web = NamespacedName::new("shop", "web");
        let changes = delete(&mut index, Kind::TrafficPolicy, "young");
        assert_eq!(changes, [Change::TrafficPolicyRemoved(web)]);
    }

    #[test]
    fn a_policy_waits_for_its_service() {
        let mut index = Index::default();
        assert_eq!(apply(&mut index, policy("web", "01", of_web())), []);
        assert_eq!(reason(&index, "web"), "TargetNotFound");
        let changes = apply(&mut index, service("10.96.0.7"));
        assert!(matches!(
            changes.as_slice(),
            [Change::Service(_), Change::TrafficPolicy(_)]
        ));
        let changes = delete(&mut index, Kind::Service, "web");
        assert!(matches!(
            changes.as_slice(),
            [Change::TrafficPolicyRemoved(_), Change::ServiceRemoved(_)]
        ));
        assert_eq!(reason(&index, "web"), "TargetNotFound");
    }

    #[test]
    fn what_the_mesh_chooses_nothing_for_follows_no_policy() {
        let mut index = Index::default();
        apply(&mut index, service("None"));
        assert_eq!(apply(&mut index, policy("web", "01", of_web())), []);
        assert_eq!(reason(&index, "web"), "UnsupportedTarget");
    }

    #[test]
    fn an_invalid_policy_costs_itself_only() {
        let mut index = Index::default();
        apply(&mut index, service("10.96.0.7"));
        let mut spec = of_web();
        spec["slowStart"] = json!("soon");
        apply(&mut index, policy("bad", "01", spec));
        apply(&mut index, policy("nothing", "01", json!({})));
        let changes = apply(&mut index, policy("good", "02", of_web()));
        assert_eq!(changes.len(), 1);
        let reasons = ["bad", "nothing", "good"].map(|name| reason(&index, name));
        assert_eq!(reasons, ["Invalid", "Invalid", "Accepted"]);
    }

    #[test]
    fn a_policy_that_turns_to_another_service_leaves_the_first() {
        let mut index = Index::default();
        apply(&mut index, service("10.96.0.7"));
        apply(&mut index, policy("web", "01", of_web()));
        let other = json!({ "targetRef": { "kind": "Service", "name": "api" } });
        let changes = apply(&mut index, policy("web", "01", other));
        assert!(matches!(
            changes.as_slice(),
            [Change::TrafficPolicyRemoved(_)]
        ));
        assert_eq!(reason(&index, "web"), "TargetNotFound");
    }
}
