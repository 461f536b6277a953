//! Series that come with the first pod that uses them and go with the last.
//!
//! Most labels name a workload (a Deployment, say) and not the pod, so that several pods
//! of a node count in the same series. A pod remembers which it uses; how many pods use
//! each is counted here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// Series of one kind that one pod may have before those that it doesn't use any more are
/// dropped. Peers choose some labels (the status, the name they are asked for), and what
/// they choose must not fill the node's memory.
const LARGEST_CACHE: usize = 4096;

/// Families whose series have the same labels, and come and go together.
pub(super) trait SeriesGroup {
    /// Labels of the series.
    type Labels: Clone + Eq + Hash;
    /// Handles of the series of one set of labels.
    type Series: Clone;

    /// The series of these labels, made where they don't exist yet.
    fn get_or_create(&self, labels: &Self::Labels) -> Self::Series;

    /// Drops the series of these labels.
    fn remove(&self, labels: &Self::Labels);

    /// Whether somebody still counts in the series beside the cache that it is in.
    fn is_in_use(_series: &Self::Series) -> bool {
        false
    }
}

impl<L: Clone + Eq + Hash> SeriesGroup for Family<L, Counter> {
    type Labels = L;
    type Series = Counter;

    fn get_or_create(&self, labels: &L) -> Counter {
        self.get_or_create_owned(labels)
    }

    fn remove(&self, labels: &L) {
        Family::remove(self, labels);
    }
}

impl<L: Clone + Eq + Hash> SeriesGroup for Family<L, Gauge> {
    type Labels = L;
    type Series = Gauge;

    fn get_or_create(&self, labels: &L) -> Gauge {
        self.get_or_create_owned(labels)
    }

    fn remove(&self, labels: &L) {
        Family::remove(self, labels);
    }
}

/// Families, and how many pods use each of their series.
pub(super) struct SharedSeries<G: SeriesGroup> {
    families: G,
    users: Mutex<HashMap<G::Labels, usize>>,
}

impl<G: SeriesGroup + Default> Default for SharedSeries<G> {
    fn default() -> Self {
        Self::new(G::default())
    }
}

impl<G: SeriesGroup> fmt::Debug for SharedSeries<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSeries").finish_non_exhaustive()
    }
}

impl<G: SeriesGroup> SharedSeries<G> {
    /// Families that nobody uses yet.
    pub(super) fn new(families: G) -> Self {
        Self {
            families,
            users: Mutex::default(),
        }
    }

    /// The families, to register them.
    pub(super) fn families(&self) -> &G {
        &self.families
    }

    /// Series that one more pod uses from now on.
    fn acquire(&self, labels: G::Labels) -> G::Series {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let series = self.families.get_or_create(&labels);
        *users.entry(labels).or_default() += 1;
        series
    }

    /// A pod doesn't use these series any more; they go with their last user.
    fn release(&self, labels: &G::Labels) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        match users.get_mut(labels) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                users.remove(labels);
                self.families.remove(labels);
            }
        }
    }
}

/// What tells two series of one pod apart: less than all their labels, and quick to
/// compare.
pub(super) trait SeriesKey: Eq + Hash {
    /// The labels that follow from it.
    type Labels;

    /// The labels that follow from it, always the same.
    fn labels(&self) -> Self::Labels;
}

/// Labels that are few enough to be compared as they are.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct AllLabels<L>(pub(super) L);

impl<L: Clone + Eq + Hash> SeriesKey for AllLabels<L> {
    type Labels = L;

    fn labels(&self) -> L {
        self.0.clone()
    }
}

/// The series of one kind that one pod uses.
#[derive(Debug)]
pub(super) struct SeriesCache<K, S>(HashMap<K, Cached<S>>);

#[derive(Debug)]
struct Cached<S> {
    series: S,
    /// It was used since room was made last.
    is_recent: bool,
}

