//! Whose turn it is: servers of one namespace that don't answer hold up nobody else's keys.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::select_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::index::KeySources;
use crate::kinds::KeySource;

/// The most fetches under way, of all namespaces together.
const MOST_FETCHES: usize = 384;
/// Of one namespace.
pub(super) const MOST_OF_NAMESPACE: usize = 8;
/// Of one namespace at one host.
pub(super) const MOST_OF_HOST: usize = 4;

/// A namespace, or a namespace at one host.
type Sharer = (Arc<str>, Option<String>);

/// The fetches that may be under way.
#[derive(Debug)]
pub(super) struct Shares {
    all: Arc<Semaphore>,
    /// Those of a namespace, and those of it at one host.
    own: Mutex<HashMap<Sharer, Arc<Semaphore>>>,
}

/// Leave to fetch, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    _own: [OwnedSemaphorePermit; 2],
    _all: OwnedSemaphorePermit,
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(MOST_FETCHES)),
            own: Mutex::default(),
        }
    }
}

impl Shares {
    /// Waits for leave to fetch from a source; it counts for that namespace of those that ask for it
    /// whose turn comes first. `None` where nobody asks for it.
    pub(super) async fn take(
        &self,
        source: &KeySource,
        namespaces: &BTreeSet<Arc<str>>,
    ) -> Option<Share> {
        let host = source.host();
        let each = namespaces.iter().map(|namespace| {
            let of_host = self.own(namespace, Some(host.clone()), MOST_OF_HOST);
            let of_namespace = self.own(namespace, None, MOST_OF_NAMESPACE);
            Box::pin(async move {
                let of_host = of_host.acquire_owned().await.ok()?;
                Some([of_host, of_namespace.acquire_owned().await.ok()?])
            })
        });
        let each: Vec<_> = each.collect();
        if each.is_empty() {
            return None;
        }
        let (own, ..) = select_all(each).await;
        Some(Share {
            _own: own?,
            _all: Arc::clone(&self.all).acquire_owned().await.ok()?,
        })
    }

    /// Forgets whom nobody is waiting or fetching for.
    pub(super) fn forget_unused(&self) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.retain(|_, share| Arc::strong_count(share) > 1);
    }

    fn own(&self, namespace: &Arc<str>, host: Option<String>, most: usize) -> Arc<Semaphore> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let share = own.entry((Arc::clone(namespace), host));
        let share = share.or_insert_with(|| Arc::new(Semaphore::new(most)));
        Arc::clone(share)
    }
}

/// All sources, so that each namespace has one among the first, a second among those behind, and so
/// on: however many are taken, nobody's many are ahead of another's first.
pub(super) fn in_turns(wanted: &KeySources) -> Vec<KeySource> {
    let mut by_namespace = BTreeMap::<&Arc<str>, Vec<&KeySource>>::new();
    for (source, namespaces) in wanted {
        for namespace in namespaces {
            by_namespace.entry(namespace).or_default().push(source);
        }
    }
    let longest = by_namespace.values().map(Vec::len).max();
    let mut seen = BTreeSet::new();
    let turns = (0..longest.unwrap_or_default()).flat_map(|turn| {
        let each = by_namespace.values();
        each.filter_map(move |sources| sources.get(turn).copied())
    });
    turns
        .filter(|source| seen.insert(*source))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str) -> KeySource {
        KeySource::Address(format!("https://{name}.example/keys").into())
    }

    #[test]
    fn nobodys_many_sources_are_ahead_of_anothers_first() {
        let mut wanted = KeySources::new();
        let mut ask = |name: &str, namespace: &str| {
            let namespaces = wanted.entry(source(name)).or_default();
            namespaces.insert(Arc::from(namespace));
        };
        for number in 0..1000 {
            ask(&format!("a{number}"), "many");
        }
        ask("x", "one");
        ask("y", "one");
        ask("z", "other");
        // Whoever names another's source as well takes no turn from it.
        ask("x", "many");
        let turns = in_turns(&wanted);
        assert_eq!(turns.len(), 1003);
        let place = |name: &str| turns.iter().position(|turn| *turn == source(name));
        assert!(place("x") <= Some(2) && place("z") <= Some(2));
        assert!(place("y") <= Some(5));
    }

    #[tokio::test]
    async fn a_source_waits_for_nobody_but_its_own_namespaces() {
        let shares = Shares::default();
        let of = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
        let mut held = Vec::new();
        for number in 0..MOST_OF_NAMESPACE {
            let source = source(&format!("slow{number}"));
            held.push(shares.take(&source, &of(&["bad"])).await.unwrap());
        }
        let wanted = source("wanted");
        let both = of(&["bad", "good"]);
        let share = shares.take(&wanted, &both).await;
        assert!(share.is_some());
        let bad = of(&["bad"]);
        let waiting = shares.take(&wanted, &bad);
        tokio::pin!(waiting);
        let is_ready =
            |future: std::pin::Pin<&mut _>| futures_util::FutureExt::now_or_never(future).is_some();
        assert!(!is_ready(waiting.as_mut()));
        held.pop();
        assert!(waiting.await.is_some());
        assert!(shares.take(&wanted, &BTreeSet::new()).await.is_none());
        drop((held, share));
        shares.forget_unused();
        assert!(shares.own.lock().unwrap().is_empty());
    }
}
