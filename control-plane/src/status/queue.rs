//! Objects whose status may have to be written. It knows neither the objects nor who
//! writes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Objects that wait, each once however often it changes; the latest value counts. They
/// wait until somebody takes them, such as who holds the lease.
#[derive(Debug)]
pub(crate) struct StatusQueue<K, V = ()> {
    waiting: Mutex<BTreeMap<K, V>>,
    more: Notify,
}

impl<K, V> Default for StatusQueue<K, V> {
    fn default() -> Self {
        Self {
            waiting: Mutex::new(BTreeMap::new()),
            more: Notify::new(),
        }
    }
}

impl<K: Ord + Clone, V> StatusQueue<K, V> {
    /// The status of an object may have to be written.
    pub(crate) fn push(&self, object: K, value: V) {
        self.lock().insert(object, value);
        self.more.notify_one();
    }

    /// It could not be written: it waits again, unless there is something newer.
    pub(super) fn push_again(&self, object: K, value: V) {
        self.lock().entry(object).or_insert(value);
        self.more.notify_one();
    }

    /// The status of an object needs no writing any more.
    pub(crate) fn forget(&self, object: &K) {
        self.lock().remove(object);
    }

    /// The first object that may be written now; it waits no more.
    pub(crate) fn pop(&self, may_be_written: impl Fn(&K) -> bool) -> Option<(K, V)> {
        let mut waiting = self.lock();
        let object = waiting
            .keys()
            .find(|object| may_be_written(object))?
            .clone();
        waiting.remove_entry(&object)
    }

    /// Completes when there is one more, also if that was while nobody waited here.
    pub(super) async fn pushed(&self) {
        self.more.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<K, V>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all<V>(queue: &StatusQueue<&'static str, V>) -> Vec<(&'static str, V)> {
        std::iter::from_fn(|| queue.pop(|_| true)).collect()
    }

    #[test]
    fn an_object_waits_once_with_its_latest_value_until_it_is_taken_or_forgotten() {
        let queue = StatusQueue::default();
        for (object, value) in [("a", 1), ("b", 1), ("c", 1), ("a", 2)] {
            queue.push(object, value);
        }
        queue.forget(&"b");
        assert_eq!(all(&queue), [("a", 2), ("c", 1)]);
        assert_eq!(all(&queue), []);
    }

    #[test]
    fn what_failed_does_not_replace_what_is_newer() {
        let queue = StatusQueue::default();
        queue.push_again("a", 1);
        queue.push("b", 2);
        queue.push_again("b", 1);
        assert_eq!(all(&queue), [("a", 1), ("b", 2)]);
    }

    #[test]
    fn one_that_may_not_be_written_lets_the_next_pass() {
        let queue = StatusQueue::default();
        queue.push("a", ());
        queue.push("b", ());
        assert_eq!(queue.pop(|object| *object != "a"), Some(("b", ())));
        assert_eq!(queue.pop(|object| *object != "a"), None);
        assert_eq!(all(&queue), [("a", ())]);
    }
}
