//! Keys of issuers that tokens name and nobody has told of: the control plane may have to fetch them.
//!
//! Whoever may send a request can name a key that there is none of, as often as it likes: a source
//! is asked for once in a while, whatever comes.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::sync::lock;

/// Time between two requests for the keys of a source.
const INTERVAL: Duration = Duration::from_secs(15);
/// The most sources that are remembered; as many as the control plane fetches.
const MOST_SOURCES: usize = 1024;
/// The most sources of one request.
pub(crate) const MOST_AT_ONCE: usize = 64;

/// The sources of keys that the control plane is to be asked for.
#[derive(Debug, Default)]
pub(crate) struct KeyRequests {
    table: Mutex<Table>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Table {
    asked: HashMap<Arc<str>, Instant>,
    waiting: BTreeSet<Arc<str>>,
}

impl KeyRequests {
    /// Asks for the keys of a source, unless it was asked for just now.
    pub(crate) fn request(&self, source: &Arc<str>, now: Instant) {
        let mut table = lock(&self.table);
        let is_recent = |asked: &Instant| now.saturating_duration_since(*asked) < INTERVAL;
        if table.asked.get(source).is_some_and(is_recent) {
            return;
        }
        if table.asked.len() >= MOST_SOURCES {
            table.asked.retain(|_, asked| is_recent(asked));
            if table.asked.len() >= MOST_SOURCES {
                return;
            }
        }
        table.asked.insert(Arc::clone(source), now);
        table.waiting.insert(Arc::clone(source));
        drop(table);
        self.added.notify_one();
    }

    /// Waits until some are to be asked for, and gives them.
    pub(crate) async fn next(&self) -> Vec<Arc<str>> {
        loop {
            let some = self.take();
            if !some.is_empty() {
                return some;
            }
            self.added.notified().await;
        }
    }

    fn take(&self) -> Vec<Arc<str>> {
        let mut table = lock(&self.table);
        let first = std::iter::from_fn(|| table.waiting.pop_first());
        first.take(MOST_AT_ONCE).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_of_unknown_keys_asks_once_in_a_while() {
        let (requests, now) = (KeyRequests::default(), Instant::now());
        let [one, two] = ["one", "two"].map(Arc::<str>::from);
        for _ in 0..10_000 {
            requests.request(&one, now);
        }
        requests.request(&two, now);
        assert_eq!(requests.next().await, [one.clone(), two]);
        requests.request(&one, now + INTERVAL / 2);
        assert!(requests.take().is_empty());
        requests.request(&one, now + INTERVAL);
        assert_eq!(requests.next().await, [one]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (requests, now) = (KeyRequests::default(), Instant::now());
        let ask = |from: usize, now| {
            for number in from..from + 2 * MOST_SOURCES {
                requests.request(&number.to_string().into(), now);
            }
        };
        ask(0, now);
        assert_eq!(lock(&requests.table).asked.len(), MOST_SOURCES);
        assert_eq!(lock(&requests.table).waiting.len(), MOST_SOURCES);
        assert_eq!(requests.take().len(), MOST_AT_ONCE);
        ask(1_000_000, now + INTERVAL);
        assert_eq!(lock(&requests.table).asked.len(), MOST_SOURCES);
    }
}
