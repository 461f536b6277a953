//! AuthorizationPolicies: those of each workload, compiled once for all changes that come
//! together.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::authorization_policy::{
    AuthorizationMembership, AuthorizationPolicies, AuthorizationPolicy,
};
use crate::identity::SpiffeId;
use crate::name::NamespacedName;
use crate::network_policy::PolicyRevision;
use crate::workload::{Workload, WorkloadUid};

/// All AuthorizationPolicies, and which workloads they select.
#[derive(Clone, Debug, Default)]
pub(super) struct AuthorizationIndex {
    by_name: HashMap<NamespacedName, Arc<AuthorizationPolicy>>,
    revision: PolicyRevision,
    by_workload: HashMap<WorkloadUid, GroupNumber>,
    numbers: HashMap<GroupKey, GroupNumber>,
    groups: HashMap<GroupNumber, Group>,
    by_policy: HashMap<NamespacedName, BTreeSet<GroupNumber>>,
    /// Groups whose policies are others than those that were compiled.
    stale: BTreeSet<GroupNumber>,
    next: GroupNumber,
}

type GroupNumber = u64;

/// What workloads with the same verdicts have in common. Of the identity, namespace and trust
/// domain count; replicas have the same.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct GroupKey {
    membership: Arc<AuthorizationMembership>,
    identity: SpiffeId,
}

/// Workloads with the same verdicts.
#[derive(Clone, Debug)]
struct Group {
    key: GroupKey,
    workloads: usize,
    /// None before it is compiled for the first time.
    compiled: Option<Arc<AuthorizationPolicies>>,
}

impl AuthorizationIndex {
    /// The policies of a workload.
    pub(super) fn of_workload(&self, uid: &WorkloadUid) -> Option<&Arc<AuthorizationPolicies>> {
        let group = self.groups.get(self.by_workload.get(uid)?)?;
        group.compiled.as_ref()
    }

    /// Whether nothing has changed since it was compiled.
    pub(super) fn is_compiled(&self) -> bool {
        self.stale.is_empty()
    }

    /// Compiles what has changed.
    pub(super) fn compile(&mut self) {
        for number in std::mem::take(&mut self.stale) {
            let Some(group) = self.groups.get_mut(&number) else {
                continue;
            };
            let GroupKey {
                membership,
                identity,
            } = &group.key;
            let policy = |name: &NamespacedName| self.by_name.get(name).cloned();
            let compiled = AuthorizationPolicies::new(identity, membership, policy);
            group.compiled = Some(Arc::new(compiled));
        }
    }

    /// The policy of that name.
    pub(super) fn get(&self, name: &NamespacedName) -> Option<&Arc<AuthorizationPolicy>> {
        self.by_name.get(name)
    }

    /// What tells all of them apart from those of another moment.
    pub(super) fn revision(&self) -> &PolicyRevision {
        &self.revision
    }

    /// Whether the policies of a workload, which is known or not, are already those that it
    /// says.
    pub(super) fn has(&self, workload: &Workload) -> bool {
        let number = self.by_workload.get(&workload.uid);
        let group = number.and_then(|number| self.groups.get(number));
        group.is_some_and(|group| group.key.is_of(workload))
    }

    /// Adds a policy, or replaces the one of its name.
    pub(super) fn insert(&mut self, mut policy: AuthorizationPolicy) {
        let known = self.by_name.get(&policy.key);
        let before = known.and_then(|known| known.authentication.as_ref());
        if let Some((now, before)) = policy.authentication.as_mut().zip(before) {
            now.keep_keys(before);
        }
        if known.is_none_or(|known| **known != policy) {
            self.mark_changed(&policy.key);
            self.by_name.insert(policy.key.clone(), Arc::new(policy));
        }
    }

    /// Removes a policy.
    pub(super) fn remove(&mut self, name: &NamespacedName) {
        if self.by_name.remove(name).is_some() {
            self.mark_changed(name);
        }
    }

    /// Adds a workload, or replaces the one of its UID.
    pub(super) fn insert_workload(&mut self, workload: &Workload) {
        let key = GroupKey {
            membership: Arc::clone(&workload.authorization),
            identity: workload.identity.clone(),
        };
        let number = match self.numbers.get(&key) {
            Some(number) => *number,
            None => self.insert_group(key),
        };
        if let Some(group) = self.groups.get_mut(&number) {
            group.workloads += 1;
        }
        self.remove_workload(&workload.uid);
        self.by_workload.insert(workload.uid.clone(), number);
    }

