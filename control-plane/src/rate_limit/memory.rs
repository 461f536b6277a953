//! Counting in this process: as many windows as there is room for. Whoever has most makes room,
//! by those of its windows that are over soonest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::hit::Hit;
use super::stats::{self, Stats};

/// Windows that are remembered: some 30 MB at the most.
pub(super) const MOST_KEYS: usize = 100_000;

/// The windows that hits were counted in.
#[derive(Debug)]
pub(super) struct Memory {
    most: usize,
    stats: Arc<Stats>,
    windows: Mutex<Windows>,
}

/// Keys by the end of their windows.
type ByEnd = BTreeSet<(u64, Arc<str>)>;

/// All of them have the same keys.
#[derive(Debug, Default)]
struct Windows {
    counts: HashMap<Arc<str>, Window>,
    by_end: ByEnd,
    /// Those of each namespace.
    by_tenant: BTreeMap<Arc<str>, ByEnd>,
}

#[derive(Debug)]
struct Window {
    ends: u64,
    count: u64,
    tenant: Arc<str>,
}

impl Memory {
    /// Room for that many windows.
    pub(super) fn new(most: usize, stats: Arc<Stats>) -> Self {
        Self {
            most: most.max(1),
            stats,
            windows: Mutex::default(),
        }
    }

    /// Adds hits, and gives each count with them added.
    pub(super) fn count(&self, hits: &[Hit], now: u64) -> Vec<u64> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.drop_over(now);
        hits.iter()
            .map(|hit| windows.add(hit, now, self.most, &self.stats))
            .collect()
    }
}

impl Windows {
    fn drop_over(&mut self, now: u64) {
        while let Some(first) = self.by_end.first().filter(|(ends, _)| *ends <= now) {
            self.drop(&first.clone());
        }
    }

    /// Drops the window that is over soonest of the namespace that has most of them.
    fn make_room(&mut self) {
        let most = self.by_tenant.values().max_by_key(|windows| windows.len());
        if let Some(first) = most.and_then(|windows| windows.first().cloned()) {
            self.drop(&first);
        }
    }

    fn drop(&mut self, window: &(u64, Arc<str>)) {
        self.by_end.remove(window);
        let Some(Window { tenant, .. }) = self.counts.remove(&window.1) else {
            return;
        };
        if let Some(windows) = self.by_tenant.get_mut(&tenant) {
            windows.remove(window);
            if windows.is_empty() {
                self.by_tenant.remove(&tenant);
            }
        }
    }

