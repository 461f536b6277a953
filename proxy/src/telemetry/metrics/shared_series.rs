//! Series that come with the first pod that uses them and go with the last.
//!
//! Most labels name a workload (a Deployment, say) and not the pod, so that several pods
//! of a node count in the same series. A pod remembers which it uses; how many pods use
//! each is counted here.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::budget::{Account, SeriesBudget};

/// Series of one kind, and how many pods use each. `S` is a handle to the metrics that one
/// set of labels has; all of them have the labels once.
pub(super) struct SharedSeries<L, S>(Arc<Mutex<HashMap<Arc<L>, Shared<S>>>>);

struct Shared<S> {
    series: S,
    users: usize,
}

impl<L, S> Default for SharedSeries<L, S> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<L, S> Clone for SharedSeries<L, S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L, S> fmt::Debug for SharedSeries<L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSeries").finish_non_exhaustive()
    }
}

impl<L: Eq + Hash, S: Clone + Default> SharedSeries<L, S> {
    /// Series that one more user has from now on.
    pub(super) fn acquire(&self, labels: L) -> S {
        let mut all = self.lock();
        let shared = all.entry(Arc::new(labels)).or_insert_with(|| Shared {
            series: S::default(),
            users: 0,
        });
        shared.users += 1;
        shared.series.clone()
    }

    /// A user has no use for these series any more; they go with their last.
    pub(super) fn release(&self, labels: &L) {
        let mut all = self.lock();
        match all.get_mut(labels) {
            Some(shared) if shared.users > 1 => shared.users -= 1,
            _ => {
                all.remove(labels);
            }
        }
    }

    /// One metric of each set of labels, to register it.
    pub(super) fn view<M>(&self, metric: fn(&S) -> &M) -> SeriesView<L, S, M> {
        SeriesView {
            series: self.clone(),
            metric,
        }
    }

    /// Writes one metric of each set of labels. The writer may have to wait for its reader:
    /// nothing is locked meanwhile.
    pub(super) fn encode<M: EncodeMetric>(
        &self,
        metric: fn(&S) -> &M,
        encoder: &mut MetricEncoder<'_>,
    ) -> fmt::Result
    where
        L: EncodeLabelSet,
    {
        let all: Vec<_> = {
            let all = self.lock();
            let handles = all.iter();
            handles
                .map(|(labels, shared)| (Arc::clone(labels), shared.series.clone()))
                .collect()
        };
        for (labels, series) in all {
            metric(&series).encode(encoder.encode_family(&*labels)?)?;
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<L>, Shared<S>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One metric of each set of labels.
pub(super) struct SeriesView<L, S, M> {
    series: SharedSeries<L, S>,
    metric: fn(&S) -> &M,
}

impl<L, S, M> fmt::Debug for SeriesView<L, S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeriesView").finish_non_exhaustive()
    }
}

impl<L, S, M> EncodeMetric for SeriesView<L, S, M>
where
    L: EncodeLabelSet + Eq + Hash,
    S: Clone + Default,
    M: EncodeMetric + TypedMetric,
{
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.series.encode(self.metric, &mut encoder)
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }

    fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

/// What tells two series of one pod apart: less than all their labels, and quick to
/// compare.
pub(super) trait SeriesKey: Eq + Hash {
    /// The labels that follow from it.
    type Labels: Clone + Eq + Hash;

    /// The labels that follow from it, always the same.
    fn labels(&self) -> Self::Labels;

    /// On whose account its series are; `None` where there are only few of the kind.
    fn account(&self) -> Option<Account>;

    /// The labels of the series that counts instead once that account is full. There are
    /// few of them, whatever the keys are.
    fn overflow_labels(&self) -> Self::Labels;
}

/// The series of one kind that one pod uses.
#[derive(Debug)]
pub(super) struct SeriesCache<K: SeriesKey, S> {
    used: HashMap<K, Cached<S>>,
    /// Those that count for what the account has no place for.
    overflow: HashMap<K::Labels, Arc<S>>,
}

#[derive(Debug)]
struct Cached<S> {
    series: Arc<S>,
    /// It was used since the last sweep.
    is_recent: bool,
}

impl<K: SeriesKey, S> Default for SeriesCache<K, S> {
    fn default() -> Self {
        Self {
            used: HashMap::new(),
            overflow: HashMap::new(),
        }
    }
}

impl<K: SeriesKey, S: Clone + Default> SeriesCache<K, S> {
    /// The series of that key, which the pod uses from now on; those of the overflow where
    /// its account is full.
    pub(super) fn get_or_acquire(
        &mut self,
        key: K,
        budget: &mut SeriesBudget,
        shared: &SharedSeries<K::Labels, S>,
    ) -> Arc<S> {
        if let Some(cached) = self.used.get_mut(&key) {
            cached.is_recent = true;
            return Arc::clone(&cached.series);
        }
        if key.account().is_some_and(|account| !budget.charge(account)) {
            let labels = key.overflow_labels();
            let acquire = || Arc::new(shared.acquire(labels.clone()));
            let series = self.overflow.entry(labels.clone()).or_insert_with(acquire);
            return Arc::clone(series);
        }
        let series = Arc::new(shared.acquire(key.labels()));
        let cached = Cached {
            series: Arc::clone(&series),
            is_recent: true,
        };
        self.used.insert(key, cached);
        series
    }

    /// The pod uses none of its series any more.
    pub(super) fn release_all(self, shared: &SharedSeries<K::Labels, S>) {
        let labels = self.used.keys().map(SeriesKey::labels);
        for labels in labels.chain(self.overflow.into_keys()) {
            shared.release(&labels);
        }
    }

    /// Drops what was not used since the last sweep.
    pub(super) fn sweep(&mut self, budget: &mut SeriesBudget, shared: &SharedSeries<K::Labels, S>) {
        self.used.retain(|key, cached| {
            // Somebody who holds the series counts in it.
            let is_held = Arc::strong_count(&cached.series) > 1;
            let keep = std::mem::take(&mut cached.is_recent) || is_held;
            if !keep {
                shared.release(&key.labels());
                if let Some(account) = key.account() {
                    budget.give_back(&account);
                }
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests;