    /// Removes a workload.
    pub(super) fn remove_workload(&mut self, uid: &WorkloadUid) {
        let Some(number) = self.by_workload.remove(uid) else {
            return;
        };
        let Some(group) = self.groups.get_mut(&number) else {
            return;
        };
        group.workloads -= 1;
        if group.workloads > 0 {
            return;
        }
        if let Some(Group { key, .. }) = self.groups.remove(&number) {
            self.numbers.remove(&key);
            for name in &key.membership.policies {
                if let Some(numbers) = self.by_policy.get_mut(name) {
                    numbers.remove(&number);
                    if numbers.is_empty() {
                        self.by_policy.remove(name);
                    }
                }
            }
        }
    }

    fn insert_group(&mut self, key: GroupKey) -> GroupNumber {
        let number = self.next;
        self.next += 1;
        for name in &key.membership.policies {
            let numbers = self.by_policy.entry(name.clone()).or_default();
            numbers.insert(number);
        }
        self.numbers.insert(key.clone(), number);
        let group = Group {
            key,
            workloads: 0,
            compiled: None,
        };
        self.groups.insert(number, group);
        self.stale.insert(number);
        number
    }

    fn mark_changed(&mut self, policy: &NamespacedName) {
        self.revision = PolicyRevision::default();
        let groups = self.by_policy.get(policy).into_iter().flatten();
        self.stale.extend(groups);
    }
}

