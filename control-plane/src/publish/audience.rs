//! The proxies that are told of an AuthorizationPolicy: those of the workloads that it selects.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use weft_model::NamespacedName;
use weft_model::workload::{Workload, WorkloadUid};

/// Where the connections to a workload are decided.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Proxy {
    /// In a node's agent.
    Node(Arc<str>),
    /// In a pod's sidecar.
    Pod(WorkloadUid),
}

/// The proxies of the workloads that policies select.
#[derive(Debug, Default)]
pub(super) struct Audience {
    by_policy: HashMap<NamespacedName, HashMap<Proxy, usize>>,
}

impl Proxy {
    /// That of a workload.
    fn of(workload: &Workload) -> Self {
        match workload.is_sidecar {
            true => Self::Pod(workload.uid.clone()),
            false => Self::Node(Arc::clone(&workload.node)),
        }
    }
}

impl Audience {
    /// Whether a proxy is told of a policy.
    pub(super) fn has(&self, policy: &NamespacedName, proxy: &Proxy) -> bool {
        let proxies = self.by_policy.get(policy);
        proxies.is_some_and(|proxies| proxies.contains_key(proxy))
    }

    /// A workload has become another, come or gone. Gives the policies that others are told of
    /// from now on.
    pub(super) fn update(
        &mut self,
        before: Option<&Workload>,
        now: Option<&Workload>,
    ) -> BTreeSet<NamespacedName> {
        let is_same = match (before, now) {
            (Some(before), Some(now)) => {
                before.authorization == now.authorization && Proxy::of(before) == Proxy::of(now)
            }
            (None, None) => true,
            _ => false,
        };
        let mut changed = BTreeSet::new();
        if is_same {
            return changed;
        }
        if let Some(now) = now {
            let proxy = Proxy::of(now);
            for policy in &now.authorization.policies {
                let proxies = self.by_policy.entry(policy.clone()).or_default();
                let count = proxies.entry(proxy.clone()).or_default();
                *count += 1;
                if *count == 1 {
                    changed.insert(policy.clone());
                }
            }
        }
        if let Some(before) = before {
            let proxy = Proxy::of(before);
            for policy in &before.authorization.policies {
                if self.remove(policy, &proxy) {
                    changed.insert(policy.clone());
                }
            }
        }
        changed
    }

    /// Removes one of the workloads that a proxy has; whether it was the last.
    fn remove(&mut self, policy: &NamespacedName, proxy: &Proxy) -> bool {
        let Some(proxies) = self.by_policy.get_mut(policy) else {
            return false;
        };
        let Some(count) = proxies.get_mut(proxy) else {
            return false;
        };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        proxies.remove(proxy);
        if proxies.is_empty() {
            self.by_policy.remove(policy);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use weft_model::authorization_policy::AuthorizationMembership;

    use super::*;

    fn workload(name: &str, node: &str, policies: &[&str]) -> Workload {
        let identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        let policies = policies.iter();
        Workload {
            authorization: Arc::new(AuthorizationMembership {
                policies: policies
                    .map(|name| NamespacedName::new("shop", name))
                    .collect(),
                ..AuthorizationMembership::default()
            }),
            ..Workload::new(WorkloadUid::from(name), identity, node)
        }
    }

    #[test]
    fn a_node_is_told_of_a_policy_as_long_as_one_of_its_workloads_has_it() {
        let mut audience = Audience::default();
        let policy = NamespacedName::new("shop", "a");
        let only = BTreeSet::from([policy.clone()]);
        let node = Proxy::Node("node-1".into());
        let [one, two] = ["one", "two"].map(|name| workload(name, "node-1", &["a"]));
        assert_eq!(audience.update(None, Some(&one)), only);
        assert_eq!(audience.update(None, Some(&two)), BTreeSet::new());
        assert_eq!(audience.update(Some(&two), Some(&two)), BTreeSet::new());
        assert!(audience.has(&policy, &node));
        assert!(!audience.has(&policy, &Proxy::Node("node-2".into())));
        assert_eq!(audience.update(Some(&one), None), BTreeSet::new());
        let moved = workload("two", "node-2", &["a"]);
        assert_eq!(audience.update(Some(&two), Some(&moved)), only);
        assert!(!audience.has(&policy, &node));
        assert_eq!(audience.update(Some(&moved), None), only);
        assert!(audience.by_policy.is_empty());
    }

    #[test]
    fn the_agent_of_a_node_is_not_told_what_a_sidecar_decides() {
        let mut audience = Audience::default();
        let mut pod = workload("one", "node-1", &["a"]);
        pod.is_sidecar = true;
        let _ = audience.update(None, Some(&pod));
        let policy = NamespacedName::new("shop", "a");
        assert!(!audience.has(&policy, &Proxy::Node("node-1".into())));
        assert!(audience.has(&policy, &Proxy::Pod(pod.uid)));
    }
}
