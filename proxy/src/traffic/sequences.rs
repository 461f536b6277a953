//! Traffic splitting: the numbers that decide between the backends of a rule.
//!
//! What a number means is the model's to say; here is where each rule's sequence stands. A
//! rule keeps its sequence when the mesh changes, so shares stay exact across changes.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use weft_model::Mesh;
use weft_model::route::split::LowDiscrepancySequence;
use weft_model::route::table::RuleId;

/// Number of maps that rules are spread over, so that workers seldom share a lock.
const SHARDS: usize = 16;
/// The most rules that one map has. The rules that find it full share one sequence, whose
/// shares are exact for all of them together only.
const MAX_RULES_PER_SHARD: usize = 4096;

/// The low-discrepancy sequence of each rule, which all pods of a node share.
#[derive(Debug)]
pub(crate) struct RuleSequences {
    shards: [RwLock<HashMap<RuleId, AtomicU64>>; SHARDS],
    overflow: AtomicU64,
}

impl Default for RuleSequences {
    fn default() -> Self {
        Self {
            shards: Default::default(),
            overflow: AtomicU64::new(fastrand::u64(..)),
        }
    }
}

impl RuleSequences {
    /// The next number of a rule's sequence, from 0 up to 1. A sequence begins anywhere:
    /// many proxies shall not all begin with the same backend.
    pub(crate) fn next_number(&self, rule: RuleId) -> f64 {
        let shard = self.shard(rule);
        if let Some(state) = read(shard).get(&rule) {
            return step(state);
        }
        let mut states = write(shard);
        if states.len() >= MAX_RULES_PER_SHARD && !states.contains_key(&rule) {
            return step(&self.overflow);
        }
        let begin = || AtomicU64::new(fastrand::u64(..));
        step(states.entry(rule).or_insert_with(begin))
    }

    /// Forgets the rules that the mesh doesn't have any more.
    pub(crate) fn forget_removed(&self, mesh: &Mesh) {
        let mut removed: HashSet<RuleId> = HashSet::new();
        for shard in &self.shards {
            removed.extend(read(shard).keys());
        }
        if removed.is_empty() {
            return;
        }
        for rule in mesh.rules() {
            removed.remove(&rule.id);
        }
        for rule in removed {
            write(self.shard(rule)).remove(&rule);
        }
    }

    fn shard(&self, rule: RuleId) -> &RwLock<HashMap<RuleId, AtomicU64>> {
        // Identities are hashes, so any of their bits are even.
        &self.shards[rule.0 as usize % SHARDS]
    }
}

fn step(state: &AtomicU64) -> f64 {
    let before = state.fetch_add(LowDiscrepancySequence::STEP, Ordering::Relaxed);
    LowDiscrepancySequence::number(before.wrapping_add(LowDiscrepancySequence::STEP))
}

type States<'a> = std::sync::RwLockReadGuard<'a, HashMap<RuleId, AtomicU64>>;
type StatesMut<'a> = std::sync::RwLockWriteGuard<'a, HashMap<RuleId, AtomicU64>>;

fn read(shard: &RwLock<HashMap<RuleId, AtomicU64>>) -> States<'_> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<HashMap<RuleId, AtomicU64>>) -> StatesMut<'_> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use weft_model::Change;
    use weft_model::route::{RouteKind, Rule};
    use weft_testing::fixtures;

    use super::*;

    fn len(sequences: &RuleSequences) -> usize {
        let shards = sequences.shards.iter();
        shards.map(|shard| read(shard).len()).sum()
    }

    /// A mesh with a route of one rule, and the rule's identity.
    fn mesh() -> (Mesh, RuleId) {
        let mut mesh = Mesh::default();
        mesh.apply(Change::Service(fixtures::service(
            "web",
            [10, 96, 0, 1],
            "",
        )));
        let route = fixtures::route(RouteKind::Http, "web", vec![Rule::default()]);
        mesh.apply(Change::Route(route));
        let rule = mesh.rules().next().unwrap().id;
        (mesh, rule)
    }

    #[test]
    fn threads_share_a_rule_exactly() {
        let sequences = RuleSequences::default();
        let below_a_fifth = |_| {
            let numbers = (0..2_500).map(|_| sequences.next_number(RuleId(1)));
            numbers.filter(|number| *number < 0.2).count()
        };
        let hits: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| scope.spawn(move || below_a_fifth(thread)))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert!(hits.abs_diff(2_000) <= 4, "{hits}");
    }

    #[test]
    fn rules_do_not_disturb_each_other() {
        let sequences = RuleSequences::default();
        let mut hits = [0usize; 2];
        for turn in 0..10_000u64 {
            // Rules that take turns, of which one has a third of the requests.
            let rule = usize::from(turn % 3 == 0);
            let number = sequences.next_number(RuleId(rule as u64));
            hits[rule] += usize::from(number < 0.5);
        }
        assert!(
            hits[0].abs_diff(3_333) <= 4 && hits[1].abs_diff(1_667) <= 4,
            "{hits:?}"
        );
    }

    #[test]
    fn only_rules_of_the_mesh_are_remembered() {
        let (mut mesh, rule) = mesh();
        let sequences = RuleSequences::default();
        let before = sequences.next_number(rule);
        sequences.next_number(RuleId(rule.0.wrapping_add(1)));
        sequences.forget_removed(&mesh);
        assert_eq!(len(&sequences), 1);
        // Its sequence goes on.
        let step = (sequences.next_number(rule) - before).rem_euclid(1.0);
        let golden_ratio = LowDiscrepancySequence::number(LowDiscrepancySequence::STEP);
        assert!((step - golden_ratio).abs() < 1e-9, "{step}");
        let route = fixtures::route(RouteKind::Http, "web", Vec::new());
        mesh.apply(Change::RouteRemoved(route.key));
        sequences.forget_removed(&mesh);
        assert_eq!(len(&sequences), 0);
    }

    #[test]
    fn there_is_a_bound_to_what_is_remembered() {
        let sequences = RuleSequences::default();
        let most = SHARDS * MAX_RULES_PER_SHARD;
        for rule in 0..most as u64 + 100 {
            let number = sequences.next_number(RuleId(rule));
            assert!((0.0..1.0).contains(&number));
        }
        assert_eq!(len(&sequences), most);
    }
}