    fn add(&mut self, hit: &Hit, now: u64, most: usize, stats: &Stats) -> u64 {
        let ends = now + hit.unit.seconds_until_reset(now);
        if let Some(window) = self.counts.get_mut(&*hit.key) {
            // A clock that was set back finds a later window: it is counted in that one.
            debug_assert!(window.ends >= ends);
            window.count = window.count.saturating_add(hit.hits.into());
            return window.count;
        }
        let count = hit.hits.into();
        if hit.hits == 0 {
            return count;
        }
        while self.counts.len() >= most {
            self.make_room();
            stats::count(&stats.forgotten);
        }
        let key: Arc<str> = hit.key.as_str().into();
        let tenant: Arc<str> = match self.by_tenant.get_key_value(&*hit.tenant) {
            Some((tenant, _)) => Arc::clone(tenant),
            None => hit.tenant.as_str().into(),
        };
        let of_tenant = self.by_tenant.entry(Arc::clone(&tenant)).or_default();
        of_tenant.insert((ends, Arc::clone(&key)));
        self.by_end.insert((ends, Arc::clone(&key)));
        let window = Window {
            ends,
            count,
            tenant,
        };
        self.counts.insert(key, window);
        count
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use proptest::prelude::*;
    use weft_model::traffic::rate_limit::RateLimitUnit;

    use super::*;

    fn memory(most: usize) -> Memory {
        Memory::new(most, Arc::default())
    }

    fn hit(key: &str, unit: RateLimitUnit, hits: u32) -> Hit {
        Hit {
            tenant: String::new(),
            key: key.to_owned(),
            unit,
            hits,
        }
    }

    #[test]
    fn hits_add_up_within_a_window_and_begin_again_in_the_next() {
        let memory = memory(10);
        let count = |hits, now| memory.count(&[hit("a", RateLimitUnit::Minute, hits)], now);
        assert_eq!(count(1, 60), [1]);
        assert_eq!(count(2, 119), [3]);
        assert_eq!(count(0, 119), [3], "asking counts nothing");
        assert_eq!(count(0, 120), [0]);
        assert_eq!(count(5, 120), [5]);
        let both = [
            hit("b", RateLimitUnit::Second, 1),
            hit("b", RateLimitUnit::Second, 1),
        ];
        assert_eq!(memory.count(&both, 130), [1, 2]);
    }

    #[test]
    fn windows_that_are_over_soonest_make_room() {
        let memory = memory(2);
        memory.count(&[hit("day", RateLimitUnit::Day, 7)], 1000);
        memory.count(&[hit("minute", RateLimitUnit::Minute, 7)], 1000);
        memory.count(&[hit("hour", RateLimitUnit::Hour, 7)], 1000);
        assert_eq!(
            memory.count(&[hit("day", RateLimitUnit::Day, 0)], 1000),
            [7]
        );
        assert_eq!(
            memory.count(&[hit("hour", RateLimitUnit::Hour, 0)], 1000),
            [7]
        );
        assert_eq!(
            memory.count(&[hit("minute", RateLimitUnit::Minute, 0)], 1000),
            [0]
        );
        assert_eq!(memory.stats.forgotten.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_flood_of_one_namespace_forgets_its_own_windows_and_nobody_elses() {
        let memory = memory(100);
        let of = |tenant: &str, key: &str, hits| Hit {
            tenant: tenant.to_owned(),
            ..hit(key, RateLimitUnit::Second, hits)
        };
        memory.count(&[of("shop", "victim", 7)], 1000);
        for number in 0..1000 {
            memory.count(&[of("evil", &format!("evil-{number}"), 1)], 1000);
        }
        assert_eq!(memory.count(&[of("shop", "victim", 0)], 1000), [7]);
        let windows = memory.windows.lock().unwrap();
        assert_eq!((windows.counts.len(), windows.by_end.len()), (100, 100));
        let of_tenants = windows.by_tenant.values().map(BTreeSet::len);
        assert_eq!(of_tenants.sum::<usize>(), 100);
    }

    proptest! {
        #[test]
        fn counts_are_those_of_the_window_and_memory_is_bounded(steps in proptest::collection::vec((0..6_usize, 0..4_u32, 0..40_u64), 1..80)) {
            let memory = memory(3);
            let roomy = Memory::new(100, Arc::default());
            let mut now = 1_000_000;
            let mut log: Vec<(String, u64, u64)> = Vec::new();
            for (which, hits, passed) in steps {
                now += passed;
                let unit = RateLimitUnit::ALL[which % 2];
                let hit = hit(&format!("{which}"), unit, hits);
                log.push((hit.key.clone(), unit.window_start(now), hits.into()));
                let same = log.iter().filter(|(key, window, _)| *key == hit.key && *window == unit.window_start(now));
                let expected: u64 = same.map(|(_, _, hits)| hits).sum();
                prop_assert_eq!(roomy.count(std::slice::from_ref(&hit), now), [expected]);
                prop_assert!(memory.count(&[hit], now)[0] <= expected, "room is made by forgetting, never by adding");
                let windows = memory.windows.lock().unwrap();
                prop_assert!(windows.counts.len() <= 3);
                prop_assert_eq!(windows.counts.len(), windows.by_end.len());
            }
        }
    }
}
