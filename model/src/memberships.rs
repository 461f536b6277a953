//! Workloads' parts in NetworkPolicies, each kept once: replicas have the same, and it may be
//! long.

use std::collections::HashMap;
use std::sync::Arc;

use crate::workload::{PolicyMembership, Workload};

/// The parts in NetworkPolicies of some workloads, with how many have each.
#[derive(Clone, Debug, Default)]
pub struct Memberships {
    counts: HashMap<Arc<PolicyMembership>, usize>,
}

impl Memberships {
    /// Adds that of a workload, which shares it with those that have an equal one.
    pub fn share(&mut self, workload: &mut Workload) {
        let own = &workload.network_policies;
        let (shared, count) = match self.counts.get_key_value(own) {
            Some((shared, count)) => (Arc::clone(shared), count + 1),
            None => (Arc::clone(own), 1),
        };
        self.counts.insert(Arc::clone(&shared), count);
        workload.network_policies = shared;
    }

    /// Removes that of a workload that was added.
    pub fn remove(&mut self, workload: &Workload) {
        let membership = &workload.network_policies;
        if let Some(count) = self.counts.get_mut(membership) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(membership);
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
            let membership = &workload.network_policies;
            let (shared, _) = self.counts.get_key_value(membership).unwrap();
            assert!(Arc::ptr_eq(shared, membership));
        }
        assert_eq!(self.counts.values().sum::<usize>(), count);
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
        assert_eq!(memberships.counts.len(), 2);
        memberships.remove(a);
        assert_eq!(memberships.counts.len(), 2);
        memberships.remove(b);
        assert_eq!(memberships.counts.len(), 1);
        memberships.remove(c);
        assert!(memberships.counts.is_empty());
    }
}