impl<K, S> Default for SeriesCache<K, S> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: SeriesKey, S: Clone> SeriesCache<K, S> {
    /// The series of that key, which the pod uses from now on.
    pub(super) fn get_or_acquire<G>(&mut self, key: K, shared: &SharedSeries<G>) -> S
    where
        G: SeriesGroup<Labels = K::Labels, Series = S>,
    {
        if let Some(cached) = self.0.get_mut(&key) {
            cached.is_recent = true;
            return cached.series.clone();
        }
        if self.0.len() >= LARGEST_CACHE {
            self.make_room(shared);
        }
        match self.0.entry(key) {
            Entry::Occupied(cached) => cached.get().series.clone(),
            Entry::Vacant(vacant) => {
                let series = shared.acquire(vacant.key().labels());
                vacant.insert(Cached {
                    series: series.clone(),
                    is_recent: true,
                });
                series
            }
        }
    }

    /// The pod uses none of its series any more.
    pub(super) fn release_all<G>(self, shared: &SharedSeries<G>)
    where
        G: SeriesGroup<Labels = K::Labels, Series = S>,
    {
        for key in self.0.keys() {
            shared.release(&key.labels());
        }
    }

    /// Drops what was not used since the last time; all that is not in use, where
    /// everything was.
    fn make_room<G>(&mut self, shared: &SharedSeries<G>)
    where
        G: SeriesGroup<Labels = K::Labels, Series = S>,
    {
        for _ in 0..2 {
            self.0.retain(|key, cached| {
                let keep = std::mem::take(&mut cached.is_recent) || G::is_in_use(&cached.series);
                if !keep {
                    shared.release(&key.labels());
                }
                keep
            });
            if self.0.len() < LARGEST_CACHE {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A family that shows what it has.
    #[derive(Default)]
    struct Shown(Mutex<HashMap<usize, Arc<()>>>);

    impl SeriesGroup for Shown {
        type Labels = usize;
        type Series = Arc<()>;

        fn get_or_create(&self, labels: &usize) -> Arc<()> {
            Arc::clone(self.0.lock().unwrap().entry(*labels).or_default())
        }

        fn remove(&self, labels: &usize) {
            self.0.lock().unwrap().remove(labels);
        }

        fn is_in_use(series: &Arc<()>) -> bool {
            // The family's and the cache's.
            Arc::strong_count(series) > 2
        }
    }

    fn series(shared: &SharedSeries<Shown>) -> usize {
        shared.families().0.lock().unwrap().len()
    }

    #[test]
    fn a_series_goes_with_the_last_pod_that_used_it() {
        let shared = SharedSeries::<Shown>::default();
        let (mut first, mut second) = (SeriesCache::default(), SeriesCache::default());
        for _ in 0..3 {
            first.get_or_acquire(AllLabels(1), &shared);
            second.get_or_acquire(AllLabels(1), &shared);
        }
        second.get_or_acquire(AllLabels(2), &shared);
        first.release_all(&shared);
        assert_eq!(series(&shared), 2);
        second.release_all(&shared);
        assert_eq!(series(&shared), 0);
        assert!(shared.users.lock().unwrap().is_empty());
    }

    #[test]
    fn what_peers_choose_does_not_fill_the_memory_and_what_is_in_use_stays() {
        let shared = SharedSeries::<Shown>::default();
        let mut cache = SeriesCache::default();
        let held = cache.get_or_acquire(AllLabels(0), &shared);
        for name in 1..5 * LARGEST_CACHE {
            cache.get_or_acquire(AllLabels(name), &shared);
            cache.get_or_acquire(AllLabels(1), &shared);
            assert!(series(&shared) <= LARGEST_CACHE);
        }
        assert!(Arc::ptr_eq(
            &held,
            &cache.get_or_acquire(AllLabels(0), &shared)
        ));
        assert!(shared.families().0.lock().unwrap().contains_key(&1));
    }
}
