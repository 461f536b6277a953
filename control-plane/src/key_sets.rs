//! The public keys of issuers of tokens, from the addresses that RequestAuthentications name. Agents
//! fetch nothing: they get the keys with everything else.
//!
//! * [`fetch`]: one key set, once
//! * [`destination`]: the addresses that this process connects to, whoever asks it to
//!
//! An address has one fetch under way at a time, whoever names it. The last good keys stay in force
//! while fetching fails; before there are any, tokens of their issuer are refused.

mod destination;
mod fetch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::cluster::Cluster;
use crate::index::KeyAddresses;
pub(crate) use fetch::{Fetcher, FetcherOptions, InvalidRoots};

/// Time from one fetch that succeeds to the next.
const REFRESH: Duration = Duration::from_secs(300);
/// Time to the next after one that fails: twice as long each time, up to the longest.
const RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// The most fetches under way: more than the addresses that one namespace has room for, so that
/// servers of one that don't answer hold up nobody else's.
const MOST_FETCHES: usize = 384;
/// The most addresses; what is beyond is not fetched.
const MOST_ADDRESSES: usize = 1024;
/// Time that agents wait at most for the first keys of a control plane that starts.
const FIRST_ROUND: Duration = Duration::from_secs(10);
/// Changes of the mesh that come together are looked at once.
const SETTLE: Duration = Duration::from_millis(200);

/// Keeps the cluster's key sets fresh.
#[derive(Debug)]
pub(crate) struct KeySets {
    cluster: Arc<Cluster>,
    fetcher: Fetcher,
    permits: Semaphore,
}

impl KeySets {
    /// Of a cluster.
    pub(crate) fn new(cluster: Arc<Cluster>, fetcher: Fetcher) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            fetcher,
            permits: Semaphore::new(MOST_FETCHES),
        })
    }

    /// Fetches what is wanted now, so that agents hear of no issuer without keys where those can be
    /// had at once; then keeps all fresh, without end.
    pub(crate) async fn fetch_first(self: &Arc<Self>) {
        let wanted = self.cluster.key_addresses();
        let first = wanted.iter().take(MOST_ADDRESSES);
        let all = join_all(first.map(|address| self.fetch(address)));
        if timeout(FIRST_ROUND, all).await.is_err() {
            tracing::warn!(
                "not all key sets of issuers were fetched: tokens of the rest are refused"
            );
        }
        tokio::spawn(Arc::clone(self).keep(wanted));
    }

    /// Fetches each address that is wanted again and again; those at first have just been.
    async fn keep(self: Arc<Self>, at_first: KeyAddresses) {
        let mut running = HashMap::<Arc<str>, AbortHandle>::new();
        let mut changes = self.cluster.revision();
        loop {
            let wanted = self.cluster.key_addresses();
            running.retain(|address, task| {
                let is_wanted = wanted.contains(address);
                if !is_wanted {
                    task.abort();
                }
                is_wanted
            });
            for address in wanted {
                if running.contains_key(&address) {
                    continue;
                }
                if running.len() >= MOST_ADDRESSES {
                    let message = format!("more than {MOST_ADDRESSES} addresses of keys are named");
                    self.cluster.set_keys(&address, Err(message));
                    continue;
                }
                let is_fresh = at_first.contains(&address);
                let task = Arc::clone(&self).keep_one(Arc::clone(&address), is_fresh);
                running.insert(address, tokio::spawn(task).abort_handle());
            }
            if changes.changed().await.is_err() {
                return;
            }
            sleep(SETTLE).await;
        }
    }

    async fn keep_one(self: Arc<Self>, address: Arc<str>, is_fresh: bool) {
        let mut retry = RETRY;
        if is_fresh {
            // It may have failed then.
            sleep(retry).await;
        }
        loop {
            let wait = match self.fetch(&address).await {
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
            sleep(wait).await;
        }
    }

    /// Fetches the keys of an address; whether that succeeded.
    async fn fetch(&self, address: &Arc<str>) -> bool {
        let Ok(_permit) = self.permits.acquire().await else {
            return false;
        };
        let fetched = self.fetcher.fetch(address).await;
        let succeeded = fetched.is_ok();
        if let Err(error) = &fetched {
            tracing::warn!(%address, %error, "the keys of an issuer can't be fetched; the last good ones stay");
        }
        let fetched = fetched.map_err(|error| error.to_string());
        self.cluster.set_keys(address, fetched);
        succeeded
    }
}

#[cfg(test)]
mod tests;
