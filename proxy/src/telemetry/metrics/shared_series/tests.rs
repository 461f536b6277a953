use std::time::Instant;

use prometheus_client::metrics::counter::Counter;

use super::*;
use crate::telemetry::metrics::budget::NodeSeries;

/// Series that the test tells apart by a number; it says to whom they are due.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Key(usize);

const OVERFLOW: usize = usize::MAX;

impl SeriesKey for Key {
    type Labels = usize;

    fn labels(&self) -> usize {
        self.0
    }

    fn account(&self) -> Option<Account> {
        Some(Account::Outbound)
    }

    fn overflow_labels(&self) -> usize {
        OVERFLOW
    }
}

type Shown = SharedSeries<usize, Arc<()>>;

fn budget(most: usize) -> SeriesBudget {
    let node = Arc::new(NodeSeries::new(usize::MAX));
    SeriesBudget::new("shop", node, most, Counter::default(), Instant::now())
}

fn series(shared: &Shown) -> usize {
    shared.lock().len()
}

#[test]
fn a_series_goes_with_the_last_pod_that_used_it() {
    let (shared, mut budget) = (Shown::default(), budget(10));
    let (mut first, mut second) = (SeriesCache::default(), SeriesCache::default());
    for _ in 0..3 {
        first.get_or_acquire(Key(1), &mut budget, &shared);
        second.get_or_acquire(Key(1), &mut budget, &shared);
    }
    second.get_or_acquire(Key(2), &mut budget, &shared);
    first.release_all(&shared);
    assert_eq!(series(&shared), 2);
    second.release_all(&shared);
    assert_eq!(series(&shared), 0);
}

#[test]
fn what_is_over_the_bound_shares_one_series_that_goes_with_the_pod() {
    let (shared, mut budget) = (Shown::default(), budget(10));
    let mut cache = SeriesCache::default();
    let first = cache.get_or_acquire(Key(0), &mut budget, &shared);
    for name in 1..20_000 {
        cache.get_or_acquire(Key(name), &mut budget, &shared);
        assert!(series(&shared) <= 11);
    }
    assert!(shared.lock().contains_key(&OVERFLOW));
    // Those that were there before go on.
    let again = cache.get_or_acquire(Key(0), &mut budget, &shared);
    assert!(Arc::ptr_eq(&first, &again));
    cache.release_all(&shared);
    assert_eq!(series(&shared), 0);
}

#[test]
fn a_sweep_drops_what_nobody_counted_in_since_the_one_before() {
    let (shared, mut budget) = (Shown::default(), budget(3));
    let mut cache = SeriesCache::default();
    let held = cache.get_or_acquire(Key(0), &mut budget, &shared);
    for name in 1..3 {
        cache.get_or_acquire(Key(name), &mut budget, &shared);
    }
    cache.sweep(&mut budget, &shared);
    assert_eq!(series(&shared), 3, "all of them are recent");
    cache.get_or_acquire(Key(1), &mut budget, &shared);
    cache.sweep(&mut budget, &shared);
    assert_eq!(series(&shared), 2, "one is held, one was used");
    cache.get_or_acquire(Key(3), &mut budget, &shared);
    assert!(shared.lock().contains_key(&3));
    drop(held);
}
