//! Workloads' parts in NetworkPolicies and AuthorizationPolicies, each kept once: replicas have
//! the same, and it may be long.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use crate::authorization_policy::AuthorizationMembership;
use crate::workload::{PolicyMembership, Workload};

/// The parts in policies of some workloads, with how many have each.
#[derive(Clone, Debug, Default)]
pub struct Memberships {
    network_policies: Counts<PolicyMembership>,
    authorization: Counts<AuthorizationMembership>,
}

impl Memberships {
    /// Adds those of a workload, which shares them with those that have equal ones.
    pub fn share(&mut self, workload: &mut Workload) {
        self.network_policies.share(&mut workload.network_policies);
        self.authorization.share(&mut workload.authorization);
    }

    /// Removes those of a workload that was added.
    pub fn remove(&mut self, workload: &Workload) {
        self.network_policies.remove(&workload.network_policies);
        self.authorization.remove(&workload.authorization);
    }
}

/// Values, with how many share each.
#[derive(Clone, Debug)]
struct Counts<T>(HashMap<Arc<T>, usize>);

impl<T> Default for Counts<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + Hash> Counts<T> {
    fn share(&mut self, value: &mut Arc<T>) {
        let (shared, count) = match self.0.get_key_value(value) {
            Some((shared, count)) => (Arc::clone(shared), count + 1),
            None => (Arc::clone(value), 1),
        };
        self.0.insert(Arc::clone(&shared), count);
        *value = shared;
    }

    fn remove(&mut self, value: &Arc<T>) {
        if let Some(count) = self.0.get_mut(value) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(value);
            }
        }
    }
}

#[cfg(test)]
impl Memberships {
    /// Asserts that these are all that were added, and that they share.
    pub(crate) fn assert_consistent<'a>(&self, workloads: impl Iterator<Item = &'a Arc<Workload>>) {
        let mut count = 0;
        for workload in workloads {
            count += 1;
            self.network_policies
                .assert_shared(&workload.network_policies);
            self.authorization.assert_shared(&workload.authorization);
        }
        assert_eq!(self.network_policies.0.values().sum::<usize>(), count);
        assert_eq!(self.authorization.0.values().sum::<usize>(), count);
    }
}

#[cfg(test)]
impl<T: Eq + Hash> Counts<T> {
    fn assert_shared(&self, value: &Arc<T>) {
        let (shared, _) = self.0.get_key_value(value).unwrap();
        assert!(Arc::ptr_eq(shared, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::workload;

    fn with_selector(name: &str, selector: &str) -> Workload {
        let mut pod = workload(name, "10.0.0.1", "node-1");
        pod.network_policies = Arc::new(PolicyMembership {
            selectors: vec![selector.into()],
            ..PolicyMembership::default()
        });
        pod
    }

    #[test]
    fn equal_ones_are_kept_once_and_as_long_as_somebody_has_them() {
        let mut memberships = Memberships::default();
        let pods = [("a", "x"), ("b", "x"), ("c", "y")];
        let pods = pods.map(|(name, selector)| {
            let mut pod = with_selector(name, selector);
            memberships.share(&mut pod);
            pod
        });
        let [a, b, c] = &pods;
        assert!(Arc::ptr_eq(&a.network_policies, &b.network_policies));
        assert!(!Arc::ptr_eq(&a.network_policies, &c.network_policies));
        assert!(Arc::ptr_eq(&a.authorization, &c.authorization));
        assert_eq!(memberships.network_policies.0.len(), 2);
        memberships.remove(a);
        assert_eq!(memberships.network_policies.0.len(), 2);
        memberships.remove(b);
        assert_eq!(memberships.network_policies.0.len(), 1);
        memberships.remove(c);
        assert!(memberships.network_policies.0.is_empty());
        assert!(memberships.authorization.0.is_empty());
    }
}
