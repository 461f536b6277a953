//! The public keys of issuers of tokens, from the addresses that RequestAuthentications name. Agents
//! fetch nothing: they get the keys with everything else.
//!
//! * [`fetch`]: one key set, once
//! * [`destination`]: the addresses that this process connects to, whoever asks it to
//! * [`shares`]: whose turn it is
//!
//! A source has one fetch under way at a time, whoever names it. The last good keys stay in force
//! while fetching fails; before there are any, agents keep those that they have.

mod destination;
mod fetch;
mod shares;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::shares::{Shares, in_turns};
use crate::cluster::Cluster;
use crate::index::KeySources;
use crate::kinds::KeySource;
pub(crate) use fetch::{Fetcher, FetcherOptions, InvalidRoots};

/// Time from one fetch that succeeds to the next.
const REFRESH: Duration = Duration::from_secs(300);
/// Time to the next after one that fails: twice as long each time, up to the longest.
const RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Shortest time from one fetch to the next where tokens name keys that are not known.
const SOONEST: Duration = Duration::from_secs(15);
/// The most sources; what is beyond is not fetched.
const MOST_SOURCES: usize = 1024;
/// The most sources that one message of an agent asks for.
const MOST_REQUESTED: usize = 64;
/// Time that agents wait at most for the first keys of a control plane that starts.
const FIRST_ROUND: Duration = Duration::from_secs(10);
/// Changes of the mesh that come together are looked at once.
const SETTLE: Duration = Duration::from_millis(200);

/// Keeps the cluster's key sets fresh.
#[derive(Debug)]
pub(crate) struct KeySets {
    cluster: Arc<Cluster>,
    fetcher: Fetcher,
    shares: Shares,
    soonest: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    wanted: Arc<KeySources>,
    running: HashMap<KeySource, Running>,
    /// What is not fetched, as too much is named.
    beyond: HashSet<KeySource>,
}

/// A source that is fetched again and again.
#[derive(Debug)]
struct Running {
    task: AbortHandle,
    /// Somebody asks for keys that it may have by now.
    requested: Arc<Notify>,
}

/// To be dropped once a source was asked for the first time.
type FirstAttempt = Option<mpsc::Sender<()>>;

impl KeySets {
    /// Of a cluster.
    pub(crate) fn new(cluster: Arc<Cluster>, fetcher: Fetcher) -> Arc<Self> {
        Arc::new(Self::refetching(cluster, fetcher, SOONEST))
    }

    fn refetching(cluster: Arc<Cluster>, fetcher: Fetcher, soonest: Duration) -> Self {
        Self {
            cluster,
            fetcher,
            shares: Shares::default(),
            soonest,
            state: Mutex::default(),
        }
    }

    /// Fetches what is wanted now, so that agents hear of no issuer without keys where those can be
    /// had at once; keeps all fresh, without end.
    pub(crate) async fn fetch_first(self: &Arc<Self>) {
        let changes = self.cluster.revision();
        let (attempt, mut attempts) = mpsc::channel(1);
        self.follow(&Some(attempt));
        // It ends when each source has dropped its own.
        if timeout(FIRST_ROUND, attempts.recv()).await.is_err() {
            tracing::warn!(
                "not all key sets of issuers were fetched: agents keep those that they have, and \
                 refuse tokens of the rest for now"
            );
        }
        tokio::spawn(Arc::clone(self).keep(changes));
    }

    /// Tokens name keys that agents haven't got. Their sources, by the names that agents know, are
    /// asked sooner than they would be.
    pub(crate) fn request(&self, names: &[String]) {
        let state = self.lock();
        let named = names.iter().take(MOST_REQUESTED);
        for running in named.filter_map(|name| state.running.get(&KeySource::of_name(name))) {
            running.requested.notify_one();
        }
    }

    /// Follows what is wanted.
    async fn keep(self: Arc<Self>, mut changes: watch::Receiver<u64>) {
        loop {
            self.follow(&None);
            if changes.changed().await.is_err() {
                return;
            }
            sleep(SETTLE).await;
        }
    }

    /// Begins with sources that are new, and ends with those that nobody wants.
    fn follow(self: &Arc<Self>, first: &FirstAttempt) {
        let wanted = Arc::new(self.cluster.key_sources());
        let turns = in_turns(&wanted);
        let (within, beyond) = turns.split_at(turns.len().min(MOST_SOURCES));
        self.leave_out(beyond.iter().cloned().collect());
        let counted: HashSet<_> = within.iter().collect();
        let mut state = self.lock();
        state.wanted = wanted;
        state.running.retain(|source, running| {
            let is_wanted = counted.contains(source);
            if !is_wanted {
                running.task.abort();
            }
            is_wanted
        });
        self.shares.forget_unused();
        for source in within {
            if state.running.contains_key(source) {
                continue;
            }
            let requested = Arc::<Notify>::default();
            let task =
                Arc::clone(self).keep_one(source.clone(), Arc::clone(&requested), first.clone());
            let task = tokio::spawn(task).abort_handle();
            let running = Running { task, requested };
            state.running.insert(source.clone(), running);
        }
    }

    /// Says of sources that they aren't fetched, once: for each all that is wanted is looked through.
    fn leave_out(&self, beyond: HashSet<KeySource>) {
        let before = std::mem::replace(&mut self.lock().beyond, beyond.clone());
        for source in beyond.difference(&before) {
            let message = format!("more than {MOST_SOURCES} sources of keys are named");
            self.cluster.set_keys(source, Err(message));
        }
    }

    async fn keep_one(
        self: Arc<Self>,
        source: KeySource,
        requested: Arc<Notify>,
        first: FirstAttempt,
    ) {
        let mut retry = RETRY;
        let mut succeeded = self.fetch(&source).await;
        drop(first);
        loop {
            let wait = match succeeded {
                true => {
                    retry = RETRY;
                    REFRESH
                }
                false => {
                    let wait = retry;
                    retry = (retry * 2).min(LONGEST_RETRY);
                    wait
                }
            };
            let fetched = Instant::now();
            tokio::select! {
                () = sleep(wait) => {}
                () = requested.notified() => sleep_until(fetched + wait.min(self.soonest)).await,
            }
            succeeded = self.fetch(&source).await;
        }
    }

    /// Fetches the keys of a source; whether that succeeded.
    async fn fetch(&self, source: &KeySource) -> bool {
        let wanted = Arc::clone(&self.lock().wanted);
        let Some(namespaces) = wanted.get(source) else {
            return false;
        };
        let Some(_share) = self.shares.take(source, namespaces).await else {
            return false;
        };
        let fetched = self.fetcher.fetch(source).await;
        let succeeded = fetched.is_ok();
        if let Err(error) = &fetched {
            tracing::warn!(%source, %error, "the keys of an issuer can't be fetched; the last good ones stay");
        }
        let fetched = fetched.map_err(|error| error.to_string());
        self.cluster.set_keys(source, fetched);
        succeeded
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
