//! How many series one pod may have, and on whose account; and all pods of the node together.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

/// Share of a pod's series for connections to it that one other namespace may have: its
/// pods choose their labels, and what they choose must leave room for others.
const NAMESPACE_SHARE: usize = 4;
/// Series that the verdicts of one pod's policies may have: who may make policies chooses how many
/// there are.
const POLICY_SERIES: usize = 256;
/// Time after which a series that nothing was counted in makes room for another.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// Who makes a series necessary.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Account {
    /// The pod itself, by what it connects to.
    Outbound,
    /// The pods of this namespace, by connecting to the pod. `None` where it isn't known.
    Inbound(Option<Arc<str>>),
    /// Whoever may make policies that select the pod.
    Policies,
}

/// The series of all pods of the node.
#[derive(Debug)]
pub(super) struct NodeSeries {
    most: usize,
    used: AtomicUsize,
}

impl NodeSeries {
    /// None, of so many.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            used: AtomicUsize::new(0),
        }
    }

    /// Takes a place for one more of a pod that has `own`; false where there is none. A pod may
    /// have as many as are left: one that takes all it gets has half of them.
    fn take(&self, own: usize) -> bool {
        let take = |used: usize| (own < self.most.saturating_sub(used)).then_some(used + 1);
        let used = &self.used;
        let taken = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.is_ok()
    }

    fn give_back(&self, count: usize) {
        self.used.fetch_sub(count, Ordering::Relaxed);
    }
}

/// What is left of the series that one pod may have: as many for what it connects to as for
/// who connects to it.
#[derive(Debug)]
pub(super) struct SeriesBudget {
    /// The pod's own namespace.
    namespace: Arc<str>,
    node: Arc<NodeSeries>,
    most: usize,
    outbound: usize,
    inbound: usize,
    policies: usize,
    by_namespace: HashMap<Option<Arc<str>>, usize>,
    /// Records that a full account sent to the overflow.
    overflowed: Counter,
    has_overflowed: bool,
    swept: Instant,
}

impl SeriesBudget {
    /// The budget of a pod that has no series yet.
    pub(super) fn new(
        namespace: &str,
        node: Arc<NodeSeries>,
        most: usize,
        overflowed: Counter,
        now: Instant,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            node,
            most,
            outbound: 0,
            inbound: 0,
            policies: 0,
            by_namespace: HashMap::new(),
            overflowed,
            has_overflowed: false,
            swept: now,
        }
    }

    /// The series that the pod has.
    fn used(&self) -> usize {
        self.outbound + self.inbound + self.policies
    }

    /// Takes a place for one more series; false where there is none on that account.
    pub(super) fn charge(&mut self, account: Account) -> bool {
        let has_room = match &account {
            Account::Outbound => self.outbound < self.most,
            Account::Policies => self.policies < POLICY_SERIES.min(self.most),
            Account::Inbound(namespace) => {
                let of_namespace = self.by_namespace.get(namespace).copied();
                let is_own = namespace.as_ref() == Some(&self.namespace);
                let share = if is_own {
                    self.most
                } else {
                    self.most / NAMESPACE_SHARE
                };
                self.inbound < self.most && of_namespace.unwrap_or_default() < share
            }
        };
        if !has_room || !self.node.take(self.used()) {
            self.overflowed.inc();
            self.has_overflowed = true;
            return false;
        }
        match account {
            Account::Outbound => self.outbound += 1,
            Account::Policies => self.policies += 1,
            Account::Inbound(namespace) => {
                self.inbound += 1;
                *self.by_namespace.entry(namespace).or_default() += 1;
            }
        }
        true
    }

    /// A series on that account has gone.
    pub(super) fn give_back(&mut self, account: &Account) {
        self.node.give_back(1);
        match account {
            Account::Outbound => self.outbound -= 1,
            Account::Policies => self.policies -= 1,
            Account::Inbound(namespace) => {
                self.inbound -= 1;
                if let Some(count) = self.by_namespace.get_mut(namespace) {
                    *count -= 1;
                    if *count == 0 {
                        self.by_namespace.remove(namespace);
                    }
                }
            }
        }
    }

    /// Whether series that are not used any more are to be looked for now: room is wanted,
    /// and the last time is long ago.
    pub(super) fn is_sweep_due(&self, now: impl FnOnce() -> Instant) -> bool {
        self.has_overflowed && now().duration_since(self.swept) >= SWEEP_INTERVAL
    }

    /// They were dropped.
    pub(super) fn note_sweep(&mut self, now: Instant) {
        self.has_overflowed = false;
        self.swept = now;
    }
}

impl Drop for SeriesBudget {
    fn drop(&mut self) {
        self.node.give_back(self.used());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(most: usize) -> SeriesBudget {
        budget_of(&Arc::new(NodeSeries::new(usize::MAX)), most)
    }

    fn budget_of(node: &Arc<NodeSeries>, most: usize) -> SeriesBudget {
        let (node, overflowed) = (Arc::clone(node), Counter::default());
        SeriesBudget::new("shop", node, most, overflowed, Instant::now())
    }

    fn inbound(namespace: &str) -> Account {
        Account::Inbound(Some(namespace.into()))
    }

    fn charged(budget: &mut SeriesBudget, account: &Account) -> usize {
        (0..1000).filter(|_| budget.charge(account.clone())).count()
    }

    #[test]
    fn one_direction_takes_nothing_from_the_other() {
        let mut budget = budget(40);
        assert_eq!(charged(&mut budget, &Account::Outbound), 40);
        assert_eq!(charged(&mut budget, &inbound("shop")), 40);
        assert_eq!(budget.overflowed.get(), 2 * 960);
    }

    #[test]
    fn another_namespace_leaves_room_for_the_rest() {
        let mut budget = budget(40);
        assert_eq!(charged(&mut budget, &inbound("flood")), 10);
        assert_eq!(charged(&mut budget, &Account::Inbound(None)), 10);
        assert_eq!(charged(&mut budget, &inbound("shop")), 20);
        assert_eq!(charged(&mut budget, &inbound("late")), 0);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut budget = budget(40);
        charged(&mut budget, &inbound("flood"));
        budget.give_back(&inbound("flood"));
        assert_eq!(charged(&mut budget, &inbound("flood")), 1);
    }

    #[test]
    fn one_pod_has_half_of_the_nodes_series_and_leaves_the_rest_to_others() {
        let node = Arc::new(NodeSeries::new(100));
        let mut pods = [0, 1, 2].map(|_| budget_of(&node, 1000));
        let taken = pods
            .each_mut()
            .map(|pod| charged(pod, &Account::Outbound) + charged(pod, &inbound("shop")));
        assert_eq!(taken, [50, 25, 13]);
        pods[0].give_back(&Account::Outbound);
        assert_eq!(charged(&mut pods[2], &Account::Outbound), 0, "13 of 13");
        drop(pods);
        assert_eq!(charged(&mut budget_of(&node, 1000), &Account::Outbound), 50);
    }

    #[test]
    fn unused_series_are_looked_for_when_room_is_wanted_and_not_all_the_time() {
        let mut budget = budget(1);
        let late = budget.swept + SWEEP_INTERVAL;
        charged(&mut budget, &inbound("shop"));
        assert!(budget.is_sweep_due(|| late));
        assert!(!budget.is_sweep_due(|| late - Duration::from_secs(1)));
        budget.note_sweep(late);
        assert!(!budget.is_sweep_due(|| late + SWEEP_INTERVAL));
    }
}