impl GroupKey {
    fn is_of(&self, workload: &Workload) -> bool {
        let is_same = Arc::ptr_eq(&self.membership, &workload.authorization)
            || self.membership == workload.authorization;
        is_same && self.identity == workload.identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorization_policy::{Action, Decision, Reason, Rule, Source};
    use crate::fixtures::workload;
    use crate::mesh::change::Change;
    use crate::mesh::snapshot::Mesh;
    use crate::request_authentication::{
        JsonWebKey, JwtProvider, PublicKey, RequestAuthentication,
    };

    fn policy(name: &str, action: Action) -> AuthorizationPolicy {
        AuthorizationPolicy {
            key: NamespacedName::new("default", name),
            action,
            is_dry_run: false,
            rules: vec![Rule::default()],
            authentication: None,
        }
    }

    fn selected(pod: &str, policies: &[&str]) -> Change {
        let mut pod = workload(pod, "10.0.0.1", "node-1");
        let names = policies.iter();
        pod.authorization = Arc::new(AuthorizationMembership {
            policies: names
                .map(|name| NamespacedName::new("default", name))
                .collect(),
            ..AuthorizationMembership::default()
        });
        Change::Workload(pod)
    }

    fn of<'a>(mesh: &'a Mesh, pod: &str) -> &'a Arc<AuthorizationPolicies> {
        let policies = mesh.authorization_policies(&WorkloadUid::from(pod));
        policies.unwrap()
    }

    fn is_allowed(mesh: &Mesh, pod: &str) -> bool {
        let source = Source {
            identity: None,
            address: "10.0.0.9".parse().unwrap(),
        };
        of(mesh, pod).connection(&source, 80).is_allowed()
    }

    #[test]
    fn a_workload_has_the_policies_that_it_names() {
        let mut mesh = Mesh::default();
        mesh.apply(selected("web", &["deny"]));
        mesh.apply(selected("db", &[]));
        mesh.apply(Change::AuthorizationPolicy(policy("deny", Action::Deny)));
        assert!(!is_allowed(&mesh, "web"));
        assert!(is_allowed(&mesh, "db"));
        assert!(of(&mesh, "db").is_empty());
        mesh.apply(selected("web", &[]));
        assert!(is_allowed(&mesh, "web"));
        let gone = WorkloadUid::from("web");
        mesh.apply(Change::WorkloadRemoved(gone.clone()));
        assert!(mesh.authorization_policies(&gone).is_none());
    }

    #[test]
    fn one_whose_rules_have_not_arrived_admits_nothing_and_ends_nothing() {
        let mut mesh = Mesh::default();
        mesh.apply(selected("web", &["later"]));
        let source = Source {
            identity: None,
            address: "10.0.0.9".parse().unwrap(),
        };
        let verdict = of(&mesh, "web").connection(&source, 80);
        assert_eq!(verdict.decision, Decision::Denied);
        let later = NamespacedName::new("default", "later");
        assert_eq!(verdict.reason, Reason::NotArrived(&later));
        assert!(!verdict.ends_connections());
        mesh.apply(Change::AuthorizationPolicy(policy("later", Action::Allow)));
        assert!(is_allowed(&mesh, "web"));
        mesh.apply(Change::AuthorizationPolicyRemoved(later));
        assert!(!is_allowed(&mesh, "web"));
    }

    #[test]
    fn only_a_change_of_its_policies_compiles_those_of_a_workload_again() {
        let mut mesh = Mesh::default();
        for change in [
            selected("web", &["a"]),
            Change::AuthorizationPolicy(policy("a", Action::Allow)),
            Change::AuthorizationPolicy(policy("b", Action::Allow)),
        ] {
            mesh.apply(change);
        }
        let before = Arc::clone(of(&mesh, "web"));
        let earlier = mesh.clone();
        for change in [
            Change::AuthorizationPolicy(policy("a", Action::Allow)),
            Change::AuthorizationPolicy(policy("b", Action::Deny)),
            selected("web", &["a"]),
            selected("db", &["b"]),
        ] {
            mesh.apply(change);
            assert!(Arc::ptr_eq(&before, of(&mesh, "web")));
        }
        mesh.apply(Change::AuthorizationPolicy(policy("a", Action::Deny)));
        assert!(!Arc::ptr_eq(&before, of(&mesh, "web")));
        assert!(!is_allowed(&mesh, "web"));
        assert!(is_allowed(&earlier, "web"), "a snapshot stays as it is");
        assert!(!mesh.admits_the_same_as(&earlier));
    }

    #[test]
    fn changes_that_come_together_are_compiled_once_and_count_all() {
        let mut mesh = Mesh::default();
        mesh.apply_all([
            Change::AuthorizationPolicy(policy("a", Action::Allow)),
            selected("web", &["a", "b"]),
            Change::AuthorizationPolicy(policy("b", Action::Allow)),
        ]);
        assert!(is_allowed(&mesh, "web"));
        let gone = NamespacedName::new("default", "a");
        mesh.apply_all([
            Change::AuthorizationPolicy(policy("b", Action::Deny)),
            Change::AuthorizationPolicyRemoved(gone),
            selected("web", &["b"]),
        ]);
        assert!(!is_allowed(&mesh, "web"));
    }

    #[test]
    fn a_change_of_policies_alone_changes_who_is_admitted() {
        let mut mesh = Mesh::default();
        mesh.apply(selected("web", &["a"]));
        let before = mesh.clone();
        assert!(mesh.admits_the_same_as(&before));
        mesh.apply(Change::AuthorizationPolicy(policy("a", Action::Allow)));
        assert!(!mesh.admits_the_same_as(&before));
    }

    #[test]
    fn nothing_is_kept_of_workloads_that_are_gone() {
        let mut index = AuthorizationIndex::default();
        let Change::Workload(pod) = selected("web", &["a", "b"]) else {
            unreachable!()
        };
        index.insert_workload(&pod);
        index.insert_workload(&pod);
        assert!(index.has(&pod));
        assert_eq!(index.groups.len(), 1);
        index.remove_workload(&pod.uid);
        assert!(!index.has(&pod));
        let is_empty = index.groups.is_empty() && index.numbers.is_empty();
        assert!(is_empty && index.by_policy.is_empty() && index.by_workload.is_empty());
    }

    /// A control plane that has just started doesn't take keys away; another address does.
    #[test]
    fn keys_that_nobody_has_fetched_yet_replace_none_of_the_same_issuer_and_address() {
        let key = NamespacedName::new("default", "jwt");
        let tokens = |issuer: &str, source: &str, keys: &[u8]| {
            let keys = keys.iter().map(|byte| JsonWebKey {
                id: None,
                algorithm: None,
                key: PublicKey::Ed25519(vec![*byte; 32].into()),
            });
            let provider = JwtProvider {
                issuer: issuer.into(),
                audiences: vec![],
                algorithms: vec![],
                keys: keys.collect(),
                key_source: (!source.is_empty()).then(|| source.into()),
                locations: vec![],
                forwards_token: false,
                claim_headers: vec![],
                payload_header: None,
            };
            Change::AuthorizationPolicy(AuthorizationPolicy {
                authentication: Some(RequestAuthentication {
                    ports: vec![],
                    providers: vec![Arc::new(provider)],
                }),
                rules: vec![],
                ..policy("jwt", Action::Authenticate)
            })
        };
        let mut mesh = Mesh::default();
        mesh.apply(selected("web", &["jwt"]));
        let mut keys_after = |change| {
            mesh.apply(change);
            let policy = mesh.authorization_policy(&key).unwrap();
            let provider = &policy.authentication.as_ref().unwrap().providers[0];
            (provider.keys.len(), provider.awaits_keys())
        };
        assert_eq!(keys_after(tokens("a", "one", &[])), (0, true));
        assert_eq!(keys_after(tokens("a", "one", &[1, 2])), (2, false));
        assert_eq!(keys_after(tokens("a", "one", &[])), (2, false));
        assert_eq!(keys_after(tokens("a", "one", &[])), (2, false));
        assert_eq!(keys_after(tokens("a", "one", &[3])), (1, false));
        assert_eq!(keys_after(tokens("a", "two", &[])), (0, true));
        assert_eq!(keys_after(tokens("a", "two", &[3])), (1, false));
        assert_eq!(keys_after(tokens("b", "two", &[])), (0, true));
        assert_eq!(keys_after(tokens("b", "two", &[3])), (1, false));
        // One that was given none has none.
        assert_eq!(keys_after(tokens("b", "", &[])), (0, false));
    }
}
